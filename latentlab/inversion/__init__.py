"""Inversion by optimisation: what it returns, the shared descent, one file a method."""
