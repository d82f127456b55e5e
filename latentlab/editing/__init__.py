"""Edits: states and what changes them, ways to find edits (one file each), interpolation and style mixing."""
