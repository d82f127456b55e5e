"""Networks for training and optimisation. They are never used for evaluation."""
