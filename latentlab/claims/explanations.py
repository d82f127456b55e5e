"""What the numbers of each claim are, and why claims were not, or only partly, reproduced.

Both stand beside a record when it is shown. They are not recorded and no verdict depends on them.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from latentlab.claims.rules import FACTORS, FORTY, KINDS, LEC_LINES
from latentlab.weights import find, read_manifest

if TYPE_CHECKING:
    from latentlab.claims.finding import Finding

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
    "TWO-5": "`yaw_reach`: share of the change of yaw that is asked for which the judge reads; `yaw_less_others`: it less "
             "that of the edits of TWO-1; both with the sparsity term minus without it, training seeds `11` and `12`. "
             "`later_..`: with it.",
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


def why(found: "Finding") -> str:
    """Why a claim came out not, or only partly, reproduced, from the numbers of its record; "" where nothing is known,
    where it was reproduced, and where the record is outdated."""
    explain = _WHY.get(found.claim.id) if found.claim else None
    if explain is None or found.outdated or found.verdict not in ("partly reproduced", "not reproduced"):
        return ""
    return explain(found)


def _kinds(found: "Finding", name: str) -> list[str]:
    """The kinds of faces for which a number of this name was measured."""
    return [kind for kind in KINDS if f"{kind}_{name}" in found.measured | found.controls]


def _values(found: "Finding", *ends: str) -> list[float]:
    """All measured numbers whose names end so, in order of size."""
    return sorted(value for name, value in found.measured.items() if name.endswith(ends))


def _wide_encoder(found: "Finding") -> str:
    wider = {kind: 1 / found.measured[f"{kind}_i2s_by_psp"] for kind in _kinds(found, "i2s_by_psp")}
    if not wider or min(wider.values()) <= 1:
        return ""
    times = " and ".join(f"{x:.1f} times ({kind} faces)" for kind, x in wider.items())
    return (
        f"The variance of pSp's codes is {times} that of I2S's, where the claim expects an encoder's to be small. "
        "Nothing in pSp's training holds the layers' codes together; e4e's does, and its codes are narrower than "
        "I2S's, though wider than the generator's own."
    )


def _no_better_edits(found: "Finding") -> str:
    errors, identities = _values(found, "_error"), _values(found, "_identity")
    if found.verdict != "not reproduced" or not errors:
        return ""
    return (
        f"No advantage of II2S was measured: its total errors differ from I2S's by {errors[0]:+.2f} to "
        f"{errors[-1]:+.2f} and its identities by {identities[0]:+.3f} to {identities[-1]:+.3f}. I2S's codes are far "
        "from the generator's own in PN+ only (II2S-8); in lengths of W those of clean faces lie no farther from the "
        "mean than the generator's own samples, on which the edits were learned. Identity is compared with the given "
        "face, to which II2S is less like before any edit (II2S-7)."
    )


def _no_better_mixes(found: "Finding") -> str:
    differences = _values(found, "mixing", "interpolation")
    if found.verdict != "not reproduced" or not differences or differences[0] <= 0:
        return ""
    return (
        f"No advantage of II2S was measured: all {len(differences)} differences of KID are above 0 (up to "
        f"{differences[-1]:.4f}), so I2S's pictures are at least as near to renders, also in mixes and on lines of "
        "PN+, where the paper has II2S ahead. On lines of W+, where the paper has I2S ahead, none is large enough "
        "after Holm's correction. I2S's codes lie close enough to the generator's samples here (II2S-9)."
    )


def _slow_to_search(found: "Finding") -> str:
    kinds = _kinds(found, "gain_twice_the_steps")
    told = [
        f"from {found.measured[f'{kind}_gain']:.2f} to {found.measured[f'{kind}_gain_twice_the_steps']:.2f} dB "
        f"({kind} faces)" for kind in kinds
        if found.measured[f"{kind}_gain"] > found.measured[f"{kind}_gain_twice_the_steps"]
        and found.intervals[f"{kind}_gain_twice_the_steps"][0] > 0
    ]  # fmt: skip
    if not kinds or len(told) < len(kinds):
        return ""
    return (
        f"A part of the disadvantage of Z+ is speed: with twice its steps W+'s lead falls {' and '.join(told)}. It is "
        "still above 0, but not shown to be above the rule's 0.5 dB."
    )


def _constant_code(found: "Finding") -> str:
    constant = _values(found, "_constant")
    ratios = _values(found, *(f"{kind}_{name}" for kind in KINDS for name in LEC_LINES))
    if not constant or constant[-1] >= 1 or ratios[0] <= 1:
        return ""
    return (
        f"D's LEC is smaller than A's ({ratios[0]:.1f} to {ratios[-1]:.1f} times), but that of an encoder that always "
        f"returns the same code is smaller still ({constant[0]:.2f} to {constant[-1]:.2f} of D's): LEC rewards codes "
        "that hardly move, so a small LEC does not show that edits are consistent."
    )


def _one_principle(found: "Finding") -> str:
    lec = _values(found, "_lec_B")
    errors = {name: i for name, i in found.intervals.items() if "_error_" in name}
    if not lec or lec[-1] >= 1 or any(low > 0 for low, _ in errors.values()):
        return ""
    smaller = [name.split("_error_") for name, (_, high) in errors.items() if high < 0]
    smaller = f"; it is smaller for {', '.join(f'{run} on {kind} faces' for kind, run in smaller)}" if smaller else ""
    return (
        f"B, with short offsets and no discriminator, has a LEC of {lec[0]:.2f} to {lec[-1]:.2f} of D's: its codes "
        "vary least, and LEC rewards codes that hardly move. And no configuration's edits are shown to have a larger "
        f"total error than D's{smaller}."
    )


def _wrong_way(found: "Finding") -> str:
    told = []
    for kind in _kinds(found, "error_0_to_0.25"):
        start, end = (found.controls[f"at_{kind}_error_{t}"] for t in (0, 1))
        if end >= start:
            return ""
        likeness = [found.controls[f"at_{kind}_psnr_{t:g}"] for t in (0, 0.75, 1)]
        told.append(f"on {kind} faces total error falls from {start:.2f} to {end:.2f}; PSNR is {likeness[0]:.1f} dB at "
                    f"D, {likeness[1]:.1f} at three quarters and {likeness[2]:.1f} at A")  # fmt: skip
    return f"By their means, edits do not get worse from D to A but better: {'; '.join(told)}." if told else ""


def _scale_seen(found: "Finding") -> str:
    return (
        "Demodulation divides by the length of the modulated weights, so a negative factor still changes their sign. "
        "toRGB layers are not demodulated and see the length of their style; a code that toRGB reads cannot be "
        "replaced by one that scales the convolution's style alone."
    )


def _below_the_samples(found: "Finding") -> str:
    samples = found.controls["sncd_of_samples"]
    before = {kind: found.controls[f"e4e_{kind}_sncd"] for kind in _kinds(found, "11_sncd")}
    costs, gains = _values(found, "_mse"), _values(found, "_sncd")
    if not costs or costs[0] <= 0 or gains[-1] >= 0 or max(before.values()) >= samples:
        return ""
    own = " and ".join(f"{x:.4f} ({kind} faces)" for kind, x in before.items())
    return (
        f"e4e's codes already have a lower SNCD than the generator's own, {own} against {samples:.4f}, so by this "
        "measure nothing was left to repair. To lower it further is to move towards the mean of the samples, which "
        "costs likeness; and codes that are more alike move less, which LEC rewards."
    )


def _towards_the_mean(found: "Finding") -> str:
    samples, kinds = found.controls["sncd_of_samples"], _kinds(found, "lsap_o_sncd")
    reached = {kind: found.measured[f"{kind}_lsap_o_sncd"] for kind in kinds}
    lost = {kind: -found.measured[f"{kind}_psnr"] for kind in kinds}
    identities = [x for name, x in found.measured.items() if name.endswith("_identity") and "_w_" not in name]
    if not kinds or max(reached.values()) >= samples or min(lost.values()) <= 0 or max(identities) >= 0:
        return ""
    shares = {who: [x for name, x in found.measured.items() if name.endswith(f"_{who}_matched") and "_w_" not in name]
              for who in ("projector", "lsap_o")}  # fmt: skip
    makes = {who: sum(values) / len(values) for who, values in shares.items()}
    return (
        f"With the paper's lambda the codes end far below the SNCD of the generator's own, at "
        f"{' and '.join(f'{x:.3f} ({kind} faces)' for kind, x in reached.items())} against {samples:.3f}: they are "
        "drawn to the mean of the samples. That costs "
        f"{' and '.join(f'{x:.1f} dB ({kind})' for kind, x in lost.items())}, and the person, before any edit. What is "
        f"gained: the judge finds a strength for {makes['lsap_o']:.0%} of the edits, not for {makes['projector']:.0%}."
    )


def _first_step(found: "Finding") -> str:
    shares = {kind: found.measured[f"{kind}_o_sncd_largest_share"] for kind in _kinds(found, "o_sncd_largest_share")}
    if not shares or min(shares.values()) <= 0.8:
        return ""
    told = " and ".join(f"{share:.0%} ({kind} faces)" for kind, share in shares.items())
    return (
        f"LSAP_O's likeness falls evenly with lambda, but one step makes {told} of the change of its mean SNCD: the "
        "search starts at the mean of W, near the lowest SNCD, and a small weight already keeps it there."
    )


def _bases_inherited(found: "Finding") -> str:
    kinds = _kinds(found, "hfgi_perceptual")
    farther = [found.measured[f"{kind}_hfgi_perceptual"] for kind in kinds]
    persons = [x for name, x in found.measured.items() if "_pti_" in name and name.endswith("_identity")]
    if not kinds or min(farther) <= 0 or max(map(abs, persons)) > 0.01:
        return ""
    told = " and ".join(f"{x:.4f} ({kind} faces)" for kind, x in zip(kinds, farther, strict=True))
    turns = " and ".join(f"{found.measured[f'{kind}_hfgi_yaw_error']:+.3f}" for kind in kinds)
    left = " and ".join(f"{found.controls[f'e4e_{kind}_pti_perceptual']:.4f}" for kind in kinds)
    return (
        "HFGI does inherit from its base, but here LSAP_E is the base that is less like the faces (LSAP-3): its "
        f"perceptual distance stays larger by {told}, and turns of the head are farther from the truth (total error "
        f"{turns}). PTI inherits nearly nothing: it tunes the generator until the face is drawn, from either codes "
        f"(perceptual distances from e4e's: {left}), and the identities of its edits differ by at most "
        f"{max(map(abs, persons)):.3f}."
    )


def _real_not_editable(found: "Finding") -> str:
    ranks = {kind: [found.measured[f"{kind}_{name}"] for name in ("rank_realism", "rank_error")] for kind in KINDS
             if f"{kind}_rank_error" in found.measured}  # fmt: skip
    if not ranks or min(realism for realism, _ in ranks.values()) <= 0 or max(error for _, error in ranks.values()) > 0:
        return ""
    told = "; ".join(f"{kind} faces: {realism:+.2f} and {error:+.2f}" for kind, (realism, error) in ranks.items())
    return (
        "SNCD ranks the methods as the distance of their inversions from renders does, but not as the total error of "
        f"their edits (rank correlations: {told}). It measures how near codes are to the mean of the generator's own. "
        "Such codes draw typical faces, and lose of the given face what the true edit is measured against."
    )


def _weak_edits(found: "Finding") -> str:
    told, wanted, had = [], FORTY["clean"], found.settings["faces"]
    if had < wanted:
        told.append(f"Lacks: {wanted - had} of {wanted} clean faces.")
    manifest = read_manifest()
    chosen = manifest.get(find("edits", found.provenance.get("fingerprint", "")) or "", {}).get("chosen", {})
    same = [name for name in FACTORS if chosen.get(name, {}).get("way") == "W regression"]
    if same:
        told.append(f"The shipped edit of {' and '.join(same)} is itself found by regression in W.")
    sd = {name: found.samples[f"w_{name}"].get("sd", 0) for name in FACTORS}
    if wide := [name for name in FACTORS if sd[name] > 2 * found.measured[f"w_{name}"]]:
        which = ", ".join(f"{name}: mean {found.measured[f'w_{name}']:.1f}, standard deviation {sd[name]:.0f}"
                          for name in wide)  # fmt: skip
        told.append(f"A few faces on which regression in W goes astray widen the intervals ({which}).")
    if above := [name for name in FACTORS if found.measured[f"default_{name}"] > 1]:
        told.append(f"In pixels the edits of {', '.join(above)} are no nearer to the truth than no edit: docs/edits.md "
                    "says why.")  # fmt: skip
    return " ".join(told)


def _weaker_edits(found: "Finding") -> str:
    asked = {what: sorted(x for k, x in found.controls.items() if k.startswith("asked_") and k.endswith(what))
             for what in ("_reach", "_leakage")}  # fmt: skip
    if not all(asked.values()) or max(*asked["_reach"], *asked["_leakage"]) >= 0:
        return ""
    (least, most), (high, low) = ((-x[-1], -x[0]) for x in asked.values())
    return (
        f"At the strength that is asked for the effect is there: sparse edits leak {high:.2f} to {low:.2f} standard "
        f"deviations less. But there the judge also reads {least:.2f} to {most:.2f} less of the change. An edit that "
        "does less of everything leaks less; where both are read alike, nothing of the advantage is left."
    )


def _recognised_is_not_alike(found: "Finding") -> str:
    psnr, shares = _values(found, "_psnr"), found.controls
    names = [f"at_clean_{run}_retrieved" for run in ("no_alignment", "full")]
    if max(psnr) >= 0 or not set(names) <= shares.keys():
        return ""
    without, with_loss = (shares[name] for name in names)
    return (
        "The loss asks that the pair finds a code among those of the batch, not that G(w) looks like the image. The "
        f"pair finds {without:.0%} of the clean faces without the loss and {with_loss:.0%} with it, so there was "
        f"little to gain, and it costs {-psnr[-1]:.1f} to {-psnr[0]:.1f} dB of PSNR. All runs are short, 10,000 images "
        "each; but the W of the shipped `clcae`, with the loss and three times as many, is still below that of the "
        "runs without it (docs/clcae.md)."
    )


def _only_ours_holds(found: "Finding") -> str:
    if max(_values(found, "_block_psnr", "_block_identity")) >= 0:
        return ""
    return (
        "Of the paper's comparisons none holds; the part that holds is ours. With one key the block is no attention "
        "but a feed-forward network, and its last layer normalisation gives the offsets of a layer nearly one length "
        "for all faces (notebook 07), a limit that the residuals themselves do not have."
    )


def _three_pictures(found: "Finding") -> str:
    if not (_values(found, "_w+_to_f_psnr")[0] > 0 > _values(found, "_e4e_to_w+_psnr", "_psp_to_w+_psnr")[-1]):
        return ""
    return (
        "The order of the three spaces holds by every measure; W+ is below pSp and e4e of as many images by every "
        "measure. A part of it is the alignment loss: without it the codes of W+ draw about 1 dB better, and are still "
        "below both (docs/clcae.md)."
    )


def _small_gains(found: "Finding") -> str:
    cells = {cell.name: cell for cell in found.cells if cell.part in found.claim.rule.parts}
    ratios = sorted(cell.estimate.value for cell in cells.values() if cell.estimate)
    known = sorted(x for name, x in found.controls.items() if name.startswith("known_"))
    nearer = [x for x in ratios if x < 1]
    held = sum(cell.outcome == "holds" for cell in cells.values())
    if len(nearer) < 0.8 * len(ratios) or not known or known[0] <= 1 or held == len(ratios):
        return ""
    return (
        f"{len(nearer)} of the {len(ratios)} ratios are on the claimed side, but the gains are small, "
        f"{1 - nearer[-1]:.0%} to {1 - nearer[0]:.0%} (median {1 - nearer[len(nearer) // 2]:.0%}): {held} of them hold "
        "on so many faces after Holm's correction. What was shown is drawn worse in return, with "
        f"{known[0]:.1f} to {known[-1]:.1f} times I2S's squared error."
    )


_WHY: Mapping[str, Callable[["Finding"], str]] = {
    "II2S-8": _wide_encoder, "II2S-9": _no_better_edits, "II2S-10": _small_gains, "II2S-11": _no_better_mixes,
    "II2S-12": _slow_to_search, "E4E-4": _constant_code, "E4E-5": _wrong_way, "E4E-6": _one_principle,
    "LSAP-1": _scale_seen, "LSAP-2": _real_not_editable, "LSAP-3": _below_the_samples, "LSAP-4": _towards_the_mean,
    "LSAP-5": _first_step, "LSAP-6": _bases_inherited, "EDIT-4": _weak_edits, "CLCAE-1": _recognised_is_not_alike,
    "CLCAE-2": _only_ours_holds, "CLCAE-4": _three_pictures, "TWO-1": _weaker_edits,
}  # fmt: skip
