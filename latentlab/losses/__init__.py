"""Networks that training and optimisation use; they never judge."""
