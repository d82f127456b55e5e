"""What the numbers of each claim are, in words that stand beside a record when it is shown."""

from collections.abc import Mapping

from latentlab.claims.rules import LEC_LINES

# Of names in all claims.
COMMON = (
    "Names of numbers begin with the faces that they belong to, `clean_..` or `strange_..`. `coarse_..` is the same "
    "number with PN's floor at 1e-2 instead of 1e-4 of its largest eigenvalue. `.._a_to_b` is a change from one "
    "setting to the next. Differences are means over faces, ratios geometric means. Total error: the distance of an "
    "edit's change from the true change, by the length of the true change (0: the truth, 1: no edit)."
)
_BRANCHES = (
    "The later row of the ablation minus the row before, for the training seeds `11` and `12`: {}. `.._matched`: share "
    "of the edits, where a face has room for them, that both runs can make. `later_..`: the later row's own numbers."
)
_DETAIL = _BRANCHES.format("`identity` and total `error` of the edits, `perceptual` distance of the inversion")
_SPACES = "`psnr` in dB, `perceptual` distance, `identity` similarity"

# In plain words; names that differ only in a factor, a task or a setting are given once.
NUMBERS: Mapping[str, str] = {
    "II2S-1": "`w_median`, `p_median`: median over the dimensions of |skewness| in W and in P; `.._spread`: "
              "interquartile range; `ratio`: `w_median` divided by `p_median`. `normal_..`: the same of samples that "
              "are normal in P; `untrained_..`: of generators before training, also with 2 and 8 mapping layers.",
    "II2S-2": "Share of the sets that a test rejects at 5 %: `mardia_skewness`, `mardia_kurtosis`; `axes`, the "
              "principal axes one by one; `henze_zirkler_16`, the first 16 of them together. `normal_..`: the same of "
              "normal samples. `.._512`: tests by the textbook of normal samples and of Student's t (`t3`) in 512 "
              "dimensions; `henze_zirkler_all_..`: in all dimensions of P.",
    "II2S-3": "`p_passing`: share of the principal axes of P that pass as normal; `p_distance`: Kolmogorov-Smirnov "
              "distance of the median axis from a normal; `p_dip_least_q`: the smallest q-value of the dip test over "
              "the axes; `two_modes_dip_p`: its p-value on a mixture with two modes. `w_..`, `normal_..`, "
              "`uniform_..`: the same of W and of samples.",
    "II2S-4": "`mean_p`, `variance_p`, `correlation_p`: p-values, Bonferroni-corrected, of a deviation from mean 0, "
              "variance 1 and correlation 0; `variance_error`, `correlation_max`: the largest deviation; `norm_error`: "
              "largest relative difference between |v|^2 and Mahalanobis' squared distance; `pn_norm`: mean |v|^2 / D.",
    "II2S-5": "`judge_..`, `losses_..`: on features of the attribute judge and of the losses' network. `.._fid_x`: FID "
              "of a sampler to renders; `.._x_ratio`: that FID divided by the mapping network's. Samplers: `pn`, "
              "N(0, I) in PN; `w`, a normal fitted in W; `w_diagonal`, the same without correlations. `.._halves`: FID "
              "of two halves of one set; `.._to_mapping`: of a sampler to the mapping network's pictures.",
    "II2S-6": "`.._free`: without regulariser; `.._0.001`, `.._0.005`: with that lambda. `pn_norm`: mean squared "
              "coordinate in PN+; `growth`: that at the end divided by that after half of the steps; `pn_norm_ratio`: "
              "without divided by with the regulariser; `psnr_gain` (dB), `perceptual_gain`: what is gained without "
              "it; `late_gain`: PSNR gained in the last half of the steps. `own_..`: on the generator's own pictures.",
    "II2S-7": "`psnr_a_to_b`: PSNR at lambda b minus that at lambda a, dB; `pn_norm_a_to_b`: pn_norm at b divided by "
              "that at a (below 1: denser). `psnr_a`, `pn_norm_a`: the numbers themselves.",
    "II2S-8": "`i2s_by_x`: variance of the coordinates of I2S's code in PN+ divided by that of x's code, face by face. "
              "`variance_..`: these variances (about 1 for the generator's own codes).",
    "II2S-9": "II2S minus I2S, face by face: `error`: total error of the edit; `identity`: similarity of the edited "
              "picture and the given face; `gain`, `residual`, `leakage`: see the glossary. `matched_..`: share of the "
              "faces on which some strength reads as the truth does; `i2s_.._error`: I2S's own total error.",
    "II2S-10": "II2S divided by I2S: `hidden`: squared error of what was hidden (the colour, half of the picture, the "
               "detail below 8 x 8 px); `realism`: distance from renders on the attribute judge's features; "
               "`known_..`: squared error of what was shown. `perceptual`, `identity`: the judges' distances to the "
               "whole face, II2S minus I2S. `truth_..`: realism of the given faces.",
    "II2S-11": "KID to renders (small: alike), II2S minus I2S: of style mixes (`mixing`) and of points on the lines "
               "between two codes in PN+ and W+ (`pn_interpolation`, `w_interpolation`). `kid_..`: the KIDs.",
    "II2S-12": "PSNR in W+ minus PSNR in Z+, dB: `gain`: at equal steps; `gain_twice_the_steps`: Z+ has twice as many; "
               "`gain_random_start`: W+ starts at random, too. `psnr_w`, `psnr_z`: the PSNRs.",
    "II2S-13": "`pulse_32_by_ii2s_x`: mean distance between two runs of PULSE on one face divided by that between two "
               "runs of II2S; x: `identity`, `perceptual` distance or `pixels`. PULSE compares at 32 px or at 8 "
               "(`pulse_8`). `pulse_32_x`, `ii2s_x`: these distances, by that between two people.",
    "E4E-1": "D minus A, face by face: `mse`, `perceptual` distance, `psnr_db`. `a_..`, `d_..`: each encoder's own.",
    "E4E-2": "A's divided by D's: `variation`, distance of a code from its mean over layers; `visible_variation`, the "
             "part of it that the layers' affine maps can see. `a_..`, `d_..`: each encoder's own.",
    "E4E-3": "`deviation`: A's |E(G(w)) - w| divided by D's. `a_..`, `d_..`: each encoder's own; "
             "`constant_deviation`: that of an encoder that always returns the mean of W.",
    "E4E-4": f"{', '.join(f'`{name}`' for name in LEC_LINES)}: A's LEC for an edit of that factor divided by D's; "
             "`.._constant`: LEC of an encoder that always returns the same code divided by D's (below 1: it beats D). "
             "`a_..`, `d_..`: each encoder's own LEC.",
    "E4E-5": "`psnr_a_to_b` (dB), `error_a_to_b` (total error): at point b of the line minus at point a; point 0 is "
             "D's code, 1 is A's. `at_..`: the numbers at each point.",
    "E4E-6": "`error_x`: total error of the edits of configuration x minus that of D's; `lec_x`: LEC of x divided by "
             "that of D.",
    "LSAP-1": "Largest change of any pixel, in [-1, 1], when the style of one layer is multiplied by a: "
              "`convolutions_positive` (a > 0); `convolutions_negative` (a = -1) and `torgb` (a = 2) in the layer that "
              "changes least. `own_codes`, `shared_codes`: the same with codes of W+ that give twice the style, in "
              "layers whose code no toRGB reads, and in the others; `least_squares_residual`: how far they miss it.",
    "LSAP-2": "`psp_minus_e4e`, `e4e_minus_lsap_e`: differences of SNCD. `rank_x`: Spearman's correlation of the "
              "methods' SNCD with x (`error`, `residual`, `loss_of_gain`: 1 - gain, of edits; `realism`: distance from "
              "renders); `untrained_..`: without the methods that minimise SNCD. `sncd_..`: each method's own.",
    "LSAP-3": "LSAP_E, training seeds `11` and `12`, minus e4e: `mse`, `perceptual` distance, `sncd`, `lec` of edits. "
              "`e4e_..`: e4e's own.",
    "LSAP-4": "`sncd`: LSAP_O's divided by the projector's; `psnr`: LSAP_O's minus the projector's, dB; `error`, "
              "`identity`: total error and identity of edits, LSAP_O's minus the projector's; `own_error`: total error "
              "of LSAP_O's edits. `w_..`: in W instead of W+. `.._matched`: share of faces with a matching strength.",
    "LSAP-5": "`o_..`: LSAP_O, `e_..`: LSAP_E. `mse_a_to_b`, `sncd_a_to_b`, `lec_a_to_b`: at lambda b divided by at "
              "lambda a; `sncd_largest_share`: the largest step of the mean SNCD over faces, divided by the change of "
              "that mean from the first lambda to the last.",
    "LSAP-6": "`pti_..`, `hfgi_..`: on codes of LSAP_E minus on codes of e4e: `perceptual` distance of the inversion, "
              "total `error` and `identity` of edits. `e4e_..`: on codes of e4e.",
    "CLCAE-1": f"With the alignment loss minus without it, training seeds `21` and `22`: {_SPACES}. `pair_..`: share "
               "of 1000 held-out pairs that the contrastive pair matches. `at_..`: each run's own; `at_.._retrieved`: "
               "share of the images whose own code the pair finds, of a run, or of a seed with minus without the loss.",
    "CLCAE-2": f"`block_..`: with the W+ block minus without it: {_SPACES}. `.._query_influence`: of the block as "
               "published and of a variant with several keys, see the rule. `at_..`: each run's own.",
    "CLCAE-3": f"`block_..`: with the F block minus without it: {_SPACES}, `gain` of edits. `at_..`: each run's own.",
    "CLCAE-4": f"`x_to_y_..`: y minus x, e.g. `w_to_w+`, `w+_to_f`, `psp_to_w+`, `e4e_to_w+`: {_SPACES}. `at_..`: each "
               "run's own.",
    "TWO-1": _BRANCHES.format("`leakage`, `identity` and total `error` of the edits")
             + " `asked_..`: the same differences at the strength that is asked for, of the share of the change that "
               "the judge reads (`reach`), `leakage` and `identity`.",
    "TWO-2": _DETAIL, "TWO-3": _DETAIL,
    "TWO-4": "The full model on codes of e4e (`e4e_..`) and of pSp (`psp_..`) minus these encoders: `perceptual` "
             "distance, `ssim`, `detail_mse`: squared error inside the detail. `later_..`: the full model's own.",
    "TWO-5": "`yaw_reach`: share of the change of yaw that is asked for which the judge reads; `yaw_less_others`: it "
             "less that of the edits of TWO-1; both with the sparsity term minus without it, training seeds `11` and "
             "`12`. `later_..`: with it.",
    "ALL-1": "`x_by_y`: seconds an image of method x divided by those of y. `seconds_..`: these seconds.",
    "EDIT-1": "`w`, `pn`: |v|^2 / D in PN+ after an edit along a line of W and of PN, divided by that before; "
              "`w_by_pn`: the one divided by the other. `unedited_pn_norm`: before the edit.",
    "EDIT-2": "`plain_a_b`, `conditional_a_b`: how far the edit of a moves the judge's reading of b, in its standard "
              "deviations and in the direction in which the world ties them; `shrinks_a_b`: plain minus conditional. "
              "`plain_a`, `conditional_a`: how far they move a itself; `longer_a`: length of the conditional edit "
              "divided by that of the plain one.",
    "EDIT-3": "`shared_x`: leak (root mean square over the other readings) of the best line for all faces; `own_x`: of "
              "the best line for each face; `shared_by_own_x`: their ratio. `scatter_share_x`: share of the shared "
              "line's squared leak that differs from face to face.",
    "EDIT-4": "`default_x`: total error of the shipped edit of x, `w_x`: of regression in W, `w_minus_default_x`: "
              "their difference, face by face. A face on which no strength matches counts as not edited (1). Glasses: "
              "the faces that wear none.",
}  # fmt: skip
