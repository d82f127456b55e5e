"""Widgets for JupyterLab: walk through a generator's faces or its latent spaces, edit an inversion, watch it.

The only room that imports ipywidgets and anywidget. What a widget computes lies apart from how it looks:
``models`` maps a frozen state to codes, an image and the lines of code that make it again.
"""

from latentlab.widgets.editor import Editor, edit
from latentlab.widgets.explorer import Explorer, explore
from latentlab.widgets.scrubber import Scrubber, scrub
from latentlab.widgets.spaces import Spaces, spaces

__all__ = ["Editor", "Explorer", "Scrubber", "Spaces", "edit", "explore", "scrub", "spaces"]
