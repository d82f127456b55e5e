"""Edits: states and what moves them, directions of attributes, interpolation and style mixing."""
