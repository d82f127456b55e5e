"""Widgets for JupyterLab: explore a generator's faces or its latent spaces, find and compare edits, edit an inversion,
replay its descent, move between two inversions, see what two branches do.

This is the only package that imports ipywidgets and anywidget. What a widget computes is separate from how it looks:
``selections`` maps the state of the controls to codes, an image and the code that reproduces it.
"""

from latentlab.widgets.blender import Blender, blend
from latentlab.widgets.comparer import Comparer, compare
from latentlab.widgets.editor import Editor, edit
from latentlab.widgets.explorer import Explorer, explore
from latentlab.widgets.finder import Finder, find
from latentlab.widgets.refiner import Refiner, refine
from latentlab.widgets.scrubber import Scrubber, scrub
from latentlab.widgets.spaces import Spaces, spaces

__all__ = [
    "Blender", "Comparer", "Editor", "Explorer", "Finder", "Refiner", "Scrubber", "Spaces", "blend", "compare", "edit",
    "explore", "find", "refine", "scrub", "spaces",
]  # fmt: skip
