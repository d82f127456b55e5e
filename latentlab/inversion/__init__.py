"""Inversion by optimisation: the result, the shared descent, and one file per method."""
