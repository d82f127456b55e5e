"""Metrics of inversions and edits: pure functions of images, features, codes or attribute readings."""

from latentlab.metrics.codes import (
    code_distance,
    code_variation,
    lec,
    sncd,
    sncd_error,
    sncd_of_codes,
    sncd_references,
)
from latentlab.metrics.distributions import feature_moments, fid, kid, kolmogorov_smirnov, swd
from latentlab.metrics.edits import (
    attribute_leakage,
    edit_distance,
    edit_error,
    edit_gain,
    matched_strength,
    switch_target,
    yardsticks,
)
from latentlab.metrics.fidelity import mse, psnr, rmse, ssim
from latentlab.metrics.retrieval import Retrieval, retrieval, retrieved
from latentlab.metrics.verification import verification
from latentlab.priors import pn_norm
