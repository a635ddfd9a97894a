"""What to try, who tries it, and what came of it."""
