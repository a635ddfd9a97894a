"""What the paper published, as figures to set beside a user's own, and where those figures disagree."""
