"""The widgets in a real JupyterLab, used by mouse and keyboard in a browser without network."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[2]
CELLS = (
    "import torch\nimport latentlab as ll\n"
    "from latentlab.widgets.selections import MixSelection\nG = ll.load('faces-64')",
    "ll.widgets.explore(G, seed=3)",
    "w = torch.cat([MixSelection(seed).latent(G) for seed in range(3)])\n"
    "inv = ll.Inversion(ll.State(w), G.synthesis(w), G, 'known')\nll.widgets.edit(inv)",
    "ll.widgets.scrub(ll.invert(inv.image[:2], G, steps=6, record=2), inv.image[:2])",
)
SERVER = """
--no-browser --allow-root --ip=127.0.0.1 --IdentityProvider.token=t --LabApp.expose_app_in_browser=True
--ServerApp.root_dir=. --LabApp.extension_manager=readonly
--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate
""".split()
BROWSER = """
--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
--disable-component-update --disable-sync
""".split()
KERNEL_IDLE = "() => window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"
DECODED = "q => { const i = document.querySelector(q); return i && i.complete && i.naturalWidth === 256; }"
MINUTE = 60_000


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[str]:
    """The address of a JupyterLab server whose only notebook has three of the widgets."""
    cells = [nbformat.v4.new_code_cell(source) for source in CELLS]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), tmp_path / "probe.ipynb")
    config = tmp_path / "config" / "labconfig"
    config.mkdir(parents=True)
    news = {"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": True}}  # it opens a dialog
    (config / "page_config.json").write_text(json.dumps(news))
    folders = {"JUPYTER_CONFIG_DIR": "config", "JUPYTER_DATA_DIR": "data", "JUPYTER_RUNTIME_DIR": "run"}
    folders |= {"IPYTHONDIR": "ipython", "JUPYTERLAB_SETTINGS_DIR": "settings", "JUPYTERLAB_WORKSPACES_DIR": "spaces"}
    env = os.environ | {key: str(tmp_path / name) for key, name in folders.items()} | {"PYTHONPATH": str(ROOT)}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with (tmp_path / "lab.log").open("w") as log:
        command = [sys.executable, "-m", "jupyter", "lab", *SERVER, f"--port={port}"]
        server = subprocess.Popen(command, cwd=tmp_path, env=env, stdout=log, stderr=log)
        try:
            _wait_for(f"http://127.0.0.1:{port}/api?token=t", server)
            yield f"http://127.0.0.1:{port}/lab/tree/probe.ipynb?token=t&reset"
        finally:
            server.terminate()  # JupyterLab stops its kernels first
            server.wait(30)


def _wait_for(address: str, server: subprocess.Popen) -> None:
    for _ in range(240):
        assert server.poll() is None, "JupyterLab did not start: see lab.log"
        try:
            urllib.request.urlopen(address, timeout=2).close()
            return
        except OSError:
            time.sleep(0.25)
    raise TimeoutError(f"no answer from {address}")


def _change(page, image: str, act) -> None:
    """Runs ``act`` and waits until the image has another source and is decoded."""
    before = page.get_attribute(image, "src")
    act()
    page.wait_for_function("([q, old]) => document.querySelector(q).src !== old", arg=[image, before], timeout=MINUTE)
    page.wait_for_function(DECODED, arg=image, timeout=MINUTE)


def _drag(page, handle: str, dx: int) -> None:
    page.locator(handle).first.scroll_into_view_if_needed()
    box = page.locator(handle).first.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + dx, y, steps=8)
    page.mouse.up()


@pytest.mark.browser
def test_in_jupyterlab(lab: str, tmp_path: Path):
    from playwright.sync_api import sync_playwright

    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    errors, outside = [], []
    with sync_playwright() as play:
        context = play.chromium.launch_persistent_context(
            str(tmp_path / "profile"),
            executable_path=chromium,
            headless=True,
            args=BROWSER,
            viewport={"width": 1100, "height": 1000},
        )
        page = context.pages[0]
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)

        def note_outside(request) -> None:
            if "://" in request.url and "://127.0.0.1" not in request.url and not request.url.startswith("blob:"):
                outside.append(request.url)

        page.on("request", note_outside)
        page.goto(lab)
        # Before the kernel is idle, running the cells opens a dialog that asks for a kernel.
        page.wait_for_function(KERNEL_IDLE, timeout=2 * MINUTE)
        page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-all-cells'); }")
        page.wait_for_function(DECODED, arg=".ll-edit .ll-image", timeout=2 * MINUTE)
        _use_the_explorer(page)
        page.screenshot(path=tmp_path / "explore.png")
        _use_the_editor(page)
        page.screenshot(path=tmp_path / "edit.png")
        _use_the_scrubber(page)
        page.screenshot(path=tmp_path / "scrub.png")
        dark = "window.jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Dark'});"
        page.evaluate(f"() => {{ {dark} }}")
        page.wait_for_selector("body[data-jp-theme-light='false']", state="attached", timeout=MINUTE)
        page.wait_for_timeout(1000)  # its style sheet is loaded a little later
        page.screenshot(path=tmp_path / "edit-dark.png")
        page.locator(".ll-explore").scroll_into_view_if_needed()
        page.screenshot(path=tmp_path / "explore-dark.png")
        context.close()
    assert errors == [] and outside == []


def _use_the_explorer(page) -> None:
    mix = ".ll-explore .ll-picture:nth-child(3) .ll-image"
    _change(page, mix, lambda: _drag(page, ".ll-explore .ll-psi .noUi-handle", 25))
    psi = page.locator(".ll-explore .ll-psi .noUi-handle")
    assert (psi.get_attribute("role"), psi.get_attribute("aria-label")) == ("slider", "psi")
    assert page.locator(".ll-explore .ll-layers .noUi-handle").last.get_attribute("aria-label") == "B's layers, end"
    psi.focus()
    _change(page, mix, lambda: page.keyboard.press("ArrowLeft"))
    assert page.get_attribute(mix, "alt").startswith("Mix: seed 3, layers 4 to 9 (16 to 64 px) from seed 1, psi ")
    assert "ms per frame" in page.inner_text(".ll-explore .ll-status")
    _change(page, mix, lambda: page.click(".ll-explore .ll-random >> nth=0"))
    _change(page, mix, lambda: page.click(".ll-explore .ll-reset"))
    code = """() => document.querySelector('.ll-explore .ll-codebox').innerText.includes('stream(3, "latents")')"""
    page.wait_for_function(code, timeout=MINUTE)  # the code is updated after the image
    page.click(".ll-explore .ll-codebox button")  # it copies or, if the browser does not allow that, selects
    page.wait_for_function(
        "() => /Copied|Selected/.test(document.querySelector('.ll-explore .ll-codebox button').innerText)"
    )


def _use_the_editor(page) -> None:
    after = ".ll-edit .ll-picture:nth-child(2) .ll-image"
    page.locator(".ll-edit").scroll_into_view_if_needed()
    _change(page, after, lambda: _drag(page, ".ll-edit .ll-hair-length .noUi-handle", 30))
    assert "hair_length +" in page.get_attribute(after, "alt")
    page.locator(".ll-edit .ll-hair-length .noUi-handle").focus()
    _change(page, after, lambda: page.keyboard.press("ArrowLeft"))
    _change(page, after, lambda: page.select_option(".ll-edit .ll-face select", index=1))
    page.click(".ll-edit .ll-save")
    page.wait_for_function("() => document.querySelector('.ll-edit .ll-status').innerText.includes('edited-face.png')")
    assert page.inner_text(".ll-edit .ll-error") == ""


def _use_the_scrubber(page) -> None:
    found = ".ll-scrub .ll-picture:nth-child(2) .ll-image"
    page.wait_for_function(DECODED, arg=found, timeout=MINUTE)
    page.locator(".ll-scrub").scroll_into_view_if_needed()
    step = page.locator(".ll-scrub .ll-step .noUi-handle")
    step.focus()
    _change(page, found, lambda: page.keyboard.press("ArrowLeft"))
    assert page.get_attribute(found, "alt").startswith("Found: face 0 after 4 of 6 steps, PSNR ")
    assert (step.get_attribute("aria-label"), step.get_attribute("aria-valuetext")) == ("step", "4")
    play, start = (page.get_by_role("button", name=name) for name in ("play or pause", "back to the start"))
    _change(page, found, lambda: start.click())
    _change(page, found, lambda: play.click())
    page.wait_for_function("q => document.querySelector(q).alt.includes('after 6 of 6')", arg=found, timeout=MINUTE)
    code = "() => document.querySelector('.ll-scrub .ll-codebox').innerText.includes('path[3]')"
    page.wait_for_function(code, timeout=MINUTE)  # the code is updated after the image
    assert page.inner_text(".ll-scrub .ll-error") == ""
