"""Draws the features of a face: eyes, brows, nose, mouth, beard, glasses, in head coordinates (see canvas.Pose)."""

from __future__ import annotations

import numpy as np

from bmask.synthetic.canvas import Corners, Points, ellipse, rounded
from bmask.synthetic.head import BLACK, WHITE, Drawing

_FRAMES = {"round": (0.215, 0.2, 0.024), "square": (0.235, 0.17, 0.038), "wide": (0.25, 0.2, 0.03)}  # half axes, rim


def _open(points: Corners, times: int = 3) -> Points:
    return rounded(points, times, closed=False)


def draw_eyes(d: Drawing) -> None:
    p = d.person
    lash = np.minimum(p.brow_colour * 0.5, p.skin * 0.35)
    fold = p.skin * (0.55, 0.43, 0.41)
    for way in (-1, 1):
        x, y, w = way * p.eye_gap, -0.005, p.eye_width
        h, tilt = w * p.eye_open, p.eye_tilt
        inner, outer = (x - way * w, y + 0.25 * h + tilt * w), (x + way * w, y - tilt * w)
        top = [(x - way * w * 0.45, y - h * 1.15), (x + way * w * 0.35, y - h * 1.25)]
        upper = _open([inner, *top, outer])
        lower = _open([outer, (x + way * w * 0.45, y + h * 0.85), (x - way * w * 0.35, y + h * 0.9), inner])
        within = d.fill(np.concatenate([upper, lower]))
        d.paint(within, (0.92, 0.90, 0.88))
        iris_x, iris_y, r = x + p.gaze[0] * w * 0.9, y + p.gaze[1] * w - 0.008, w * 0.47
        d.paint(d.fill(ellipse(iris_x, iris_y, r * 1.06, r * 1.06), within=within), p.iris * 0.45)
        d.paint(d.fill(ellipse(iris_x, iris_y, r * 0.88, r * 0.88), within=within), p.iris)
        shine = d.fill(ellipse(iris_x, iris_y + r * 0.35, r * 0.6, r * 0.4), blur=0.01, within=within)
        d.paint(shine, np.minimum(p.iris * 1.7, 1), 0.5)
        d.paint(d.fill(ellipse(iris_x, iris_y, r * 0.45, r * 0.45), within=within), BLACK)
        d.paint(d.line(upper, width=0.05, blur=0.02, within=within), BLACK, 0.45)
        glint_x = iris_x + 0.35 * r * np.sign(d.relief.light.direction[0])
        d.paint(d.fill(ellipse(glint_x, iris_y - 0.4 * r, 0.016, 0.016, corners=10)), WHITE, 0.85, lit=False)
        d.paint(d.line(lower, width=0.012), fold, 0.55)
        d.paint(d.line(upper, width=0.020 + 0.014 * p.makeup), lash, 0.92)
        if p.makeup:
            wing = np.array([outer, (outer[0] + way * 0.05, outer[1] - 0.04)])
            d.paint(d.line(wing, width=0.022), lash, 0.8 * p.makeup)
        crease = [(inner[0], inner[1] - 0.06), *[(a, b - 0.045) for a, b in top], (outer[0], outer[1] - 0.05)]
        d.paint(d.line(_open(crease, 2), width=0.014, blur=0.006), fold, 0.55)
        _draw_brow(d, way, x, y - h - 0.15 - p.raised)


def _draw_brow(d: Drawing, way: int, x: float, y: float) -> None:
    p, t = d.person, d.person.brow
    inner = np.array([x - way * 0.17, y + 0.025 + max(0, -p.smile) * 0.035])
    arch = np.array([x + way * 0.05, y - 0.03 - p.brow_tilt * 0.3])
    outer = np.array([x + way * 0.2, y + 0.035 - p.brow_tilt])
    shape = rounded([inner - (0, t * 0.5), arch - (0, t * 0.6), outer, arch + (0, t * 0.4), inner + (0, t * 0.6)])
    brow = d.fill(shape, blur=0.010)
    d.paint(brow, p.brow_colour, 0.85)
    roots = inner + (outer - inner) * d.rng.uniform(0, 1, (14, 1)) + d.rng.normal(0, t * 0.2, (14, 2)) - (0, 0.03)
    hairs = [np.array([root, root + (way * 0.035, -0.012)]) for root in roots]
    d.paint(d.line(*hairs, width=0.009, within=brow), p.brow_colour * 0.6, 0.6)


def draw_nose(d: Drawing) -> None:
    p, y, w = d.person, d.person.nose_length, d.person.nose_width
    dark = p.skin * (0.42, 0.29, 0.27)
    side = -np.sign(d.relief.light.direction[0]) or 1.0
    flank = [(side * 0.06, -0.05), (side * 0.075, 0.15), (side * w * 0.85, y - 0.1), (side * w * 1.2, y - 0.02),
             (side * w * 0.8, y + 0.01), (side * 0.04, y - 0.1)]  # fmt: skip
    d.paint(d.fill(rounded(flank), blur=0.035, lift=0.1), p.skin * (0.62, 0.48, 0.45), 0.4)
    d.paint(d.fill(ellipse(0, y + 0.035, w * 0.75, 0.03), blur=0.022, lift=0.1), dark, 0.45)
    for way in (-1, 1):
        wing = np.array([(0.72, -0.105), (1.12, -0.07), (1.1, 0.0), (0.78, 0.012)]) * (way * w, 1) + (0, y)
        d.paint(d.line(_open(wing), width=0.02, blur=0.012, lift=0.12), dark, 0.5)
        hole = np.array([(0.22, 0.016), (0.5, -0.016), (0.76, 0.006), (0.5, 0.022)]) * (way * w, 1) + (0, y)
        d.paint(d.fill(rounded(hole, 2), blur=0.007, lift=0.16), dark * 0.55, 0.9)
    base = _open([(-w * 0.3, y + 0.012), (0, y + 0.03), (w * 0.3, y + 0.012)], 2)
    d.paint(d.line(base, width=0.014, blur=0.008, lift=0.18), dark, 0.5)
    d.paint(d.fill(ellipse(0, y - 0.085, 0.035, 0.03), blur=0.025, lift=0.3), np.minimum(p.skin * 1.2 + 0.12, 1), 0.5)


def draw_mouth(d: Drawing) -> None:
    p = d.person
    w, s, o, y = p.mouth_width * (1 + 0.16 * max(0, p.smile)), p.smile, p.mouth_open, 0.625
    corner, gap, up, low = y - 0.05 * s, 0.13 * o, 0.05 * p.lips, 0.07 * p.lips
    middle, bottom = y - 0.012 + 0.015 * s, y + 0.012 + 0.03 * s + gap
    left, right = (-w, corner), (w, corner)
    top = _open([left, (-w * 0.3, middle - up * 1.15), (0, middle - up * 0.75), (w * 0.3, middle - up * 1.15), right])
    roof = _open([right, (w * 0.5, middle + 0.008), (0, middle + 0.018), (-w * 0.5, middle + 0.008), left])
    floor = _open([left, (-w * 0.55, bottom), (0, bottom + 0.01), (w * 0.55, bottom), right])
    rim = bottom + low * 0.9
    base = _open([right, (w * 0.55, rim), (0, bottom + low * 1.25), (-w * 0.55, rim), left])
    d.paint(d.fill(ellipse(0, bottom + low * 1.7, w * 0.6, 0.03), blur=0.025), p.skin * (0.60, 0.47, 0.44), 0.45)
    if o:
        within = d.fill(np.concatenate([roof, floor]))
        d.paint(within, (0.22, 0.06, 0.07))
        tongue = d.fill(ellipse(0, bottom + 0.005, w * 0.5, gap * 0.35), blur=0.012, within=within)
        d.paint(tongue, (0.62, 0.25, 0.26), 0.8)
        if p.teeth:
            edge = middle + 0.02 + gap * 0.6
            row = [(-w * 0.85, corner), (-w * 0.5, middle - 0.02), (w * 0.5, middle - 0.02), (w * 0.85, corner),
                   (w * 0.45, edge), (-w * 0.45, edge)]  # fmt: skip
            d.paint(d.fill(rounded(row, 2), within=within), (0.93, 0.91, 0.86))
            slits = [np.array([(x * w, middle - 0.02), (x * w * 0.97, edge)]) for x in (-0.45, -0.2, 0.0, 0.2, 0.45)]
            d.paint(d.line(*slits, width=0.006, within=within), (0.5, 0.42, 0.4), 0.35)
        d.paint(d.line(roof, width=0.03, blur=0.012, within=within), BLACK, 0.5)
    d.paint(d.fill(np.concatenate([top, roof])), p.lip_colour * 0.84, 0.9)
    d.paint(d.fill(np.concatenate([floor, base])), p.lip_colour, 0.9)
    shine = d.fill(ellipse(0, bottom + low * 0.6, w * 0.35, low * 0.25), blur=0.015)
    d.paint(shine, np.minimum(p.lip_colour * 1.2 + 0.12, 1), 0.35)
    if not o:
        d.paint(d.line(roof, width=0.014, blur=0.003), p.lip_colour * (0.35, 0.25, 0.28), 0.9)
    pits = [ellipse(way * w, corner, 0.022, 0.018, corners=10) for way in (-1, 1)]
    d.paint(d.fill(*pits, blur=0.010), p.skin * (0.4, 0.28, 0.27), 0.55)


def draw_beard(d: Drawing, texture: np.ndarray) -> None:
    """Draws stubble to a full beard, except around the mouth. `texture` is hair noise, (side, side)."""
    p, w = d.person, d.person.mouth_width * (1 + 0.16 * max(0, d.person.smile))
    if p.beard == "none":
        return
    below = 0.79 + 0.13 * p.mouth_open
    moustache = [(0, 0.49), (w * 0.6, 0.50), (w * 1.1, 0.62), (w * 1.05, 0.67), (w * 0.5, 0.575), (0, 0.565),
                 (-w * 0.5, 0.575), (-w * 1.05, 0.67), (-w * 1.1, 0.62), (-w * 0.6, 0.50)]  # fmt: skip
    goatee = [(-0.10, below), (0.10, below), (0.13, 0.93), (0.06, 1.04), (-0.06, 1.04), (-0.13, 0.93)]
    drop, edge = {"full": 1.22, "short": 1.08}.get(p.beard, 1.06), p.width * 1.04
    right = [(edge, -0.02), (edge * 1.01, 0.4), (p.jaw * 1.04, 0.8), (p.chin, drop)]
    inner = [(edge * 0.86, 0.1), (edge * 0.72, 0.44), (w * 1.12, 0.56), (w * 1.2, 0.70), (w * 0.5, below)]
    half = np.array([*reversed(inner), *right])
    jaw = np.concatenate([half, (half * (-1, 1))[::-1]])
    drawn: dict[str, list[Corners]] = {"moustache": [moustache], "goatee": [moustache, goatee]}
    shapes = drawn.get(p.beard, [moustache, jaw])
    opacity = {"stubble": 0.32, "short": 0.8}.get(p.beard, 0.92) * (1 - 0.25 * p.hair_colour.mean())
    blur = 0.05 if p.beard == "stubble" else 0.022
    layer = d.fill(*[rounded(s, 2) for s in shapes], blur=blur, within=None if p.beard == "full" else d.head)
    d.paint(layer, np.minimum(p.hair_colour * 0.85, p.skin * 0.75), opacity, texture)


def draw_glasses(d: Drawing) -> None:
    p = d.person
    if p.glasses == "none":
        return
    half, tall, width = _FRAMES[p.glasses]
    frames, arms, shines = [], [], []
    for way in (-1, 1):
        x, y = way * max(p.eye_gap, half + 0.055), 0.02
        box = [(-1, -1), (1, -1), (1, 0.6), (0.6, 1), (-0.6, 1), (-1, 0.6)]
        lens = ellipse(x, y, half, tall) if p.glasses == "round" else rounded(np.array(box) * (half, tall) + (x, y), 2)
        frames.append(np.concatenate([lens, lens[:1]]))
        shines.append(np.array([(-0.5, -0.7), (-0.1, -0.8), (-0.5, 0.7), (-0.75, 0.5)]) * (half, tall) + (x, y))
        ear = np.array([(d.ear_x(way), -0.1)])
        arms.append(d.pose.place(np.concatenate([d.pose.turn([(x + way * half, -0.05)], 0.1), ear])))
    bridge = _open([(-0.075, -0.01), (0, -0.05), (0.075, -0.01)], 2)
    d.paint(d.line(*[f + (0, 0.03) for f in frames], width=width, blur=0.012, lift=0.08), BLACK, 0.18)
    d.paint(d.fill(*frames, lift=0.12), (0.75, 0.82, 0.88), 0.08, lit=False)
    d.paint(d.fill(*shines, lift=0.12), WHITE, 0.10, lit=False)
    d.canvas.paint(d.canvas.line(*arms, width=width * d.pose.scale, within=d.head), p.glasses_colour)
    d.paint(d.line(*frames, bridge, width=width, lift=0.12), p.glasses_colour, lit=False)
