"""Pictures for the report: PNGs as data addresses, the strip for the README, and loss curves as inline SVG."""

from __future__ import annotations

import base64
import csv
import io
import math
import os
from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

GREY = "#7d8590"  # readable on light and on dark
BLUE = "#2f81f7"


def data_address(picture: NDArray) -> str:
    """uint8 (H, W, 3) or (H, W), or float (H, W) in [0, 1], as a PNG in a data: address."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(_bytes(picture)).save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _bytes(picture: NDArray) -> NDArray[np.uint8]:
    if picture.dtype == np.uint8:
        return picture
    return (picture * 255).round().clip(0, 255).astype(np.uint8)


def strip(rows: list[tuple[str, list[NDArray]]], cell: int = 96, gap: int = 6) -> bytes:
    """A PNG with a labelled row per kind of picture and a column per photo; the background is transparent."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(14)
    margin = max(int(font.getlength(label)) for label, _ in rows) + 2 * gap
    columns = max(len(pictures) for _, pictures in rows)
    canvas = Image.new("RGBA", (margin + columns * (cell + gap), len(rows) * (cell + gap)))
    draw = ImageDraw.Draw(canvas)
    for i, (label, pictures) in enumerate(rows):
        top = i * (cell + gap)
        draw.text((margin - 2 * gap, top + cell // 2), label, fill=GREY, font=font, anchor="rm")
        for j, picture in enumerate(pictures):
            photo = Image.fromarray(_bytes(picture)).convert("RGB")
            canvas.paste(photo.resize((cell, cell), Image.Resampling.BICUBIC), (margin + j * (cell + gap), top))
    buffer = io.BytesIO()
    canvas.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def read_losses(path: Path) -> tuple[NDArray[np.float64], dict[str, NDArray[np.float64]]]:
    """losses.csv (step, epoch, lr, a column per loss) as steps and losses; empty cells are NaN. No file: empty."""
    if not path.is_file():
        return np.zeros(0), {}
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    names = [name for name in (rows[0] if rows else ()) if name not in ("step", "epoch", "lr")]
    column = {name: np.array([_number(row.get(name)) for row in rows]) for name in ("step", *names)}
    return column.pop("step"), column


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan


def loss_chart(steps: NDArray[np.float64], losses: dict[str, NDArray[np.float64]]) -> str:
    """Small multiples as one SVG, a panel per loss: every logged value faint, a running mean of 5 % on top."""
    matplotlib = _matplotlib()
    losses = {name: values for name, values in losses.items() if np.isfinite(values).any()}
    across = min(4, len(losses))
    down = math.ceil(len(losses) / across)
    style = {"svg.hashsalt": "bmask", "svg.fonttype": "none", "font.size": 9, "font.family": "sans-serif"}
    style |= {key: GREY for key in ("text.color", "axes.edgecolor", "xtick.color", "ytick.color")}
    with matplotlib.rc_context(style):
        figure = matplotlib.figure.Figure((2.9 * across, 1.9 * down))
        axes = figure.subplots(down, across, squeeze=False)
        for axis in axes.flat[len(losses) :]:
            axis.remove()
        for axis, (name, values) in zip(axes.flat, losses.items(), strict=False):
            there = np.isfinite(values)
            axis.plot(steps[there], values[there], color=BLUE, alpha=0.25, linewidth=0.8)
            axis.plot(*_running_mean(steps[there], values[there]), color=BLUE, linewidth=1.4)
            axis.set_title(name, fontsize=9, color=GREY)
            axis.spines[["top", "right"]].set_visible(False)
            axis.locator_params(nbins=4)
            axis.patch.set_alpha(0)
        figure.patch.set_alpha(0)
        figure.tight_layout()
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    return text.getvalue()[text.getvalue().index("<svg") :]


def _matplotlib() -> ModuleType:
    """matplotlib without pyplot, which would look for a screen. MPLBACKEND is hidden during the import: a notebook may
    have set a backend that matplotlib does not know, and then the import fails.
    """
    notebook = os.environ.pop("MPLBACKEND", None)
    try:
        import matplotlib.figure
    finally:
        if notebook is not None:
            os.environ["MPLBACKEND"] = notebook
    return matplotlib


def _running_mean(steps: NDArray, values: NDArray) -> tuple[NDArray, NDArray]:
    width = max(1, len(values) // 20)
    window = np.ones(width) / width
    return np.convolve(steps, window, "valid"), np.convolve(values, window, "valid")


def histogram(values: dict[str, NDArray], low: float, high: float, ticks: dict[float, str], bins: int = 32) -> str:
    """Distributions as one inline SVG, a filled outline for each name; the name is its CSS class.

    Args:
        values: {name: numbers}; each outline sums to 1, numbers outside low..high count in the first or last bin.
        ticks: {place: label} below the chart.
    """
    width, height, foot = 260, 96, 16
    shares = {
        name: np.histogram(np.clip(own, low, high), bins, (low, high))[0] / max(1, len(own))
        for name, own in values.items()
    }
    top = max([share.max() for share in shares.values()] + [1e-9])

    def at(place: float) -> str:
        return f"{width * (place - low) / (high - low):.1f}"

    parts = [f'<svg class="histogram" viewBox="0 -2 {width} {height + foot + 2}" role="img">']
    for name, share in shares.items():
        corners = [(edge, share[i]) for i in range(bins) for edge in (i, i + 1)]
        outline = " ".join(f"{width * edge / bins:.1f},{height * (1 - tall / top):.1f}" for edge, tall in corners)
        parts.append(f'<polygon class="{name}" points="0,{height} {outline} {width},{height}"/>')
    parts.append(f'<line x2="{width}" y1="{height}" y2="{height}"/>')
    for place, label in ticks.items():
        anchor = "start" if place <= low else "end" if place >= high else "middle"
        parts.append(f'<text x="{at(place)}" y="{height + foot - 3}" text-anchor="{anchor}">{label}</text>')
    return "".join([*parts, "</svg>"])
