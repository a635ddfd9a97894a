"""One training job, from pixels to scores; knows no SQL and no Optuna."""
