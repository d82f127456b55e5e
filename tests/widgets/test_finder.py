"""The widget that finds an edit, without a browser: marks, pages, what is found, and the file."""

import math

import pytest
import torch
from small import small_generator

import latentlab as ll
from latentlab.editing.files import load_edit
from latentlab.editing.samples import Reader
from latentlab.images import tile
from latentlab.widgets.finder import PAGE, STRENGTHS, Choice

LIKED, DISLIKED = (0, 3, 14, 20, 25, 31), (1, 4, 15, 21, 26, 30)


def light(images: torch.Tensor) -> torch.Tensor:
    return torch.stack([images.mean((1, 2, 3)), images[:, 0].mean((1, 2))], 1)


READ = Reader(light, ("light", "red"))


@pytest.fixture(scope="module")
def G():
    return small_generator()


@pytest.fixture(scope="module")
def statistics(G):
    return ll.measure_statistics(G, 5_000)


@pytest.fixture
def panel(G, statistics) -> ll.widgets.Finder:
    return ll.widgets.find(G, name="pale", statistics=statistics, read=READ)


def mark(panel, liked=LIKED, disliked=DISLIKED) -> None:
    for i, value in [*((i, 1) for i in liked), *((i, -1) for i in disliked)]:
        panel.set(page=1 + i // PAGE)
        panel.controls[f"face_{i % PAGE}"].value = value


def test_marks_are_kept_over_pages(panel, G):
    mark(panel)
    assert panel.state == Choice(LIKED, DISLIKED, "pale") and panel.error.value == ""
    panel.set(page=2)
    assert [b.value for b in panel._buttons] == [{14: 1, 20: 1, 15: -1, 21: -1}.get(i, 0) for i in range(12, 24)]
    assert [b.tooltips[-1] for b in panel._buttons] == [f"face {i} is liked" for i in range(12, 24)]
    faces = G.synthesis(G.broadcast(panel.state.codes(G)[12:24]))
    torch.testing.assert_close(torch.cat([p.image for p in panel.pictures[:PAGE]]), faces)
    assert panel.pictures[2].alt == "Face: 14, liked" and panel.pictures[4].alt == "Face: 16"
    panel.set(page=3, face_11=1)  # page and mark at once: the mark belongs to the new page
    assert panel.state.liked == (*LIKED, 35) and panel.state.disliked == DISLIKED
    panel.set(page=20)
    panel._next()
    assert panel.controls["page"].value == 1


def test_the_edit_is_that_of_the_choices(panel, G, statistics):
    mark(panel)
    assert panel.pictures[PAGE].layout.display == "none" and panel.report.value == ""
    panel.find_button.click()
    assert panel.error.value == "" and panel.pictures[PAGE].layout.display is None
    expected = ll.widgets.find(G, liked=LIKED, disliked=DISLIKED, name="pale", statistics=statistics, read=READ).find()
    found = panel.finding
    assert torch.equal(found.edit.step, expected.edit.step) and found.edit.name == "pale"
    assert expected.agreement == found.agreement and torch.equal(expected.effect.mean, found.effect.mean)
    assert f"left out: {expected.agreement:.2f}" in panel.report.value and "press Find again" not in panel.report.value
    assert all(name in panel.report.value for name in READ.names) and "scatter" in panel.report.value
    w = panel.state.codes(G)[-4:]
    for picture, s in zip(panel.pictures[PAGE:], STRENGTHS, strict=True):
        after = ll.apply_edit(expected.edit, ll.State(G.broadcast(w)), torch.full((4,), s), G).draw(G)
        assert tile(picture.image, 1).tobytes() == tile(after, 2).tobytes()
        assert picture.alt == f"Strength {s:g}: pale on four faces"
    scope = {"G": G, "statistics": statistics, "read": READ}
    exec(panel.code.value, scope)
    assert torch.equal(scope["found"].edit.step, expected.edit.step)
    assert torch.equal(scope["found"].effect.mean, expected.effect.mean)
    torch.testing.assert_close(scope["images"], after)
    before = panel.code.value
    panel.set(name="other")
    assert "press Find again" in panel.report.value and panel.code.value == before  # still of the edit that is shown


def test_reset_goes_back_to_the_beginning(G, statistics):
    panel = ll.widgets.find(G, liked=[0, 12], disliked=[1], statistics=statistics, read=READ)
    first = [picture.value for picture in panel.pictures]
    panel.find()
    mark(panel, liked=[2, 13], disliked=[12])
    panel.reset_button.click()
    assert panel.state == Choice((0, 12), (1,)) and panel.finding is None and panel.report.value == ""
    assert [picture.value for picture in panel.pictures] == first and panel.controls["page"].value == 1
    assert all(control.description or control.tooltips for control in panel.controls.values())


def test_an_edit_is_saved_and_nothing_overwritten(panel, G, tmp_path):
    panel.stem.value = str(tmp_path / "pale")
    panel.save_button.click()
    assert "edit: expected one to save, got none" in panel.error.value and not list(tmp_path.iterdir())
    mark(panel)
    panel.find_button.click()
    panel.save_button.click()
    panel.save_button.click()
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["pale-2.edit.safetensors", "pale.edit.safetensors"] and "pale-2.edit" in panel.status.value
    assert torch.equal(load_edit(tmp_path / names[1], G).step, panel.finding.edit.step)


def test_what_cannot_be_found_is_told(panel, G, statistics):
    mark(panel, liked=[0], disliked=[])
    panel.find_button.click()
    assert "liked, disliked: expected at least one sample each, got 1 and 0" in panel.error.value
    assert panel.finding is None and not panel.find_button.disabled
    two = ll.widgets.find(G, liked=[0], disliked=[1], statistics=statistics)  # nothing reads 16 px
    assert math.isnan(two.find().agreement) and two.finding.effect is None
    assert "too few to leave some out" in two.report.value and "no effect measured" in two.report.value
    with pytest.raises(ValueError, match=r"liked, disliked: expected numbers from 0 to 239, got \[240\]"):
        ll.widgets.find(G, liked=[240])


def test_the_still_image_has_rows(panel):
    mark(panel)
    assert panel._repr_mimebundle_()["text/plain"].count("Face: ") == PAGE
    assert "Strength" not in panel._repr_mimebundle_()["text/plain"]
    panel.find()
    assert "Strength 2: pale on four faces" in panel._repr_mimebundle_()["text/plain"]
