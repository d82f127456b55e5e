"""Encoders: networks that map images to codes, and what they are trained with."""
