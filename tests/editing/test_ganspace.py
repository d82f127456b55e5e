"""Components of W against scikit-learn's PCA, and the directions of SeFa against numpy's eigenvectors."""

import numpy as np
import pytest
import torch
from worlds import StyleWorld

from latentlab.editing.edit import State
from latentlab.editing.ganspace import find_components
from latentlab.editing.sefa import factorize
from latentlab.seeds import stream
from latentlab.spaces import measure_statistics
from latentlab.stylegan.generator import Generator, GeneratorConfig


@pytest.fixture(scope="module")
def small() -> Generator:
    return Generator(GeneratorConfig(16, 16, 16, 2, (16, 16, 8)), seed=1).requires_grad_(False).eval()


def test_components_are_those_of_sklearn():
    """Streamed in parts of 800 codes; scikit-learn holds the same 5,000 in memory."""
    from sklearn.decomposition import PCA

    G = StyleWorld(torch.randn(6, 6, generator=torch.Generator().manual_seed(3)))
    found = find_components(G, 6, n=5_000, batch_size=800)
    z = torch.randn(5_000, 6, generator=stream(0, "ganspace"))  # one stream: the parts are one draw
    reference = PCA().fit(G.mapping(z).numpy())
    for i, edit in enumerate(found.values()):
        assert edit.name == f"pc{i}" and f"{reference.explained_variance_ratio_[i]:.1%}" in edit.source
        expected = torch.from_numpy(reference.components_[i] * reference.explained_variance_[i] ** 0.5).float()
        expected = expected * expected[expected.abs().argmax()].sign()
        torch.testing.assert_close(edit.vector, expected, atol=2e-3, rtol=2e-3)


def test_statistics_stand_for_the_codes_and_layers_are_kept(small):
    statistics = measure_statistics(small, 5_000)
    edit = find_components(small, 2, layers=[3, 4], statistics=statistics)["pc1"]
    state = State(torch.zeros(2, small.num_ws, 16))
    after = edit(state, torch.tensor([1.0, 0.0]), small).w_plus
    moved = after[0].norm(dim=1) > 0
    assert moved.tolist() == [False, False, False, True, True, False] and not after[1].any()
    values = np.linalg.eigvalsh(statistics.w_covariance.numpy())
    assert after[0, 3].norm() == pytest.approx(values[-2] ** 0.5, rel=1e-4)


@pytest.mark.parametrize("torgb", [True, False])
@pytest.mark.parametrize("layers", [None, [1, 2, 5], [4]])
def test_sefa_agrees_with_numpy(small, torgb, layers):
    if layers == [1, 2, 5] and not torgb:
        layers = [1, 2]
    statistics = measure_statistics(small, 5_000)
    names = ["4.conv1", "8.conv0", "8.conv1", "16.conv0", "16.conv1"] + ["16.torgb"] * torgb
    chosen = [names[i] for i in (range(len(names)) if layers is None else layers)]
    A = np.concatenate([small.get_submodule(f"blocks.{n}").affine.weight.numpy().T for n in chosen], 1).astype(float)
    A /= np.linalg.norm(A, axis=0)
    values, vectors = np.linalg.eig(A @ A.T)  # in no order
    order = np.argsort(-values)
    found = factorize(small, 3, layers=layers, torgb=torgb, statistics=statistics)
    for i, edit in enumerate(found.values()):
        vector = (edit if layers is None else edit.edit).vector.numpy()
        assert abs(np.dot(vector / np.linalg.norm(vector), vectors[:, order[i]])) == pytest.approx(1, abs=1e-4)
        sigma = (vectors[:, order[i]] @ statistics.w_covariance.numpy() @ vectors[:, order[i]]) ** 0.5
        assert np.linalg.norm(vector) == pytest.approx(sigma, rel=1e-3)
        assert edit.layers == (None if layers is None else tuple(layers)) and edit.name == f"factor{i}"


def test_torgb_changes_the_directions(small):
    statistics = measure_statistics(small, 5_000)
    with_, without = (factorize(small, 1, torgb=t, statistics=statistics)["factor0"].vector for t in (True, False))
    assert abs(float(torch.cosine_similarity(with_, without, 0))) < 0.9999


def test_bad_input(small):
    with pytest.raises(ValueError, match="count: expected 1 to 16 components, got 17"):
        find_components(small, 17)
    with pytest.raises(ValueError, match="n: expected more codes"):
        find_components(small, 2, n=16)
    with pytest.raises(ValueError, match="statistics: expected those of the mapping network"):
        find_components(small, 2, statistics=measure_statistics(StyleWorld(), 100))
    with pytest.raises(ValueError, match="layers: expected some of 0 to 4, got .*5"):
        factorize(small, 2, layers=[5], torgb=False)
    with pytest.raises(ValueError, match="count"):
        factorize(small, 0)
