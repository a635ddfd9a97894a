"""optuna-dashboard behind a gateway: who may see it, what it may change, and the study's figures inside it."""
