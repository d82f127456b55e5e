"""`latentlab course`: copies of the notebooks, with and without solutions."""

import json
import re
from pathlib import Path

import pytest

from latentlab.cli import main
from latentlab.jobs.course import NOTEBOOKS, copy_course

LESSONS = sorted(path.name for path in NOTEBOOKS.glob("*.ipynb"))
SOLUTIONS = sorted(path.name for path in NOTEBOOKS.glob("solutions/*.ipynb"))


def test_a_student_gets_no_solutions(tmp_path, capsys):
    out = tmp_path / "handout"
    assert main(["course", "--student", str(out)]) == 0
    assert "without solutions" in capsys.readouterr().out
    assert sorted(path.name for path in out.rglob("*.ipynb")) == LESSONS
    assert not (out / "solutions").exists() and (out / "claims.json").read_bytes() == (
        NOTEBOOKS / "claims.json"
    ).read_bytes()
    for path in out.glob("*.ipynb"):
        text = path.read_text()
        assert "solutions/" not in text, f"{path.name} points to solutions that are not there"
        before, after = (json.loads(p.read_text()) for p in (NOTEBOOKS / path.name, path))
        assert len(before["cells"]) == len(after["cells"])
        code = [[cell["source"] for cell in notebook["cells"] if cell["cell_type"] == "code"]
                for notebook in (before, after)]  # fmt: skip
        assert code[0] == code[1]


def test_a_teacher_gets_all(tmp_path):
    files = copy_course(tmp_path / "all")
    assert sorted(path.name for path in files if path.parent.name == "solutions") == SOLUTIONS
    for path in files:
        if path.parent.name != "docs":
            text = (NOTEBOOKS / path.relative_to(tmp_path / "all")).read_text()
            assert path.read_text() == text.replace("](../docs/", "](docs/")


def test_linked_pages_come_along(tmp_path):
    """Every relative link of a copied notebook leads to a file."""
    files = copy_course(tmp_path / "out", student=True)
    texts = "".join(path.read_text() for path in tmp_path.glob("out/*.ipynb"))
    links = set(re.findall(r"\]\(([\w./-]+\.(?:md|ipynb|png))[)#]", texts))
    assert "docs/glossary.md" in links and {tmp_path / "out" / link for link in links} <= set(files)
    assert all(path.is_file() for path in files)
    for shown in re.findall(r"!\[[^]]*\]\((\w+\.png)\)", (tmp_path / "out/docs/edits.md").read_text()):
        assert (tmp_path / "out/docs" / shown).is_file()


def test_an_empty_folder_is_taken_and_a_full_one_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    copy_course(tmp_path / "empty", student=True)
    with pytest.raises(ValueError, match="folder: expected a new or an empty one"):
        copy_course(tmp_path / "empty", student=True)
    (path := tmp_path / "a file").write_text("mine")
    with pytest.raises(ValueError, match="expected a new or an empty one"):
        copy_course(path)
    assert path.read_text() == "mine"


def test_a_folder_without_notebooks_is_refused(tmp_path):
    with pytest.raises(ValueError, match="notebooks: expected a folder of notebooks"):
        copy_course(tmp_path / "out", notebooks=Path(tmp_path))
    assert not (tmp_path / "out").exists()
