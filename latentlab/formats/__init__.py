"""Files and state dicts of other implementations, read as data and renamed to ours and back."""

from . import nvlabs, rosinality

__all__ = ["nvlabs", "rosinality"]
