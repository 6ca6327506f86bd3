"""A search for hyperparameters: the study behind `scripts/tune.py` (docs/tuning.md)."""
