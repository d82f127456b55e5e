"""Training: one loop, what it trains, and the recipes of what is shipped."""
