"""Training: one loop, what it trains (the generator, the networks that read faces), and the recipes of what is shipped."""
