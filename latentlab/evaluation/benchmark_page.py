"""Pages of measured tables: docs/benchmarks.md, a section for each table, and docs/weights.md."""

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    import pandas

# Columns of each table that the page shows, and their heads there; the CSV file beside has all of them.
COLUMNS: dict[str, dict[str, str]] = {
    "speed": {"what": "what", "value": "value", "unit": "unit"},
    "optimisers": {
        "what": "variant", "resolution": "px", "precision": "precision", "batch": "images together",
        "seconds": "seconds", "relative": "relative to the first",
    },
    "networks": {"measure": "measure", "faces": "faces", "losses": "losses", "judges": "judges", "pixels": "pixels"},
    "samples": {"factor": "factor", "ks": "KS distance", "spread": "spread", "agreement": "agreement"},
    "inversions": {
        "method": "method", "faces": "faces", "n": "n", "steps": "steps", "psnr_db": "PSNR, dB",
        "psnr_db_standard_error": "its standard error", "pn_norm": "pn_norm",
    },
    "learning-rates": {
        "method": "method", "learning_rate": "learning rate", "n": "n", "steps": "steps", "psnr_db": "PSNR, dB",
        "gained_db": "gained, dB", "gained_low": "from", "gained_high": "to", "pn_norm": "pn_norm",
    },
    "floors": {
        "floor": "floor", "raised_axes": "axes that it raises", "own_pn_norm": "own codes", "n": "n", "steps": "steps",
        "psnr_db": "PSNR, dB", "gained_db": "gained, dB", "gained_low": "from", "gained_high": "to",
        "pn_norm": "pn_norm",
    },
}  # fmt: skip


def section(name: str, table: "pandas.DataFrame", told: str) -> str:
    """A table of ``latentlab benchmark`` in Markdown, below a sentence on how it was measured.

    name: one of ``COLUMNS``. told: that sentence, e.g. by ``provenance``.
    """
    columns = COLUMNS[name]
    if name == "samples":
        table = table.assign(spread=table["sample_std"] / table["render_std"])
    if missing := [column for column in columns if column not in table]:
        raise ValueError(f"table: expected the columns of {name}, got none named {', '.join(missing)}")
    rows = [[_cell(row[column]) for column in columns] for row in table.to_dict("records")]
    return f"{told}\n\n{markdown_table(list(columns.values()), rows)}"


def markdown_table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _cell(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    if math.isnan(value):
        return ""
    digits = 4 if 0.99 < value < 1 else 3  # of an area under a curve, the distance from 1 is the result
    text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.{digits}g}"
    return text


def provenance(name: str, device: torch.device | str = "cpu") -> str:
    """When, where and by which command a table was measured."""
    where = f"{torch.get_num_threads()} threads" if str(device) == "cpu" else torch.cuda.get_device_name(device)
    return (
        f"Measured on {datetime.now(UTC):%d %B %Y} by `latentlab benchmark --only {name}`: {device}, {where}, "
        f"torch {torch.__version__}."
    )


def write_section(page: Path, name: str, text: str) -> None:
    """Replaces the part of a page between its marks ``<!-- name -->`` and ``<!-- end of name -->``.

    Raises ``ValueError`` if the page does not have both marks once.
    """
    whole = page.read_text()
    page.write_text(whole.replace(_marked(name, read_section(whole, name)), _marked(name, text)))


def read_section(whole: str, name: str) -> str:
    """The part of a page between its marks."""
    found = re.findall(re.escape(f"<!-- {name} -->\n") + "(.*?)" + re.escape(f"\n<!-- end of {name} -->"), whole, re.S)
    if len(found) != 1:
        raise ValueError(f"page: expected the marks of {name} once, got them {len(found)} times")
    return found[0]


def _marked(name: str, text: str) -> str:
    return f"<!-- {name} -->\n{text}\n<!-- end of {name} -->"


def describe_weights(manifest: Mapping[str, Mapping[str, Any]]) -> str:
    """How each file of the manifest was made, as a Markdown table."""
    rows = []
    for name, entry in manifest.items():
        images = f"{entry['images']:,}" if "images" in entry else ""
        made = [f"`{entry.get('command', '')}`", str(entry.get("seed", "")), images, entry.get("hardware", "")]
        rows.append([f"`{name}`", *made, entry.get("date", ""), f"`{entry['sha256'][:12]}`"])
    return markdown_table(["file", "command", "seed", "images", "hardware", "date", "sha256"], rows)
