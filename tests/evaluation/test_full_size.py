"""What generators of official size cost: each row in its own process, and a page of the table."""

import pandas
import pytest
import torch

from latentlab.evaluation import full_size
from latentlab.formats import rosinality
from latentlab.stylegan import Generator, GeneratorConfig


def test_the_shapes_are_the_official_ones():
    """512 channels up to 64 px, then half as many with each doubling: 512 to 32 at 1024 px."""
    assert full_size.ffhq_config(256).channels == (512,) * 5 + (256, 128)
    assert full_size.ffhq_config(1024) == GeneratorConfig(1024, 512, 512, 8, (512,) * 5 + (256, 128, 64, 32))


def test_a_file_of_the_users_is_measured(tmp_path, monkeypatch):
    """In this process: starting others takes most of the time of such a small one."""
    G = Generator(GeneratorConfig(32, 16, 16, 2, (16, 16, 16, 8)), seed=1).requires_grad_(False)
    path = tmp_path / "mine.pt"
    torch.save({"g_ema": rosinality.generator_to(G.state_dict()), "latent_avg": G.w_avg}, path)

    class Here:
        def __init__(self, *_, **__): ...
        def __enter__(self):
            return self
        def __exit__(self, *_): ...
        def submit(self, work):
            found = work()
            return type("Done", (), {"result": lambda _: found})()

    monkeypatch.setattr(full_size, "ProcessPoolExecutor", Here)
    lines = []
    table = full_size.measure_full_size([path], steps=2, say=lines.append)
    assert len(table) == len(lines) == 3 + len(full_size.INVERSIONS) and set(table["resolution"]) == {32}
    assert (table[["seconds", "processor"]] > 0).all(axis=None) and table["what"].is_unique
    one, two = (table["seconds"][table["what"].str.contains(f"{n} image")].iloc[0] for n in (1, 2))
    assert 0 < one < 100 and 0 < two < 100


@pytest.fixture
def table() -> pandas.DataFrame:
    rows = [(f"random-{r}.pt", r, what, 2.0 * r, 1.0 * r, 1024.0 * r) for r in (256, 1024)
            for what in (f"open the file ({r} MB), with a check", "draw one picture")]  # fmt: skip
    return pandas.DataFrame(rows, columns=full_size.COLUMNS).assign(device="cpu")


def test_the_page_has_a_column_for_each_file(table):
    page = full_size.describe(table, 2.0)
    assert "| | 256 px | 1024 px |" in page and "| draw one picture | 256.0 | 1024.0 |" in page
    assert "| open the file | 512.0 | 2048.0 |" in page and "2.0 other processes ran" in page
    assert "other processes" not in full_size.describe(table)
