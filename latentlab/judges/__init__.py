"""Networks for evaluation. They are never used for training or optimisation."""
