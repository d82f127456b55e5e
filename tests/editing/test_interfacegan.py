"""Boundaries: the true normal in a linear world, conditions that hold, scikit-learn's own machine as the reference."""

import pytest
import torch

from latentlab.editing.interfacegan import find_boundaries, fit_boundary, project_out
from latentlab.editing.samples import Samples

TRUE = torch.tensor([[1.0, 0.0, 0.0, 0.0, 0.0, 0.0], [0.8, 0.6, 0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0, 0.0, 0.0]])


@pytest.fixture(scope="module")
def samples() -> Samples:
    w = 0.1 * torch.randn(4_000, 6, generator=torch.Generator().manual_seed(0)) + 3
    return Samples(w, w @ TRUE.T, ("a", "b", "c"))


def test_finds_the_normals_of_a_linear_world(samples):
    for name, true in zip("abc", TRUE, strict=True):
        edit = find_boundaries(samples, [name])[name]
        assert torch.cosine_similarity(edit.vector, true, 0) > 0.995
        assert edit.vector.norm() == pytest.approx(0.1, rel=0.05)  # one deviation of the samples along it
        assert "top and bottom 10%, accuracy 1.00" in edit.source and "along the normal" in edit.unit


def test_a_condition_moves_its_own_attribute_only(samples):
    plain, held = find_boundaries(samples, ["a"])["a"], find_boundaries(samples, held=["a", "b", "c"])["a"]
    assert (TRUE @ plain.vector)[1] > 0.7 * (TRUE @ plain.vector)[0]
    change = TRUE @ held.vector / (TRUE @ held.vector)[0]
    torch.testing.assert_close(change, torch.tensor([1.0, 0.0, 0.0]), atol=0.08, rtol=0)
    assert "held: b, c" in held.source


def test_projection_is_gram_schmidt_for_one_and_a_linear_system_for_several():
    n, a, b = torch.randn(3, 6, generator=torch.Generator().manual_seed(1)).unbind(0)
    once = n - (n @ a) / (a @ a) * a
    torch.testing.assert_close(project_out(n, [a]), once / once.norm())
    both = project_out(n, [a, b])
    assert abs(float(both @ a)) < 1e-6 and abs(float(both @ b)) < 1e-6 and float(both.norm()) == pytest.approx(1)
    with pytest.raises(ValueError, match="hold fewer"):
        project_out(n, [n, a])


def test_agrees_with_a_kernel_machine(samples):
    """The paper's code fits sklearn's SVC with a linear kernel; on noisy classes the normals must agree closely."""
    from sklearn.svm import SVC

    noisy = samples.of("b") + 0.05 * torch.randn(4_000, generator=torch.Generator().manual_seed(2))
    rows = torch.cat([noisy.topk(300).indices, noisy.topk(300, largest=False).indices])
    labels = torch.arange(600) < 300
    normal, accuracy = fit_boundary(samples.w[rows], labels)
    x = (samples.w[rows] / samples.w[rows].var(0).mean().sqrt()).numpy()
    reference = torch.from_numpy(SVC(kernel="linear").fit(x, labels.numpy()).coef_[0].copy()).float()
    assert torch.cosine_similarity(normal, reference, 0) > 0.97 and accuracy > 0.95
    assert torch.equal(fit_boundary(samples.w[rows], labels)[0], normal)


def test_bad_input(unchecked, samples):
    with pytest.raises(ValueError, match="labels: expected two classes with 2 examples or more each, got 0"):
        fit_boundary(samples.w, torch.ones(4_000, dtype=torch.bool))
    with pytest.raises(ValueError, match="labels: expected one for each of 4000 codes"):
        fit_boundary(samples.w, torch.ones(3, dtype=torch.bool))
    with pytest.raises(ValueError, match="labels: expected booleans, got torch.float32"):
        fit_boundary(samples.w, samples.w[:, 0].sign())
    with pytest.raises(ValueError, match="expected two classes of a"):
        find_boundaries(Samples(samples.w, torch.zeros(4_000, 1), ("a",)))
    with pytest.raises(ValueError, match="share"):
        find_boundaries(samples, share=0.7)
    for names, held in ((["d"], []), (["a"], ["d"])):
        with pytest.raises(ValueError, match="got 'd'; read are: a, b, c"):
            find_boundaries(samples, names, held=held)
