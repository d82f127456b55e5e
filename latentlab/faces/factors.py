"""The factors of variation of the face world with their ranges, and ``Factors``, a batch of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from jaxtyping import Float
from torch import Tensor

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class Factor:
    """One factor of variation: its name, group, closed range, unit, kind and meaning.

    Values outside of a ``soft`` range extrapolate; outside of any other range they raise ``ValueError``.
    """

    name: str
    group: Literal["identity", "state", "scene"]
    low: float
    high: float
    unit: str
    kind: Literal["continuous", "binary"]
    description: str
    soft: bool = False


def _shape(name: str, description: str) -> Factor:
    return Factor(name, "identity", -1, 1, "relative", "continuous", description, soft=True)


def _angle(name: str, group: str, low: float, high: float, description: str) -> Factor:
    return Factor(name, group, low, high, "degrees", "continuous", description, soft=True)


def _share(name: str, group: str, description: str) -> Factor:
    return Factor(name, group, 0, 1, "share", "continuous", description)


def _axis(name: str, group: str, description: str, soft: bool = False) -> Factor:
    return Factor(name, group, -1, 1, "relative", "continuous", description, soft)


# The order is the column order of every factor tensor, and what a seed draws depends on it: only append.
TABLE: tuple[Factor, ...] = (
    _shape("face_width", "narrow to wide head"),
    _shape("face_height", "short to long head"),
    _shape("jaw_width", "pointed to square jaw"),
    _shape("eye_spacing", "close-set to wide-set eyes"),
    _shape("eye_size", "small to large eyes"),
    Factor("iris_colour", "identity", 0, 1, "palette", "continuous", "brown, hazel, green, blue, grey"),
    _shape("brow_thickness", "thin to bushy brows"),
    _shape("brow_angle", "worried (inner ends up) to stern (inner ends down)"),
    _shape("nose_size", "short and flat to long and prominent nose"),
    _shape("nose_width", "narrow to wide nose"),
    _shape("mouth_width", "narrow to wide mouth"),
    Factor("skin_tone", "identity", 0, 1, "palette", "continuous", "light to dark skin"),
    _axis("skin_warmth", "identity", "rosy to golden undertone"),
    Factor("hair_tone", "identity", 0, 1, "palette", "continuous", "black, brown, blond"),
    _share("hair_red", "identity", "no red to ginger"),
    _share("hair_grey", "identity", "coloured to grey or white hair"),
    _angle("yaw", "state", -35, 35, "head turned to the image's left (-) or right (+)"),
    _angle("pitch", "state", -15, 15, "head lowered (-) or raised (+)"),
    _angle("roll", "state", -10, 10, "head tilted clockwise (-) or counter-clockwise (+)"),
    _axis("smile", "state", "sad, neutral (0), smiling", soft=True),
    _share("mouth_open", "state", "closed to wide open mouth"),
    _axis("gaze_x", "state", "looking to the image's left or right"),
    _axis("gaze_y", "state", "looking down or up"),
    _share("age", "state", "wrinkles, some grey and a receding hairline"),
    _share("beard", "state", "clean-shaven, stubble, full beard"),
    Factor("glasses", "state", 0, 1, "on/off", "binary", "without or with glasses"),
    _share("hair_length", "state", "cropped to over the shoulders"),
    _share("fringe", "state", "free forehead to fringe at the brows"),
    _angle("light_azimuth", "scene", -70, 70, "light from the image's left (-) or right (+)"),
    _angle("light_elevation", "scene", -10, 60, "light from below or above"),
    _share("background_light", "scene", "dark to light background"),
    _axis("background_a", "scene", "green to magenta background"),
    _axis("background_b", "scene", "blue to yellow background"),
    _share("shirt_light", "scene", "dark to light shirt"),
    _axis("shirt_a", "scene", "green to magenta shirt"),
    _axis("shirt_b", "scene", "blue to yellow shirt"),
)
NAMES: tuple[str, ...] = tuple(f.name for f in TABLE)
COLUMN: dict[str, int] = {name: i for i, name in enumerate(NAMES)}
BINARY_NAMES: tuple[str, ...] = tuple(f.name for f in TABLE if f.kind == "binary")
# Those that edits, tables and widgets show first.
MAIN_NAMES = ("smile", "mouth_open", "age", "glasses", "yaw", "pitch", "beard", "hair_length", "light_azimuth")
IDENTITY = torch.tensor([f.group == "identity" for f in TABLE])  # mask of the identity factors, (K,)


def column(name: str) -> int:
    """Column index of a factor. An unknown name raises ``ValueError`` that lists the known ones."""
    if name not in COLUMN:
        raise ValueError(f"factor: expected one of {', '.join(NAMES)}; got {name!r}")
    return COLUMN[name]


class Factors:
    """A batch of factors: ``values``, float32 (N, K), with one column per entry of ``TABLE``."""

    def __init__(self, values: Float[Tensor, "n k"]) -> None:
        if values.ndim != 2 or values.shape[1] != len(TABLE):
            raise ValueError(f"values: expected shape (N, {len(TABLE)}), got {tuple(values.shape)}")
        values = values.to(torch.float32)
        if not torch.isfinite(values).all():
            bad = [NAMES[j] for j in (~torch.isfinite(values)).any(0).nonzero()[:, 0].tolist()]
            raise ValueError(f"values: expected finite factors, got NaN or infinity in {', '.join(bad)}")
        _check_ranges(values)
        self.values = values

    def __len__(self) -> int:
        return self.values.shape[0]

    def __repr__(self) -> str:
        return f"Factors({len(self)} faces x {len(TABLE)} factors)"

    def __getitem__(self, key: str | int | slice | list | Tensor) -> Tensor | Factors:
        """``f["smile"]`` is a tensor (N,); ``f[3]``, ``f[2:5]`` and ``f[mask]`` select faces and give ``Factors``."""
        if isinstance(key, str):
            return self.values[:, column(key)]
        chosen = self.values[key]
        return Factors(chosen[None] if chosen.ndim == 1 else chosen)

    @property
    def device(self) -> torch.device:
        """The device of the values, on which the renderer runs."""
        return self.values.device

    def to(self, device: torch.device | str) -> Factors:
        """The same factors on another device."""
        return Factors(self.values.to(device))

    def replace(self, **changes: float | int | Tensor) -> Factors:
        """A copy with some of the factors set to a number or to a tensor (N,)."""
        values = self.values.clone()
        for name, new in changes.items():
            new = torch.as_tensor(new, dtype=values.dtype, device=values.device)
            if new.ndim > 1 or (new.ndim == 1 and len(new) not in (1, len(self))):
                raise ValueError(f"{name}: expected a number or shape ({len(self)},), got shape {tuple(new.shape)}")
            values[:, column(name)] = new
        return Factors(values)

    def to_frame(self) -> pandas.DataFrame:
        """A pandas table, one row per face and one column per factor."""
        import pandas  # a heavy import that the renderer itself does not need

        return pandas.DataFrame(self.values.cpu().numpy(), columns=list(NAMES))

    @staticmethod
    def concat(parts: Iterable[Factors]) -> Factors:
        """Concatenates batches."""
        return Factors(torch.cat([part.values for part in parts]))


def _check_ranges(values: Tensor) -> None:
    low = values.new_tensor([f.low for f in TABLE])
    high = values.new_tensor([f.high for f in TABLE])
    hard = torch.tensor([not f.soft for f in TABLE], device=values.device)
    outside = ((values < low - 1e-6) | (values > high + 1e-6)) & hard
    binary = torch.tensor([f.kind == "binary" for f in TABLE], device=values.device)
    outside |= binary & (values != 0) & (values != 1)
    if outside.any():
        row, col = outside.nonzero()[0].tolist()
        f = TABLE[col]
        allowed = "0 or 1" if f.kind == "binary" else f"{f.low:g} to {f.high:g}"
        raise ValueError(f"{f.name}: expected {allowed}, got {values[row, col].item():g} for face {row}")
