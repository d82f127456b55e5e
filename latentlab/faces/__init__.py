"""The face world: faces rendered from known factors, so that the truth of every edit is known."""

from latentlab.faces.details import DETAILS, Details, draw_details
from latentlab.faces.factors import BINARY_NAMES, IDENTITY, MAIN_NAMES, NAMES, TABLE, Factor, Factors
from latentlab.faces.renderer import PARTS, render
from latentlab.faces.sampling import CORRELATIONS, factor_std, in_other_states, sample_factors
from latentlab.faces.sets import FaceSet, plain_faces, real_set, training_details, training_factors, training_states
from latentlab.faces.sketch import sketch

__all__ = [
    "BINARY_NAMES", "CORRELATIONS", "DETAILS", "IDENTITY", "MAIN_NAMES", "NAMES", "PARTS", "TABLE", "Details",
    "Factor", "Factors", "FaceSet", "draw_details", "factor_std", "in_other_states", "plain_faces", "real_set",
    "render", "sample_factors", "sketch", "training_details", "training_factors", "training_states",
]  # fmt: skip
