"""Training: one loop, the trainings that run through it, and the recipes of what is shipped."""
