"""Draws the masks: cut, cloth and straps, which follow the pose of the head."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from bmask.synthetic.canvas import Layer, Points, across, colour, ellipse, mirrored, rounded
from bmask.synthetic.head import BLACK, WHITE, Drawing
from bmask.synthetic.traits import any_colour

KINDS = ("surgical", "cloth", "n95", "printed", "gaiter")
_SURGICAL = tuple(
    colour(*rgb)
    for rgb in (
        (142, 196, 222), (120, 180, 210), (150, 206, 190), (232, 238, 240), (240, 240, 238), (240, 186, 200),
        (44, 46, 52),
    )
)  # fmt: skip
_N95 = tuple(colour(*rgb) for rgb in ((236, 236, 230), (236, 236, 230), (244, 242, 238), (226, 220, 205), (60, 62, 66)))
_PATTERNS = ("dots", "stripes", "checks", "flowers", "camouflage")
_METAL = np.array([0.66, 0.68, 0.7], np.float32)


@dataclass(frozen=True)
class Mask:
    """One mask on a face."""

    kind: str
    cloth: np.ndarray
    second: np.ndarray
    top: float  # y of its upper edge on the nose
    side: float  # half width at its corners, share of the head's half width
    low: float  # y of its lowest point
    pattern: str
    form: float  # 0..1, varies the cut within a kind


def sample_mask(rng: np.random.Generator, kind: str, cloth: np.ndarray | None = None) -> Mask:
    """A random mask of a kind; `cloth`, if given, is its colour."""
    random_cloth = any_colour(rng, 0.06, 0.85)
    usual = {"surgical": _SURGICAL, "n95": _N95}.get(kind, (random_cloth,))
    first = usual[rng.integers(len(usual))] * rng.uniform(0.93, 1.03) if cloth is None else cloth
    second = any_colour(rng, 0.1, 0.95)
    if abs(float(second.mean() - first.mean())) < 0.25:  # make the pattern visible
        second = np.clip(second + (0.45 if first.mean() < 0.5 else -0.45), 0.03, 0.97)
    return Mask(
        kind=kind,
        cloth=np.clip(first, 0.03, 1).astype(np.float32),
        second=second.astype(np.float32),
        top=rng.uniform(0.10, 0.2),
        side=rng.uniform(0.84, 0.97),
        low=rng.uniform(1.03, 1.12),
        pattern=_PATTERNS[rng.integers(len(_PATTERNS))],
        form=rng.uniform(0, 1),
    )


def draw_mask(d: Drawing, m: Mask) -> None:
    """Draws straps, contact shadow and cloth, then the details of the kind."""
    edge = mirrored(_cut(d, m))
    shape = rounded(edge, 2 if m.kind == "surgical" else 3)
    light = _light(d, m)
    body = d.fill(shape, lift=0.06)
    if m.kind != "gaiter":
        _draw_straps(d, m)
    d.canvas.paint_mask(d.fill(shape, blur=0.015, lift=0.03), d.person.skin * (0.3, 0.22, 0.2), d.relief.skin, 0.45)
    d.canvas.paint_mask(body, _pattern(d, m) if m.kind == "printed" else m.cloth, light)
    dark = 0.55 if m.cloth.mean() > 0.35 else 1.7  # lines on dark cloth are lighter than the cloth

    def line(points: Points, width: float, shade: float, opacity: float, blur: float = 0.0, lift: float = 0.1) -> None:
        paint = m.cloth * shade if shade <= 1 else np.minimum(m.cloth * shade + 0.06, 1)
        d.canvas.paint_mask(d.line(points, width=width, blur=blur, within=body, lift=lift), paint, light, opacity)

    line(np.concatenate([shape, shape[:1]]), 0.05, dark, 0.35, lift=0.06)
    if m.kind == "surgical":
        s = d.person.width * m.side
        for y in (0.40, 0.56, 0.72)[: 2 + (m.form > 0.4)]:
            pleat = across([(s, y - 0.02), (s * 0.4, y + 0.045)])
            line(pleat, 0.022, 0.5, 0.5, blur=0.006)
            line(pleat - (0, 0.02), 0.014, 1.2, 0.4)
        line(across([(0.24, m.top + 0.075), (0.08, m.top + 0.035)], 2), 0.03, 0.75, 0.5)
    elif m.kind == "n95":
        if m.form < 0.5:
            _draw_valve(d, m, body, light)
        else:
            line(across([(0.62, 0.52), (0.3, 0.40)]), 0.028, 0.6, 0.6, blur=0.005)
            line(across([(0.55, 0.72), (0.25, 0.78)]), 0.022, 0.6, 0.5, blur=0.005)
        clip = d.line(across([(0.2, m.top + 0.09), (0, m.top + 0.03)], 2), width=0.05, within=body, lift=0.15)
        d.canvas.paint_mask(clip, _METAL, light, 0.85)
    elif m.kind == "gaiter":
        for y in (0.6, 0.82, 1.05, 1.28):
            fold = [(-d.person.jaw, y - 0.14), (-0.25, y + 0.02), (0.3, y - 0.03), (d.person.jaw, y - 0.2)]
            line(rounded(fold, 3, closed=False), 0.03, dark, 0.35, blur=0.014)
    else:
        line(np.array([(0, m.top - 0.02), (0, 0.35), (0, 0.6), (0, 1.1)]), 0.018, dark, 0.55, blur=0.004, lift=0.2)
        hem = rounded(edge * 0.94 + (0, 0.034))
        line(np.concatenate([hem, hem[:1]]), 0.009, dark, 0.5, lift=0.06)


def _cut(d: Drawing, m: Mask) -> list[tuple[float, float]]:
    """The right half of the mask's edge, from the nose down, in head coordinates."""
    w, jaw, chin, top, low = d.person.width, d.person.jaw, d.person.chin, m.top, m.low
    s = w * m.side
    if m.kind == "surgical":
        return [(0, top - 0.01), (0.1, top), (s * 0.55, top + 0.1), (s * 0.97, top + 0.13), (s, top + 0.2),
                (min(s, jaw * 1.04), 0.68), (jaw * 0.86, 0.84), (chin * 0.9, low), (0, low + 0.01)]  # fmt: skip
    if m.kind == "n95":
        return [(0, top - 0.03), (0.1, top - 0.02), (s * 0.5, top + 0.14), (s * 0.9, 0.40), (s * 0.93, 0.58),
                (jaw * 0.82, 0.84), (chin * 0.9, low + 0.02), (0, low + 0.04)]  # fmt: skip
    if m.kind == "gaiter":
        return [(0, top - 0.02), (0.12, top), (w * 0.7, top + 0.10), (w * 1.08, top + 0.02), (w * 1.1, 0.35),
                (jaw * 1.12, 0.8), (jaw * 0.98, 1.1), (jaw * 0.9, 1.4), (jaw * 0.92, 1.6), (0, 1.65)]  # fmt: skip
    return [(0, top - 0.02), (0.12, top + 0.01), (s * 0.55, top + 0.09 + 0.08 * m.form), (s * 0.95, top + 0.12),
            (s, top + 0.22), (min(s, jaw), 0.66), (jaw * 0.8, 0.88), (chin * 0.8, low + 0.01),
            (0, low + 0.03)]  # fmt: skip


def _pattern(d: Drawing, m: Mask) -> np.ndarray:
    """A printed cloth, (3, side, side), that rotates with the head."""
    side, rng = d.canvas.side, d.rng
    tile = np.empty((96, 96, 3), np.float32)
    tile[:] = m.cloth
    second, third = [float(v) for v in m.second], [float(v) for v in np.roll(m.second, 1)]
    if m.pattern == "dots":
        for x, y in ((24, 24), (72, 72)):
            cv2.circle(tile, (x, y), 12, second, -1, cv2.LINE_AA)
    elif m.pattern == "stripes":
        tile[:, :22] = tile[:, 48:70] = second
    elif m.pattern == "checks":
        tile[:, :40] = 0.5 * tile[:, :40] + 0.5 * m.second
        tile[:40] = 0.5 * tile[:40] + 0.5 * m.second
    elif m.pattern == "flowers":
        for x, y, petal in ((26, 28, second), (74, 70, third)):
            for angle in np.arange(5) * 2 * np.pi / 5:
                cv2.circle(tile, (int(x + 10 * np.cos(angle)), int(y + 10 * np.sin(angle))), 8, petal, -1, cv2.LINE_AA)
            cv2.circle(tile, (x, y), 6, (0.95, 0.8, 0.25), -1, cv2.LINE_AA)
    else:
        noise: np.ndarray = np.tile(rng.normal(0, 1, (96, 96)).astype(np.float32), (3, 3))
        noise = cv2.GaussianBlur(noise, (0, 0), 9)[96:192, 96:192]  # middle of 3 x 3 copies: no seams
        noise = noise / noise.std()
        tile[noise > 0.5] = m.second
        tile[noise < -0.7] = m.second * 0.5
    c, s = np.cos(d.pose.roll), np.sin(d.pose.roll)
    zoom = side * d.pose.scale * (0.20 + 0.22 * m.form) / 96
    middle = d.pose([(0, 0.6)])[0] * side
    turn = np.array([[c * zoom, -s * zoom, middle[0]], [s * zoom, c * zoom, middle[1]]])
    many = np.tile(tile, (14, 14, 1))
    turn[:, 2] -= turn[:, :2] @ (7 * 96, 7 * 96)
    cloth = cv2.warpAffine(many, turn, (side, side), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_WRAP)
    return np.ascontiguousarray(cloth.transpose(2, 0, 1))


def _light(d: Drawing, m: Mask) -> np.ndarray:
    """The light on the mask: a smooth cup over nose and chin, with this kind's pleats, ridge or cone."""
    r = d.relief
    cup = r.hill((0, 0.42), (0.20, 0.34), 0.12 if m.kind in ("surgical", "gaiter") else 0.17, lift=0.1)
    cup = cup + r.hill((0, m.top + 0.02), (0.09, 0.16), 0.06, lift=0.1) + r.hill((0, 0.9), (0.25, 0.16), 0.04)
    if m.kind == "surgical":
        cup = cup + 0.012 * np.abs(((r.y - 0.2 - 0.1 * (r.x / 0.7) ** 2) * 5.2) % 1 - 0.5)
    elif m.kind == "n95":
        ahead = d.pose.turn([(0, 0.5)], 0.2)[0]
        cup = cup + 0.20 * np.exp(-(((r.x - ahead[0]) / 0.34) ** 2) - ((r.y - ahead[1]) / 0.34) ** 2)
    elif m.kind == "gaiter":
        cup = cup + 0.010 * np.sin(18 * (r.y + 0.35 * (r.x / 0.7) ** 2)) * np.clip(r.y - 0.4, 0, 1)
    else:
        ahead = d.pose.turn([(0, 0.5)], 0.15)[0]
        cup = cup - 0.05 * np.minimum(np.abs(r.x - ahead[0]), 0.3)
    return r.over(cup)


def _draw_valve(d: Drawing, m: Mask, body: Layer, light: np.ndarray) -> None:
    c, (x, y), r = d.canvas, (0.17, 0.66), 0.1
    c.paint_mask(d.fill(ellipse(x, y, r * 1.15, r * 1.1), blur=0.012, within=body, lift=0.2), BLACK, None, 0.3)
    c.paint_mask(d.fill(ellipse(x, y, r, r), within=body, lift=0.22), m.cloth * 0.9, light)
    slits = [np.array([(x - 0.05, y + k), (x + 0.05, y + k)]) for k in (-0.03, 0, 0.03)]
    lines = d.line(ellipse(x, y, r * 0.6, r * 0.6), *slits, width=0.012, within=body, lift=0.22)
    c.paint_mask(lines, m.cloth * 0.55, light, 0.8)


def _draw_straps(d: Drawing, m: Mask) -> None:
    """Draws loops to the ears or, for n95, bands around the head. Parts outside of the head are cut off."""
    c, pose, w = d.canvas, d.pose, d.person.width
    s = w * m.side * 0.96
    bands = m.kind == "n95"
    paint = m.second if bands and m.form < 0.3 else m.cloth * 0.9 if m.kind in ("cloth", "printed") else WHITE * 0.92
    lines = []
    for way in (-1, 1):
        high, low = ((s * 0.9, 0.42), (s * 0.9, 0.56)) if bands else ((s, m.top + 0.2), (s * 0.97, 0.64))
        high, low = pose.turn(np.array([high, low]) * (way, 1))
        ear = way * max(way * d.ear_x(way), way * high[0] + 0.04)  # the mask's corner may hide the far ear
        if bands:
            lines += [np.array([high, (ear + way * 0.05, -0.02 - 0.14 * m.form)])]
            lines += [np.array([low, (way * w * 1.1, 0.56)])]
        else:
            end = ear - way * 0.02
            lines += [np.array([high, (end, -0.06)])]
            lines += [rounded([low, (ear - way * 0.06, 0.42), (end, 0.2)], 2, closed=False)]
    at = [pose.place(line) for line in lines]
    width = (0.034 if bands else 0.026) * pose.scale
    shadow = c.line(*[a + (0, 0.012) for a in at], width=width * 1.2, blur=0.004, within=d.head)
    c.paint_mask(shadow, BLACK, None, 0.3)
    c.paint_mask(c.line(*at, width=width, within=d.head), paint, d.relief.skin)
