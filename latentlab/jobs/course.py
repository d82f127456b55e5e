"""Copies of the course: its notebooks with the pages that they link to, for teachers and students."""

import re
from pathlib import Path

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


def copy_course(folder: str | Path, *, student: bool = False, notebooks: Path | None = None) -> list[Path]:
    """Copies the notebooks of the course into a new or empty folder, and returns the files there.

    student: without the solutions, and without the sentences of the notebooks that point to them. notebooks: where they
    are; default: in the checkout that the package was imported from. ``claims.json``, which the notebooks show, and the
    pages of ``docs`` that they link to, with their pictures, are copied too.
    """
    source, folder = NOTEBOOKS if notebooks is None else Path(notebooks), Path(folder)
    lessons = sorted(source.glob("*.ipynb"))
    if not lessons:
        raise ValueError(f"notebooks: expected a folder of notebooks, got {source}; name that of a checkout")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"folder: expected a new or an empty one, got {folder}; nothing was written")
    texts = {path.name: path.read_text(encoding="utf-8") for path in lessons}
    if not student:
        solutions = sorted(source.glob("solutions/*.ipynb"))
        texts |= {f"solutions/{path.name}": path.read_text(encoding="utf-8") for path in solutions}
    for name in texts.keys() & {path.name for path in lessons}:
        text = _without_solutions(texts[name]) if student else texts[name]
        texts[name] = text.replace("](../docs/", "](docs/")
    files: dict[str, bytes] = {name: text.encode() for name, text in texts.items()}
    files |= {path.name: path.read_bytes() for path in source.glob("claims.json")}
    for page in sorted(set(re.findall(r"\]\(docs/([\w.-]+)", "".join(texts.values())))):
        path = source.parent / "docs" / page
        pictures = re.findall(r"!\[[^]]*\]\((\w+\.png)\)", path.read_text(encoding="utf-8"))
        files |= {f"docs/{name}": (path.parent / name).read_bytes() for name in (page, *pictures)}
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return [folder / name for name in files]


def _without_solutions(text: str) -> str:
    """A notebook's source without sentences that name the file of its solutions."""
    return re.sub(r" *`solutions/[^`]*`[^.]*\.", "", text)
