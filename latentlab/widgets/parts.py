"""Parts of the widgets: an image with alt text, a code box, and the panel that contains them."""

import html
import io
import time
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anywidget
import ipywidgets
import matplotlib
import torch
import torch.nn.functional as F
import traitlets
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from latentlab.images import tile_titled, to_uint8

SHOWN = 256  # side of an image in CSS pixels
SIDES = (256, 512)  # least and largest side of the file that is sent, in pixels; other images are resampled
LABEL = {"description_width": "8.5em"}  # wide enough for "background light"


def enlarge(image: Float[Tensor, "1 3 r r"]) -> Image.Image:
    """One image in [-1, 1], resampled to a side within ``SIDES`` by a Lanczos filter."""
    picture = Image.fromarray(to_uint8(image)[0])
    side = min(max(picture.width, SIDES[0]), SIDES[1])
    return picture.resize((side, side), Image.Resampling.LANCZOS)


def quartet(images: Float[Tensor, "4 3 r r"]) -> Float[Tensor, "1 3 s s"]:
    """Four images in two rows as one."""
    return torch.cat([torch.cat(list(pair), 2) for pair in images.split(2)], 1)[None]


def encode(picture: Image.Image, format: str = "JPEG", **knobs: Any) -> bytes:
    """Encodes an image. In JupyterLab at 512 px JPEG gave 12.5 frames per second, PNG 7.2, a matplotlib figure 3.2."""
    file = io.BytesIO()
    picture.save(file, format, **knobs)
    return file.getvalue()


class Picture(anywidget.AnyWidget):
    """An image with a caption and alt text, which ipywidgets.Image does not have."""

    _esm = """
    function render({ model, el }) {
      const figure = document.createElement("figure");
      const img = document.createElement("img");
      const caption = document.createElement("figcaption");
      figure.className = "ll-figure";
      img.className = "ll-image";
      figure.append(img, caption);
      el.append(figure);
      let url;
      const draw = () => {
        const old = url;
        url = URL.createObjectURL(new Blob([model.get("value")], { type: "image/jpeg" }));
        img.src = url;
        if (old) URL.revokeObjectURL(old);
      };
      const name = () => { img.alt = model.get("alt"); caption.textContent = model.get("caption"); };
      model.on("change:value", draw);
      model.on("change:alt change:caption", name);
      draw();
      name();
      return () => { model.off("change:value", draw); URL.revokeObjectURL(url); };
    }
    export default { render };
    """
    _css = """
    .ll-figure { margin: 0; max-width: 256px; }
    .ll-image { display: block; width: 100%; height: auto; border-radius: 3px; }
    .ll-figure figcaption {
      color: var(--jp-ui-font-color1); font: var(--jp-ui-font-size1, 13px)/1.4 var(--jp-ui-font-family, sans-serif);
      padding-top: 4px;
    }
    """
    value = traitlets.Bytes(b"").tag(sync=True)
    alt = traitlets.Unicode("").tag(sync=True)
    caption = traitlets.Unicode("").tag(sync=True)

    def __init__(self, name: str) -> None:
        layout = ipywidgets.Layout(flex=f"0 1 {SHOWN}px", min_width="96px", margin="2px 12px 6px 0")
        super().__init__(layout=layout)
        self.name = name
        self.image: Tensor | None = None
        self.state: Any = None  # the state that the image shows
        self.add_class("ll-picture")

    def show(self, state: Any, image: Float[Tensor, "1 3 r r"], words: str) -> None:
        """Shows an image; ``words`` describe it."""
        self.value = encode(enlarge(image), quality=88, subsampling=0)
        self.alt, self.caption = f"{self.name}: {words}", f"{self.name}: {words}"
        self.image, self.state = image, state


class CodeBox(anywidget.AnyWidget):
    """Python code with a button that copies it."""

    _esm = """
    function render({ model, el }) {
      const box = document.createElement("details");
      const title = document.createElement("summary");
      const pre = document.createElement("pre");
      const button = document.createElement("button");
      box.className = "ll-codebox";
      title.textContent = "This picture as code";
      button.textContent = "Copy as code";
      button.className = "jupyter-button lm-Widget";
      button.type = "button";
      pre.tabIndex = 0;
      pre.setAttribute("aria-label", "Python code of this picture");
      box.append(title, pre, button);
      el.append(box);
      box.open = true;
      const draw = () => { pre.textContent = model.get("value"); button.textContent = "Copy as code"; };
      button.onclick = async () => {
        try {
          await navigator.clipboard.writeText(model.get("value"));
          button.textContent = "Copied";
        } catch {  // browsers allow this on https and localhost only: select the text for Ctrl+C
          getSelection().selectAllChildren(pre);
          button.textContent = "Selected: press Ctrl+C";
        }
      };
      model.on("change:value", draw);
      draw();
      return () => model.off("change:value", draw);
    }
    export default { render };
    """
    _css = """
    .ll-codebox { color: var(--jp-ui-font-color1); font-size: var(--jp-ui-font-size1, 13px); margin: 4px 0; }
    .ll-codebox summary { cursor: pointer; }
    .ll-codebox pre {
      background: var(--jp-layout-color2, #eee); color: var(--jp-content-font-color1, inherit);
      font: var(--jp-code-font-size, 13px)/1.4 var(--jp-code-font-family, monospace);
      margin: 4px 0; padding: 6px 8px; overflow-x: auto;
    }
    """
    value = traitlets.Unicode("").tag(sync=True)


class Names(anywidget.AnyWidget):
    """Accessible names for the controls of its panel: sliders by label, their values by readout, and play buttons.

    ipywidgets 8 gives a slider handle a role and a value but no name, so that a screen reader reads "0.7, slider". For
    a selection it reads the index in the list, and the buttons of a play control have icons only.
    """

    _esm = """
    function render({ el }) {
      let watch, wait;
      const name = root => root.querySelectorAll(".widget-inline-hbox, .widget-hslider").forEach(row => {
        const label = row.querySelector(".widget-label")?.textContent;
        const handles = row.querySelectorAll(".noUi-handle");
        handles.forEach((handle, i) => handle.setAttribute("aria-label",
          handles.length > 1 ? `${label}, ${i ? "end" : "start"}` : label));
        const readout = row.querySelector(".widget-readout")?.textContent;
        if (handles.length === 1 && readout) handles[0].setAttribute("aria-valuetext", readout);
        row.querySelectorAll(":scope.widget-play > button").forEach((button, i) =>
          button.setAttribute("aria-label", button.title = ["play or pause", "back to the start", "repeat"][i]));
      });
      const attach = () => {
        const root = el.closest(".ll-panel");
        if (!root) { wait = requestAnimationFrame(attach); return; }
        watch = new MutationObserver(() => name(root));
        watch.observe(root, { childList: true, subtree: true });
        name(root);
      };
      attach();
      return () => { cancelAnimationFrame(wait); watch?.disconnect(); };
    }
    export default { render };
    """

    def __init__(self) -> None:
        super().__init__(layout=ipywidgets.Layout(height="0", margin="0", overflow="hidden"))


def slider(label: str, value: float, low: float, high: float, step: float, tip: str) -> ipywidgets.FloatSlider:
    """A slider that updates its panel while it is dragged."""
    return ipywidgets.FloatSlider(
        value,
        min=low,
        max=high,
        step=step,
        readout_format=".2f" if step < 0.1 else ".1f",
        description=label,
        tooltip=tip,
        style=LABEL,
        layout=ipywidgets.Layout(width="auto"),
    )


def layers_slider(label: str, value: tuple[int, int], num_ws: int, tip: str) -> ipywidgets.IntRangeSlider:
    """A slider for a half-open range of layers: of ten layers, 0 - 10 selects all and 4 - 4 none."""
    layout = ipywidgets.Layout(width="auto")
    return ipywidgets.IntRangeSlider(
        value=value, min=0, max=num_ws, description=label, tooltip=tip, style=LABEL, layout=layout
    )


def face_choice(n: int) -> ipywidgets.Dropdown:
    """A choice among ``n`` faces, hidden if there is only one."""
    options = [(f"face {i}", i) for i in range(n)]
    layout = ipywidgets.Layout(width="auto", display=None if n > 1 else "none")
    return ipywidgets.Dropdown(options=options, value=0, description="face", style=LABEL, layout=layout)


def grid(children: list[ipywidgets.Widget]) -> ipywidgets.GridBox:
    """Controls in as many columns as fit into the width."""
    columns = "repeat(auto-fit, minmax(min(300px, 100%), 1fr))"
    return ipywidgets.GridBox(
        children, layout=ipywidgets.Layout(grid_template_columns=columns, grid_gap="0 16px", width="100%")
    )


def row(children: list[ipywidgets.Widget], wrap: bool = True) -> ipywidgets.Box:
    """Widgets in a row that wraps if it is too narrow or, with ``wrap=False``, shrinks them."""
    flow = "row wrap" if wrap else "row nowrap"
    return ipywidgets.Box(children, layout=ipywidgets.Layout(flex_flow=flow, align_items="flex-start"))


class Panel(ipywidgets.VBox):
    """Base class of the widgets: images, controls (name -> widget), a code box, and lines for status and errors.

    A subclass defines in ``_jobs`` what each image shows and in ``_code`` the code that reproduces it. columns: images
    in a row of the still image, None for all.
    """

    columns: int | None = None

    def __init__(self, controls: dict[str, ipywidgets.Widget], pictures: list[Picture], name: str) -> None:
        super().__init__(layout=ipywidgets.Layout(width="100%"))
        self.controls, self.pictures = controls, pictures
        self.defaults = {key: control.value for key, control in controls.items()}
        self.code = CodeBox()
        self.status, self.warning, self.error = (ipywidgets.HTML() for _ in range(3))
        self.reset_button = ipywidgets.Button(description="Reset", tooltip="Set all controls to their initial values")
        self.reset_button.on_click(lambda _: self.reset())
        self._held = False
        for key, control in controls.items():
            control.add_class(f"ll-{key.replace('_', '-')}")
            control.observe(lambda _: self._held or self.refresh(), "value")
        parts = {"status": self.status, "warning": self.warning, "error": self.error}
        parts |= {"code": self.code, "reset": self.reset_button}
        for key, part in parts.items():
            part.add_class(f"ll-{key}")
        self.add_class("ll-panel")
        self.add_class(f"ll-{name}")

    def stack(self) -> None:
        """Lays out the pictures in one row above the controls, the button, the lines and the code."""
        self.children = [
            row(self.pictures, wrap=False),
            grid(list(self.controls.values())),
            row([self.reset_button]),
            *(self.status, self.error, self.code, Names()),
        ]

    def _jobs(self) -> list[tuple[Any, Callable[[], Tensor], str]]:
        """For each image: its state, a function that makes it, and its description."""
        raise NotImplementedError

    def _code(self) -> str:
        raise NotImplementedError

    def set(self, **values: Any) -> None:
        """Sets several controls, by name, and redraws once."""
        self._held = True
        try:
            for key, value in values.items():
                self.controls[key].value = value
        finally:
            self._held = False
        self.refresh()

    def reset(self) -> None:
        """Sets all controls to their initial values and redraws all images."""
        for picture in self.pictures:
            picture.state = None
        self.set(**self.defaults)

    def refresh(self) -> None:
        """Redraws the images whose state has changed, and shows the time per frame."""
        self.attempt(self._draw)

    def attempt(self, action: Callable[[], object]) -> None:
        """Runs an action and shows its error, if it raises one, in the panel."""
        try:
            action()
        except Exception as error:  # raised in a callback, it would appear only in JupyterLab's log
            self._say_error(f"{type(error).__name__}: {error}")
        else:
            self._say_error("")

    def _say_error(self, words: str) -> None:
        _alert(self.error, words, "color: var(--jp-error-color1, #b00020)")

    def warn(self, words: str) -> None:
        """Shows a warning, for subclasses that place ``warning`` among their children; no words remove it."""
        bar = "border-left: 4px solid var(--jp-warn-color1, #ff9800); padding-left: 6px"
        _alert(self.warning, words, f"color: var(--jp-ui-font-color1); {bar}")

    def say(self, words: str) -> None:
        """Shows a line of status."""
        style = "color: var(--jp-ui-font-color1); line-height: 1.4; overflow-wrap: anywhere"
        self.status.value = f'<div role="status" style="{style}">{html.escape(words)}</div>'

    def _draw(self) -> None:
        start = time.perf_counter()
        stale = [(p, *job) for p, job in zip(self.pictures, self._jobs(), strict=True) if p.state != job[0]]
        for picture, state, make, words in stale:
            picture.show(state, make(), words)
        if stale:
            self.say(f"{1000 * (time.perf_counter() - start) / len(stale):.0f} ms per frame")
        self.code.value = self._code()

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        """Adds a still image for viewers that do not support widgets, such as Markdown.

        HTML by nbconvert prefers the widget, which does not work without a kernel, unless its
        ``NbConvertBase.display_data_priority`` puts image/png first.
        """
        bundle = super()._repr_mimebundle_(**kwargs)
        visible = [p for p in self.pictures if p.image is not None and p.layout.display != "none"]
        images = [p.image.float().cpu() for p in visible]
        if images:
            side = max(SHOWN, *(image.shape[-1] for image in images))
            images = torch.cat([F.interpolate(image, side, mode="nearest-exact") for image in images])
            captions, columns = [p.caption for p in visible], self.columns or len(images)
            sheet = tile_titled(images, captions, columns, Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf"))
            bundle["image/png"] = b64encode(encode(sheet, "PNG")).decode()
            bundle["text/plain"] = "\n".join(p.alt for p in visible)
        return bundle


def _alert(line: ipywidgets.HTML, words: str, style: str) -> None:
    style += "; white-space: pre-wrap; line-height: 1.4"
    line.value = f'<div role="alert" style="{style}">{html.escape(words)}</div>' if words else ""
    line.layout.display = None if words else "none"
