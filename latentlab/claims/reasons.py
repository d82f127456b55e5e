"""Why claims were not, or only partly, reproduced, in words that stand beside a record when it is shown.

They are made from the numbers of the record. They are not recorded and no verdict depends on them.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from latentlab.claims.rules import FACTORS, FORTY, KINDS, LEC_LINES
from latentlab.weights import find, read_manifest

if TYPE_CHECKING:
    from latentlab.claims.finding import Finding


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
        f"{errors[-1]:+.2f} and its identities by {identities[0]:+.3f} to {identities[-1]:+.3f}. Identity is "
        "compared with the given face, to which II2S is less like before any edit (II2S-7)."
    )


def _no_better_mixes(found: "Finding") -> str:
    differences = _values(found, "mixing", "interpolation")
    if found.verdict != "not reproduced" or not differences or differences[0] <= 0:
        return ""
    return (
        f"No advantage of II2S was measured: all {len(differences)} differences of KID are above 0 (up to "
        f"{differences[-1]:.4f}), so I2S's pictures are at least as near to renders, also in mixes and on lines of "
        "PN+, where the paper has II2S ahead. On lines of W+, where the paper has I2S ahead, none is large enough "
        "after Holm's correction."
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
    makes = {}
    for who in ("projector", "lsap_o"):
        shares = {name: x for name, x in found.measured.items()
                  if name.endswith(f"_{who}_matched") and "_w_" not in name}  # fmt: skip
        for turn in (True, False):
            part = [x for name, x in shares.items() if ("_yaw_" in name) == turn]
            makes[who, turn] = sum(part) / len(part)
    return (
        f"With the paper's lambda the codes end far below the SNCD of the generator's own, at "
        f"{' and '.join(f'{x:.3f} ({kind} faces)' for kind, x in reached.items())} against {samples:.3f}: they are "
        "drawn to the mean of the samples. That costs "
        f"{' and '.join(f'{x:.1f} dB ({kind})' for kind, x in lost.items())}, and the person, before any edit. The "
        f"judge finds a strength for {makes['lsap_o', True]:.0%} of the turns of the head instead of "
        f"{makes['projector', True]:.0%}, and for {makes['lsap_o', False]:.0%} of the other edits instead of "
        f"{makes['projector', False]:.0%}."
    )


def _first_step(found: "Finding") -> str:
    shares = {kind: found.measured[f"{kind}_o_sncd_largest_share"] for kind in _kinds(found, "o_sncd_largest_share")}
    if not shares or min(shares.values()) <= 0.8:
        return ""
    told = " and ".join(f"{share:.0%} ({kind} faces)" for kind, share in shares.items())
    return (
        f"LSAP_O's likeness falls evenly with lambda, but one step makes {told} of the change of its mean SNCD. "
        "SNCD is least at the mean direction of the samples, and a small weight already draws codes nearer to it than "
        "samples are."
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


def _all_edits_weaker(found: "Finding") -> str:
    yaw = {name: -x for name, x in found.measured.items() if name.endswith("_yaw_reach")}
    gained = {name: found.measured[name.replace("reach", "less_others")] for name in yaw}  # by yaw on the others
    other = sorted(yaw[name] + gained[name] for name in yaw)
    with_it = {name: -found.controls["later_" + name.replace("reach", "less_others")] for name in yaw}
    without = sorted(with_it[name] + gained[name] for name in yaw)
    loses, behind = sorted(yaw.values()), sorted(with_it.values())
    if not yaw or loses[0] <= 0 or other[0] <= loses[-1] or behind[0] <= 0:
        return ""
    return (
        f"The penalty weakens all edits: a turn of the head loses {loses[0]:.2f} to {loses[-1]:.2f} of what is asked "
        f"for, the edits of TWO-1 lose {other[0]:.2f} to {other[-1]:.2f}. The turn reaches less of what is asked for "
        f"than they do in any case: {behind[0]:.2f} to {behind[-1]:.2f} less with the penalty, {without[0]:.2f} to "
        f"{without[-1]:.2f} less without it."
    )


def _recognised_is_not_alike(found: "Finding") -> str:
    psnr, shares = _values(found, "_psnr"), found.controls
    names = [f"at_clean_{run}_retrieved" for run in ("no_alignment", "full")]
    if max(psnr) >= 0 or not set(names) <= shares.keys():
        return ""
    without, with_loss = (shares[name] for name in names)
    return (
        "The loss asks that the pair finds a code among those of the batch, not that G(w) looks like the image. The "
        f"pair finds {without:.0%} of the clean faces without the loss and {with_loss:.0%} with it, which "
        f"costs {-psnr[-1]:.1f} to {-psnr[0]:.1f} dB of PSNR. All runs are short, 10,000 images each; but the W of the "
        "shipped `clcae`, with the loss and three times as many, is still below that of the runs without it "
        "(docs/clcae.md)."
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


def _still_gaining(found: "Finding") -> str:
    gains, growth = (sorted(x for name, x in found.measured.items() if name.endswith(end))
                     for end in ("_psnr_gain_0.001", "_growth_free"))  # fmt: skip
    late = {name: _values(found, f"_late_gain_{name}") for name in ("free", "0.001")}
    if not gains or growth[0] <= 1 or gains[-1] <= 0.5 or late["free"][0] <= late["0.001"][-1]:
        return ""
    return (
        f"The norm drifts as claimed ({growth[0]:.2f} to {growth[-1]:.2f} times over the last half of the steps), but "
        f"not for almost nothing: PSNR is {gains[0]:.2f} to {gains[-1]:.2f} dB higher than with lambda 0.001. The gain "
        f"grows with the steps. Over the last half, PSNR still rises by {late['free'][0]:.2f} to "
        f"{late['free'][-1]:.2f} dB without the regulariser, by {late['0.001'][0]:.2f} to {late['0.001'][-1]:.2f} with "
        "it. II2S-7 has the gain after the paper's 1300 steps."
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
    "II2S-6": _still_gaining, "II2S-8": _wide_encoder, "II2S-9": _no_better_edits, "II2S-10": _small_gains,
    "II2S-11": _no_better_mixes, "II2S-12": _slow_to_search, "E4E-4": _constant_code, "E4E-5": _wrong_way,
    "E4E-6": _one_principle,
    "LSAP-1": _scale_seen, "LSAP-2": _real_not_editable, "LSAP-3": _below_the_samples, "LSAP-4": _towards_the_mean,
    "LSAP-5": _first_step, "LSAP-6": _bases_inherited, "EDIT-4": _weak_edits, "CLCAE-1": _recognised_is_not_alike,
    "CLCAE-2": _only_ours_holds, "CLCAE-4": _three_pictures, "TWO-1": _weaker_edits,
    "TWO-5": _all_edits_weaker,
}  # fmt: skip
