"""State dicts of other StyleGAN2 implementations, renamed to ours and back: pure functions."""

from . import nvlabs, rosinality

__all__ = ["nvlabs", "rosinality"]
