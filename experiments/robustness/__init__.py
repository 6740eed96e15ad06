"""Each defence against each attack (python -m experiments.robustness)."""
