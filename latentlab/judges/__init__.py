"""Networks that only judge: never used in training or optimisation."""
