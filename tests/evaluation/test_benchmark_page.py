"""The pages of measured tables: docs/benchmarks.md and docs/weights.md."""

from pathlib import Path

import pandas
import pytest
import torch

from latentlab.cli import main
from latentlab.evaluation import benchmark_page as page
from latentlab.evaluation.tables import measure_networks
from latentlab.weights import read_manifest

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_of_weights_is_that_of_the_manifest():
    """`latentlab weights --page docs/weights.md` has been run since the manifest changed."""
    written = page.read_section((DOCS / "weights.md").read_text(), "weights")
    assert written == page.describe_weights(read_manifest()), "run `latentlab weights --page docs/weights.md`"


@pytest.mark.parametrize("name", page.COLUMNS)
def test_each_table_has_its_section_and_its_provenance(name: str):
    rows = page.read_section((DOCS / "benchmarks.md").read_text(), name).splitlines()
    assert rows[0].startswith("Measured on ") and f"--only {name}" in rows[0]
    assert [cell.strip() for cell in rows[2].strip("|").split("|")] == list(page.COLUMNS[name].values())
    assert len(rows) > 5


def test_networks_on_the_page_are_the_shipped_ones():
    """R2 on the clean faces of the real set, measured again."""
    table = measure_networks(people=2, renders=2, choices=2)
    again = table[(table["measure"] == "R2") & (table["faces"] == "real set, clean")].iloc[0]
    text = page.read_section((DOCS / "benchmarks.md").read_text(), "networks")
    (row,) = [line for line in text.splitlines() if line.startswith("| R2 | real set, clean |")]
    losses, judges = (float(cell) for cell in row.split("|")[3:5])
    assert losses == pytest.approx(again["losses"], abs=0.006) and judges == pytest.approx(again["judges"], abs=0.006)


def test_a_section_is_replaced_and_the_rest_stays(tmp_path):
    path = tmp_path / "page.md"
    path.write_text("before\n<!-- speed -->\nold\n<!-- end of speed -->\nafter\n")
    table = pandas.DataFrame({"what": ["renderer"], "value": [1272.4], "unit": ["images/s"], "threads": [2]})
    page.write_section(path, "speed", page.section("speed", table, "Measured today."))
    text = path.read_text()
    assert text.startswith("before\n") and text.endswith("\nafter\n") and "old" not in text
    assert "Measured today.\n\n| what | value | unit |" in text and "| renderer | 1,272 | images/s |" in text
    with pytest.raises(ValueError, match="expected the marks of networks once, got them 0 times"):
        page.write_section(path, "networks", "new")
    with pytest.raises(ValueError, match="got none named unit"):
        page.section("speed", table.drop(columns="unit"), "")


def test_samples_have_their_spread():
    table = pandas.DataFrame(
        {"factor": ["yaw"], "ks": [0.021], "sample_std": [1.5], "render_std": [1.0], "agreement": [float("nan")]}
    )
    assert page.section("samples", table, "").endswith("| yaw | 0.021 | 1.5 |  |")


def test_the_command_writes_what_it_measured(tmp_path, monkeypatch):
    table = pandas.DataFrame({"what": ["renderer"], "value": [5.0], "unit": ["images/s"]})
    monkeypatch.setattr("latentlab.evaluation.timing.measure_speed", lambda device: table)
    path = tmp_path / "page.md"
    path.write_text("<!-- speed -->\nold\n<!-- end of speed -->\n")
    assert main(["benchmark", "--only", "speed", "--out", str(tmp_path), "--page", str(path)]) == 0
    text = page.read_section(path.read_text(), "speed")
    assert text.startswith("Measured on ") and f"torch {torch.__version__}" in text and "| renderer | 5 |" in text


def test_the_command_prints_the_weights(capsys):
    assert main(["weights"]) == 0
    assert "`faces-64.generator.safetensors`" in capsys.readouterr().out
