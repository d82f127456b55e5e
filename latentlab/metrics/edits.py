"""Metrics of edits, against the rendered truth or from the readings of an attribute network."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from latentlab.metrics.fidelity import Images, check

Mask = Float[Tensor, "n 1 h w"]
SWITCH_SHARE, SWITCH_LOGIT = 0.9, 4.0  # see ``switch_target``


def edit_gain(
    inversion: Images, edit: Images, truth: Images, edited_truth: Images, mask: Mask | None = None
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """Gain, the share of the true edit that happened, and residual, the size of the remaining change: (N,) each.

    With D = edit - inversion and D* = edited truth - truth, the gain is <D, D*> / |D*|^2 (1: the whole edit, 0: none)
    and the residual is |D - gain D*| / |D*| (0: nothing but the edit). Both compare changes and not images, so a
    perfect reconstruction that edits nothing has a gain of 0.

    mask: weight of each pixel, 0 to 1: of the region that should change, or one minus it. The gain is NaN where the
    truth does not change within the mask; the residual is always relative to |D*| of the whole image.

    >>> x, y = torch.zeros(1, 3, 2, 2), torch.ones(1, 3, 2, 2)
    >>> edit_gain(x, x, x, y), edit_gain(x, y, x, y)
    ((tensor([0.]), tensor([0.])), (tensor([1.]), tensor([0.])))
    """
    check("images", inversion, edit, truth, edited_truth)
    weight = torch.ones_like(truth[:, :1]) if mask is None else mask
    if weight.shape != truth[:, :1].shape or not bool(((weight >= 0) & (weight <= 1)).all()):
        raise ValueError(
            f"mask: expected shape {tuple(truth[:, :1].shape)} and values from 0 to 1, got shape "
            f"{tuple(weight.shape)} and values from {float(weight.min()):g} to {float(weight.max()):g}"
        )
    d, d_true = edit - inversion, edited_truth - truth
    gain = (weight * d * d_true).sum((1, 2, 3)) / (weight * d_true.square()).sum((1, 2, 3))
    rest = d - gain.nan_to_num(0.0).view(-1, 1, 1, 1) * d_true
    return gain, (weight * rest.square()).sum((1, 2, 3)).sqrt() / _size(d_true)


def _size(d_true: Images) -> Float[Tensor, " n"]:
    size = d_true.flatten(1).norm(dim=1)
    if not bool((size > 0).all()):
        raise ValueError("edited truth: expected images that differ from the truth, got equal ones")
    return size


def edit_error(inversion: Images, edit: Images, truth: Images, edited_truth: Images) -> Float[Tensor, " n"]:
    """Total error of an edit, |D - D*| / |D*|, (N,): 0 is the true edit, 1 is no edit, more is worse than no edit.

    D = edit - inversion and D* = edited truth - truth, as in ``edit_gain``; the square of the total error is
    (1 - gain)^2 + residual^2 over the whole picture.

    >>> x, y = torch.zeros(1, 3, 2, 2), torch.ones(1, 3, 2, 2)
    >>> edit_error(x, x, x, y), edit_error(x, y, x, y), edit_error(x, -y, x, y)
    (tensor([1.]), tensor([0.]), tensor([2.]))
    """
    check("images", inversion, edit, truth, edited_truth)
    d_true = edited_truth - truth
    return (edit - inversion - d_true).flatten(1).norm(dim=1) / _size(d_true)


def edit_distance(edit: Images, truth: Images, edited_truth: Images) -> Float[Tensor, " n"]:
    """Relative distance from the edited truth, |edit - edited truth| / |edited truth - truth|, (N,); 0 is perfect.

    Read it beside the gain, not as a score: most of it is reconstruction error. A perfect reconstruction without any
    edit has 1; a good edit of a coarse reconstruction often has more, sometimes more than without the edit.

    >>> x = torch.zeros(1, 3, 2, 2)
    >>> edit_distance(x + 0.5, x, x + 1)
    tensor([0.5000])
    """
    check("images", edit, truth, edited_truth)
    return (edit - edited_truth).flatten(1).norm(dim=1) / _size(edited_truth - truth)


def yardsticks(
    inversion: Images, edit: Images, oracle: Images, truth: Images, edited_truth: Images, mask: Mask | None = None
) -> dict[str, dict[str, Float[Tensor, " n"]]]:
    """Gain, residual, total error and distance of an edit, of no edit, and of the oracle, the inversion of the edited
    truth.

    The gain of the oracle tells how much of an edit the method's images can show at all: a slight blur removes much
    of a smile that is a few pixels wide.

    >>> x = torch.zeros(1, 3, 2, 2)
    >>> {name: row["gain"].item() for name, row in yardsticks(x, x + 0.5, x + 1, x, x + 1).items()}
    {'edit': 0.5, 'no edit': 0.0, 'oracle': 1.0}
    """
    rows = {}
    for name, picture in {"edit": edit, "no edit": inversion, "oracle": oracle}.items():
        gain, residual = edit_gain(inversion, picture, truth, edited_truth, mask)
        error = edit_error(inversion, picture, truth, edited_truth)
        distance = edit_distance(picture, truth, edited_truth)
        rows[name] = {"gain": gain, "residual": residual, "error": error, "distance": distance}
    return rows


def attribute_leakage(
    before: Float[Tensor, "n k"], after: Float[Tensor, "e n k"], std: Float[Tensor, " k"], targets: Sequence[int]
) -> Float[Tensor, "e k"]:
    """Change of each attribute in each edit, relative to the change of the edit's target: (E, K), 1 for the target.

    Mean over images of |after - before| / std, divided by that of the target (attribute dependency, StyleSpace, Wu
    et al., 2021). Absolute values are averaged, because leaks in both directions would cancel. A row is NaN where the
    target did not change. before, after: readings of a network from N images and from their E edits.

    >>> attribute_leakage(torch.zeros(1, 2), torch.tensor([[[2.0, -3.0]]]), torch.tensor([1.0, 3.0]), [0])
    tensor([[1.0000, 0.5000]])
    """
    check("readings", before, *after)
    if len(targets) != len(after) or std.shape != before.shape[1:] or not bool((std > 0).all()):
        raise ValueError(
            f"expected a target for each of {len(after)} edits and a std > 0 for each of "
            f"{before.shape[1]} attributes, got {len(targets)} and std {std.tolist()}"
        )
    change = ((after - before).abs() / std).mean(1)
    return change / change[range(len(after)), list(targets)][:, None]


def switch_target(logits: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """The logits at which a switch of a binary factor counts as made, given those read in the truth, (N,).

    0.9 times the truth's, which a picture that is nearly right reaches, and 4 at most, a probability of 98 %: beyond
    it a stronger edit is read no differently.

    >>> switch_target(torch.tensor([2.0, -9.0]))
    tensor([ 1.8000, -4.0000])
    """
    return (SWITCH_SHARE * logits).clamp(-SWITCH_LOGIT, SWITCH_LOGIT)


@torch.no_grad()
def matched_strength(
    edit: Callable[[Float[Tensor, " n"]], Float[Tensor, "n 3 _ _"]],
    read: Callable[[Tensor], Float[Tensor, " n"]],
    target: Float[Tensor, " n"],
    *,
    limit: float,
    steps: int = 12,
) -> Float[Tensor, " n"]:
    """The smallest strength, from 0 to ``limit``, at which each edit reads ``target``; NaN if none does.

    limit: may be negative. edit: strengths (N,) -> N images. read: images -> readings of the attribute, (N,). The
    readings need not be monotonic: the range is scanned in eighths, and the first eighth in which the reading crosses
    the target is bisected ``steps`` times. Two crossings within one eighth are missed.

    >>> def grey(s):
    ...     return s.view(-1, 1, 1, 1).expand(-1, 3, 2, 2)
    >>> matched_strength(grey, lambda x: x.mean((1, 2, 3)) ** 2, torch.tensor([4.0, 100.0]), limit=6.0)
    tensor([2.0000,    nan])
    """
    check("targets", target)
    if not 0 < abs(limit) < torch.inf:
        raise ValueError(f"limit: expected a finite strength other than 0, got {limit}")

    def gap(strengths: Tensor) -> Tensor:
        readings = read(edit(strengths)).to(target)
        check("readings", readings, target)
        return readings - target

    grid = torch.linspace(0, limit, 9).to(target)
    gaps = torch.stack([gap(s.expand(len(target))) for s in grid])
    crossed = gaps[:-1].sign() * gaps[1:].sign() <= 0  # (8, N)
    first = crossed.int().argmax(0)
    low, high, start = grid[first], grid[first + 1], gaps.gather(0, first[None])[0]
    for _ in range(steps):
        middle = (low + high) / 2
        before = gap(middle) * start > 0  # still on the side of the eighth's beginning
        low, high = torch.where(before, middle, low), torch.where(before, high, middle)
    return torch.where(crossed.any(0), (low + high) / 2, torch.nan)
