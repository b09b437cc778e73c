"""Draws hair behind and in front of the head, headscarves and caps."""

from __future__ import annotations

import numpy as np

from bmask.synthetic.canvas import Points, across, ellipse, mirrored, rounded
from bmask.synthetic.head import BLACK, Drawing

_JAGGED = ((0.93, 0.04), (0.6, -0.03), (0.45, 0.03), (0.1, -0.02), (-0.1, 0.03), (-0.5, -0.02), (-0.62, 0.03),
           (-0.93, 0.04))  # fmt: skip
_ENDS = {"bob": 0.8, "long": 1.9, "wavy": 1.8}  # y of the tips


def _wave(d: Drawing, points: Points) -> Points:
    if d.person.hair == "wavy":
        y = points[:, 1]
        points = points.copy()
        points[:, 0] += 0.06 * np.sin(y * 9 + d.person.part * 9) * np.clip(y + 0.6, 0, 1)
    return points


def draw_hair_behind(d: Drawing, light: np.ndarray, texture: np.ndarray) -> None:
    p, rng, c, pose = d.person, d.rng, d.canvas, d.pose
    v, shade = p.volume, p.hair_colour * 0.62
    if p.hair in _ENDS:
        end, out = _ENDS[p.hair], p.width + 0.14 + 0.10 * v
        side = [(0, -1.15 - 0.1 * v), (out * 0.6, -1.14 - 0.1 * v), (out * 1.02, -0.75), (out * 1.08, 0.0)]
        if p.hair == "bob":
            side += [(out * 1.14, 0.6), (out * 1.0, end + 0.15), (out * 0.5, end + 0.12), (0, end)]
        else:
            side += [(out * (1.12 + 0.1 * v), 0.8), (out * 1.15, 1.3), (out * 0.9, end), (0, end)]
        shape = pose.place(_wave(d, rounded(mirrored(side))))
        c.paint(c.fill(shape), shade, light, texture=texture)
    elif p.hair in ("afro", "curly"):
        angle, radius = rng.uniform(0, 2 * np.pi, 70), rng.uniform(0.07, 0.13, 70)
        if p.hair == "afro":
            out = p.width + 0.16 + 0.26 * v
            x, y = out * np.cos(angle), -0.35 + (0.62 + out * 0.38) * np.sin(angle)
            base = ellipse(0, -0.35, out, 0.62 + out * 0.38)
        else:
            out, low = p.width + 0.10 + 0.08 * v, 1.2 if v > 0.5 else 0.1
            y = rng.uniform(-1.05, low, 70)
            x = np.sign(angle - np.pi) * out * np.sqrt(np.clip(1 - (np.minimum(y, -0.3) + 0.3) ** 2 / 0.75, 0.02, 1))
            base = rounded(mirrored([(0, -1.12), (out * 0.8, -1.05), (out * 1.05, -0.5), (out, low), (0, low)]))
        curls = [pose.place(ellipse(*curl, curl[2], corners=10)) for curl in zip(x, y, radius, strict=True)]
        c.paint(c.fill(pose.place(base), *curls), shade, light, texture=texture)
    elif p.hair == "bun":
        bun = ellipse(0.1 * p.part - 0.15 * pose.yaw, -1.16 - 0.05 * v, 0.3 + 0.1 * v, 0.24 + 0.1 * v)
        c.paint(c.fill(pose.place(bun)), shade, light, texture=texture)


def draw_hair_front(d: Drawing, light: np.ndarray, texture: np.ndarray) -> None:
    p, pose, c = d.person, d.pose, d.canvas
    if p.hair == "bald":
        return
    over, along = _front(d)
    crown, front = rounded(over, closed=False), pose.turn(rounded(along, closed=False))
    shape = pose.place(_wave(d, np.concatenate([crown, front])))
    if p.hair == "buzz":
        stubble = c.fill(shape, blur=0.03 * pose.scale, within=d.head)
        c.paint(stubble, np.minimum(p.hair_colour, p.skin * 0.6), light, 0.75, texture)
        return
    if p.hair == "quiff":
        high = -1.27 - 0.1 * p.volume
        tuft = rounded([(-0.5, p.hairline + 0.02), (-0.55, -1.0), (0.1, high), (0.5, -1.1), (0.45, p.hairline)])
        c.paint(c.fill(pose.place(tuft)), p.hair_colour, light, texture=texture)
    shadow = c.fill(shape + (0, 0.03 * pose.scale), blur=0.03 * pose.scale, within=d.head)
    c.paint(shadow, p.skin * (0.4, 0.3, 0.28), None, 0.4)
    soft = 0.018 if p.hair in ("short", "side", "quiff", "receding", "bun") else 0.008
    mass = c.fill(shape, blur=soft * pose.scale)
    c.paint(mass, p.hair_colour, light, texture=texture)
    if p.hair in ("afro", "curly"):
        _curls(d, light, texture)
        return
    strands = _strands(d)
    bright, dark = np.minimum(p.hair_colour * 1.5 + 0.03, 1), p.hair_colour * 0.5
    c.paint(c.line(*strands[::2], width=0.015 * pose.scale, within=mass), bright, light, 0.3)
    c.paint(c.line(*strands[1::2], width=0.015 * pose.scale, within=mass), dark, light, 0.35)


def _front(d: Drawing) -> tuple[list, list]:
    """The outer edge over the crown, left to right, and the edge along the face, right to left, not yet turned."""
    p = d.person
    w, top, part = p.width * 1.07, p.hairline, p.part
    v = {"buzz": 0.0, "receding": 0.02}.get(p.hair, 0.03 + 0.10 * p.volume)
    s, temple = w * 0.9, -0.42
    if p.hair in _ENDS:  # the hair falls from the parting down both sides
        out, end = p.width + 0.13 + 0.10 * p.volume, _ENDS[p.hair] - 0.02
        high = -1.14 - 0.1 * p.volume
        half = [(out * 0.95, end), (out * 1.1, end - 0.2), (out * 1.12, 0.4), (out * 1.07, 0.0), (out, -0.75),
                (out * 0.6, high + 0.02)]  # fmt: skip
        crown = [(-x, y) for x, y in half] + [(0, high)] + half[::-1]
        brow = [(part + 0.3, top + 0.06), (part, top - 0.12), (part - 0.3, top + 0.06)]
        if p.volume > 0.6 and p.hair != "wavy":
            brow = [(0.42, p.fringe), (0, p.fringe + 0.02), (-0.42, p.fringe)]
        side = [(w * 0.97, end), (w * 1.0, min(0.75, end - 0.15)), (s * 1.0, 0.3), (s * 0.95, 0.0), (s * 0.88, -0.3)]
        return crown, side + brow + [(-x, y) for x, y in reversed(side)]
    half = [(w + v * 0.3, -0.2), (w + v * 0.7, -0.55), (w * 0.93 + v, -0.86), (w * 0.5, -1.12 - v)]
    crown = [(-x, y) for x, y in half] + [(0, -1.13 - v)] + half[::-1]
    burns = 0.08 if p.hair in ("short", "side", "quiff", "buzz", "curly", "receding") else -0.15
    side = [(w * 0.97, burns), (s, burns - 0.04), (s * 0.95, temple)]
    high = top - 0.04
    middle = {
        "receding": [(s * 0.66, -0.9), (0.12, -0.78), (-0.12, -0.78), (-s * 0.66, -0.9)],
        "fringe": [(x * s, p.fringe + y + x * p.sweep) for x, y in _JAGGED],
        "side": [(s * 0.8, top + 0.12), (part + 0.1, top), (part, top - 0.12), (part - 0.12, top),
                 (-s * 0.8, top + 0.1)],
    }.get(p.hair, [(s * 0.74, top), (s * 0.3, high), (0, top), (-s * 0.3, high), (-s * 0.74, top)])  # fmt: skip
    return crown, side + middle + [(-x, y) for x, y in reversed(side)]


def _curls(d: Drawing, light: np.ndarray, texture: np.ndarray) -> None:
    p, c, rng, w = d.person, d.canvas, d.rng, d.person.width * 1.07
    x, y, r = rng.uniform(-w, w, 60), rng.uniform(-1.05, p.hairline + 0.02, 60), rng.uniform(0.06, 0.11, 60)
    inside = (x / w) ** 2 + ((y + 0.2) / 0.95) ** 2 < 1
    curls = [ellipse(*curl, curl[2], corners=10) for curl in zip(x[inside], y[inside], r[inside], strict=True)]
    if curls:
        c.paint(d.fill(*curls), p.hair_colour, light, texture=texture)
        c.paint(d.line(*curls, width=0.015), p.hair_colour * 0.6, light, 0.32)


def _strands(d: Drawing) -> list[Points]:
    """Curves from the parting over the crown and down, in shares of the side."""
    p, rng, w, n = d.person, d.rng, d.person.width * 1.07, 36
    t = np.linspace(0, 1, 9)[None, :, None]
    root = np.array([p.part, -1.05 - 0.1 * p.volume])
    ends = np.stack([np.linspace(-w * 1.1, w * 1.1, n) + rng.normal(0, 0.03, n), rng.uniform(-0.45, 0.1, n)], 1)
    if p.hair == "fringe":
        ends[:, 1] = p.fringe + 0.05
    if p.hair in _ENDS:
        ends[:, 1] = _ENDS[p.hair] * rng.uniform(0.5, 1, n)
        ends[:, 0] *= 1.15
    bends = np.stack([ends[:, 0] * 1.05, np.full(n, -0.95)], 1) + rng.normal(0, 0.03, (n, 2))
    curves = (1 - t) ** 2 * root + 2 * t * (1 - t) * bends[:, None] + t**2 * ends[:, None]
    return list(d.pose.place(_wave(d, d.pose.turn(curves.reshape(-1, 2)))).reshape(n, -1, 2))


def draw_scarf(d: Drawing, light: np.ndarray, behind: bool) -> None:
    """Draws the part of a headscarf behind the head, or the part around the face."""
    p, pose, c, w = d.person, d.pose, d.canvas, d.person.width
    outer = rounded(mirrored([(0, -1.16), (w * 0.7, -1.14), (w * 1.2, -0.75), (w * 1.25, 0.0), (w * 1.15, 0.7),
                              (w * 1.25, 1.2), (w * 1.6, 2.2), (0, 2.3)]))  # fmt: skip
    if behind:
        c.paint(c.fill(pose.place(outer)), p.scarf * 0.8, light)
        return
    hole = rounded(mirrored([(0, -0.68), (w * 0.6, -0.64), (w * 0.93, -0.3), (w * 0.95, 0.3), (w * 0.74, 0.85),
                             (w * 0.38, 1.06), (0, 1.08)]))  # fmt: skip
    rim = pose(np.concatenate([hole, hole[:1]]))
    c.paint(c.line(rim, width=0.08 * pose.scale, blur=0.03 * pose.scale), BLACK, None, 0.35)
    face = c.fill(rim)
    c.paint(c.inside(c.fill(pose.place(outer)), face, out=True), p.scarf, light)
    c.paint(c.line(rim, width=0.02 * pose.scale), p.scarf * 0.7, light, 0.6)
    folds = [rounded([(x * 0.95, -0.7 + k), (x * (1.12 + 0.05 * k), 0.1 + k), (x * 0.5, 1.15 + k)], 2, closed=False)
             for x in (-w, w) for k in (0, 0.16, 0.34)]  # fmt: skip
    layer = c.line(*[pose.place(f) for f in folds], width=0.035 * pose.scale, blur=0.018 * pose.scale)
    c.paint(c.inside(layer, face, out=True), p.scarf * 0.55, light, 0.4)


def draw_cap(d: Drawing, light: np.ndarray, fabric: np.ndarray) -> None:
    """Draws a baseball cap over the hair."""
    pose, c, w = d.pose, d.canvas, d.person.width * 1.13
    dome = across([(w, -0.42), (w * 1.03, -0.8), (w * 0.6, -1.22), (0, -1.28)])
    rim = across([(w, -0.42), (w * 0.6, -0.5), (0, -0.54)])[::-1]
    visor = mirrored([(w * 0.45, -0.57), (w * 0.86, -0.47), (w * 0.62, -0.27), (0, -0.21)])
    visor = pose.turn(rounded(visor), lift=0.25)
    shadow = c.fill(pose.place(visor + (0, 0.09)), blur=0.05 * pose.scale, within=d.head)
    c.paint(shadow, BLACK, None, 0.42)
    c.paint(c.fill(pose.place(np.concatenate([dome, pose.turn(rim)]))), fabric, light)
    seams = [rounded([(x * w, -0.5), (x * w * 0.75, -0.95), (0, -1.24)], 2, False) for x in (-0.5, 0.0, 0.5)]
    c.paint(d.line(*seams, width=0.012), fabric * 0.5, light, 0.6)
    c.paint(c.fill(pose.place(visor)), fabric * 0.8, light)
    stitches = rounded(visor * 0.9 + visor.mean(0) * 0.1, 1)
    c.paint(c.line(pose.place(stitches), width=0.012 * pose.scale), fabric * 0.5, light, 0.4)
