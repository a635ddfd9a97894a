"""What is remembered: the ledger, its mirror in Optuna and the files of trials; knows no torch."""
