"""Alembic migrations of our tables; Optuna looks after its own."""
