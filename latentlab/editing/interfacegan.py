"""Directions in W by a linear support vector machine (InterFaceGAN, Shen et al., arXiv 1907.10786)."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from latentlab.editing.edit import Direction
from latentlab.editing.samples import Samples, column


def find_boundaries(
    samples: Samples, names: Sequence[str] | None = None, *, share: float = 0.1, held: Sequence[str] = ()
) -> dict[str, Direction]:
    """For each attribute the normal of the hyperplane that parts the samples with the most of it from those with least.

    names: of the attributes, all that are read unless given. share: of the samples that count as positive and as many
    as negative examples (the paper's code takes 2 % of 500,000; fewer samples need a larger share). held: attributes
    whose own normals are projected out, so that the step keeps its distance from their boundaries (the paper's
    conditional manipulation; a linear system for several). An attribute is never held against itself.

    Strength 1 is one standard deviation of the samples along the normal, as measured: what it does to the attribute is
    a matter of ``calibrate``. Needs scikit-learn, the extra "editing".
    """
    if not 0 < share <= 0.5:
        raise ValueError(f"share: expected a share of the samples in 0..0.5, got {share}")
    names = tuple(samples.names if names is None else names)
    normals, accuracy = {}, {}
    for name in dict.fromkeys((*names, *held)):
        column(name, samples.names)
        rows, labels = _extremes(samples.of(name), share, name)
        normals[name], accuracy[name] = fit_boundary(samples.w[rows], labels)
    found = {}
    for name in names:
        others = [normals[other] for other in held if other != name]
        normal = project_out(normals[name], others) if others else normals[name]
        sigma = (samples.w.double() @ normal.double()).std()
        source = f"InterFaceGAN, SVM on {len(samples)} samples, top and bottom {share:.0%}, " \
                 f"accuracy {accuracy[name]:.2f} on examples left out"  # fmt: skip
        source += f", held: {', '.join(o for o in held if o != name)}" * bool(others)
        unit = "standard deviations of the samples along the normal"
        found[name] = Direction(name, normal * sigma.float(), unit=unit, source=source)
    return found


def fit_boundary(w: Float[Tensor, "n dim"], labels: Bool[Tensor, " n"]) -> tuple[Float[Tensor, " dim"], float]:
    """Unit normal of the hyperplane between two classes, towards the positive one, and its accuracy on the 30 % of
    each class that it was not fitted to (NaN below 8 examples, which are all needed).

    A linear SVM with C = 1 on codes scaled by one number to unit variance; only the scale of W, never its shape, is
    taken out.
    """
    if labels.shape != w.shape[:1]:
        raise ValueError(f"labels: expected one for each of {len(w)} codes, got {tuple(labels.shape)}")
    if labels.dtype != torch.bool:
        raise ValueError(f"labels: expected booleans, got {labels.dtype}; make them by a threshold, as scores > 0.5")
    if (smaller := min(int(labels.sum()), int((~labels).sum()))) < 2:
        raise ValueError(f"labels: expected two classes with 2 examples or more each, got {smaller} in the smaller one")
    try:
        from sklearn.svm import LinearSVC
    except ImportError as error:
        raise ValueError("InterFaceGAN: expected the package scikit-learn, got an environment without it; "
                         "pip install 'latentlab[editing]'") from error  # fmt: skip
    x = w.double()
    x = (x - x.mean(0)) / x.var(0).mean().sqrt()
    # every class in its own order, 7 of 10 examples to fit and 3 to test
    order = torch.zeros(len(x), dtype=torch.long)
    order[labels], order[~labels] = torch.arange(int(labels.sum())), torch.arange(int((~labels).sum()))
    tested = order % 10 >= 7
    y = labels.cpu().numpy()
    machine = LinearSVC(C=1.0, dual=False, max_iter=10_000).fit(x[~tested].numpy(), y[~tested.numpy()])
    correct = torch.from_numpy(machine.predict(x.numpy()) == y)
    accuracy = float(correct[tested].double().sum() / tested.sum())
    normal = torch.tensor(machine.coef_[0])
    return (normal / normal.norm()).float(), accuracy


def project_out(vector: Float[Tensor, " dim"], others: Sequence[Float[Tensor, " dim"]]) -> Float[Tensor, " dim"]:
    """What is left of ``vector`` orthogonal to all ``others``, at unit length: n - N (N^T N)^-1 N^T n, which for
    one is InterFaceGAN's n1 - (n1^T n2) n2; ``ValueError`` where nothing is left."""
    n, N = vector.double(), torch.stack(list(others), 1).double()
    rest = n - N @ torch.linalg.lstsq(N, n[:, None]).solution[:, 0]
    if float(rest.norm()) <= 1e-6 * float(n.norm()):
        raise ValueError("held: expected attributes that leave a direction, got normals that span the one to be found; "
                         "hold fewer")  # fmt: skip
    return (rest / rest.norm()).float()


def _extremes(readings: Float[Tensor, " n"], share: float, name: str) -> tuple[Tensor, Bool[Tensor, " m"]]:
    """Rows with the lowest and highest readings, in the samples' order, and which are the highest."""
    k = int(share * len(readings))
    low, high = readings.topk(k, largest=False), readings.topk(k)
    if k < 2 or not float(high.values.min()) > float(low.values.max()):
        raise ValueError(f"samples: expected two classes of {name}, got {len(readings)} of which {k} make {share:.0%} "
                         "and the highest readings do not exceed the lowest")  # fmt: skip
    rows, order = torch.cat([low.indices, high.indices]).sort()
    return rows, order >= k
