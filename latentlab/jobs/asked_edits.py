"""Edits as a user asks for them: a factor or a file of edits, with a strength."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from torch import nn

from latentlab.editing.edit import Edit
from latentlab.editing.files import read_edits
from latentlab.editing.shipped import edits_for

Asked = tuple[str, float]  # an edit as requested: a factor or a file, and the strength


def pick_edits(G: nn.Module, edits: Sequence[Asked]) -> list[Edit]:
    """The shipped edit of each factor, and the edit of each file. An unknown factor raises ``ValueError`` that lists
    the known ones, and so does a file with several edits of which none is named."""
    names = [name for name, _ in edits]
    shipped = {} if all(map(_is_file, names)) else edits_for(G)
    if unknown := [name for name in names if not _is_file(name) and name not in shipped]:
        raise ValueError(f"edits: expected factors among {', '.join(shipped)}, or files of edits; got {unknown[0]!r}")
    return [_of_file(name, G) if _is_file(name) else shipped[name] for name in names]


def _is_file(name: str) -> bool:
    """Whether an edit is named by a file: factors have neither dots nor slashes."""
    return not name.replace("_", "").isalnum()


def _of_file(name: str, G: nn.Module) -> Edit:
    path, _, inner = (name, "", "") if Path(name).is_file() else name.rpartition(":")
    found = read_edits(path or name, G)
    if not inner and len(found) > 1:
        raise ValueError(f"edits: expected the name of one of its directions behind a file of several, e.g. "
                         f"{name}:{next(iter(found))}; got a file of {list_names(found)}")  # fmt: skip
    if inner and inner not in found:
        raise ValueError(f"edits: expected one of {list_names(found)} behind {path}:, got {inner!r}")
    return found[inner] if inner else next(iter(found.values()))


def list_names(names: Iterable[str], most: int = 12) -> str:
    """The first names of a list, for a message, and how many more there are."""
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def label_edits(G: nn.Module, asked: Sequence[Asked]) -> dict[str, tuple[Edit, float]]:
    """The edits of ``pick_edits`` and their strengths, by what their pictures and columns are called, e.g. smile+2."""
    edits, labels = pick_edits(G, asked), [_label(one) for one in asked]
    if repeated := [label for label in labels if labels.count(label) > 1]:
        raise ValueError(f"edits: expected different edits or strengths, got {repeated[0]} more than once; rename one "
                         "file if they are different")  # fmt: skip
    return {label: (edit, one[1]) for label, one, edit in zip(labels, asked, edits, strict=True)}


def _label(asked: Asked) -> str:
    """E.g. smile+2; of a file its name without folders and suffix."""
    name = asked[0]
    if _is_file(name):
        path, _, inner = (name, "", "") if Path(name).is_file() else name.rpartition(":")
        name = " ".join(filter(None, (Path(path or name).stem, inner.replace("/", "_"))))
    return f"{name}{asked[1]:+g}"
