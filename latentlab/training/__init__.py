"""Training: of the generator, of the networks that read faces, and the recipes of what is shipped."""
