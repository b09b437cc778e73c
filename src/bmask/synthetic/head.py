"""Draws the head without its features (see features.py): outline, neck, clothes, ears and bare skin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from bmask.synthetic.canvas import Canvas, Corners, Layer, Points, Pose, across, ellipse, mirrored, rounded
from bmask.synthetic.relief import Relief
from bmask.synthetic.traits import Person

BLACK = np.zeros(3, np.float32)
WHITE = np.ones(3, np.float32)


class Drawing:
    """One person on a canvas: the state that all drawing functions share.

    Attributes:
        outline: the head's silhouette, in shares of the side. head: its layer.
        plain: (3, side, side), the light on clothes and on objects far from the head.
    """

    def __init__(
        self, canvas: Canvas, person: Person, pose: Pose, relief: Relief, plain: np.ndarray, rng: np.random.Generator
    ) -> None:
        self.canvas, self.person, self.pose, self.relief = canvas, person, pose, relief
        self.plain, self.rng = plain, rng
        self.outline = pose(_outline(person))
        self.head = canvas.fill(self.outline)

    def fill(self, *outlines: Points, blur: float = 0.0, within: Layer | None = None, lift: float = 0.0) -> Layer:
        """The layer of outlines in head coordinates; blur in head units."""
        return self.canvas.fill(*self._at(outlines, lift), blur=blur * self.pose.scale, within=within)

    def line(
        self, *lines: Points, width: float, blur: float = 0.0, within: Layer | None = None, lift: float = 0.0
    ) -> Layer:
        """The layer of strokes in head coordinates; width and blur in head units."""
        scale = self.pose.scale
        return self.canvas.line(*self._at(lines, lift), width=width * scale, blur=blur * scale, within=within)

    def paint(
        self,
        layer: Layer,
        paint: ArrayLike,
        opacity: float = 1.0,
        texture: np.ndarray | None = None,
        lit: bool = True,
    ) -> None:
        """Paints in the light of the skin, or without light."""
        self.canvas.paint(layer, paint, self.relief.skin if lit else None, opacity, texture)

    def ear_x(self, way: int) -> float:
        """x of the ear on the side `way` (-1 or 1), in turned head coordinates."""
        return way * (self.person.width + 0.02 - 0.12 * abs(self.pose.yaw)) - 0.05 * self.pose.yaw

    def _at(self, outlines: Sequence[Points], lift: float) -> list[Points]:
        if len(outlines) == 1:
            return [self.pose(outlines[0], lift)]
        placed = self.pose(np.concatenate(outlines), lift)
        return np.split(placed, np.cumsum([len(o) for o in outlines[:-1]]))


def _outline(p: Person) -> Points:
    w = p.width
    right = [(0, -1.1), (w * 0.5, -1.1), (w * 0.93, -0.86), (w * 1.07, -0.45), (w * 1.05, -0.05), (w * 0.99, 0.3),
             (p.jaw, 0.68), (p.chin, 0.99), (p.chin * 0.45, 1.05), (0, 1.07)]  # fmt: skip
    return rounded(mirrored(right), 3)


def draw_body(d: Drawing) -> None:
    """Neck, shoulders and clothes."""
    p, pose, c = d.person, d.pose, d.canvas
    still = replace(pose, roll=pose.roll * 0.4, x=pose.x + pose.yaw * 0.06 * pose.scale)
    width = p.jaw * 0.84

    def at(right: Corners, times: int = 2) -> Points:
        return still.place(rounded(mirrored(right), times))

    if p.collar == "hood":
        c.paint(c.fill(at([(0, 0.75), (0.75, 0.85), (0.98, 1.2), (0.8, 1.7), (0, 1.8)])), p.cloth * 0.72, d.plain)
    arms = [(1.15, 1.43), (1.75, 1.75), (2.1, 2.6), (2.1, 6), (0, 6)]
    neck = c.fill(at([(0, 0.3), (width, 0.3), (width * 0.95, 1.0), (width * 1.2, 1.32), (width * 1.3, 1.8), (0, 1.9)]))
    c.paint(c.fill(at([(0, 1.1), (width * 0.9, 1.16), *arms])), p.cloth, d.plain)
    c.paint(neck, p.skin * (0.96, 0.93, 0.92), d.plain)
    shadow = c.fill(d.outline + (0, 0.1 * pose.scale), blur=0.07 * pose.scale, within=neck)
    c.paint(shadow, p.skin * (0.46, 0.36, 0.33), None, 0.7)
    tip = 0.0 if p.collar == "v" else width * 0.55
    dip = {"round": 1.42, "v": 1.8, "shirt": 1.52, "hood": 1.4}[p.collar]
    opening = c.fill(at([(0, 0.9), (width * 1.15, 1.05), (width * 1.27, 1.27), (tip, dip), (0, dip)]))
    torso = c.fill(at([(0, 1.22), (width * 1.35, 1.24), *arms]))
    c.paint(c.inside(torso, opening, out=True), p.cloth, d.plain)
    if p.collar == "shirt":
        for way in (-1, 1):
            flap = np.array([(width * 1.2, 1.1), (width * 1.4, 1.3), (0.34, 1.75), (0.03, 1.52)]) * (way, 1)
            flap = still.place(flap)
            c.paint(c.fill(flap, blur=0.01), BLACK, None, 0.3)
            c.paint(c.fill(flap), np.minimum(p.cloth * 1.1 + 0.03, 1), d.plain)
    else:
        edge = rounded([(-width * 1.27, 1.2), (-tip, dip), (tip, dip), (width * 1.27, 1.2)], 2, closed=False)
        c.paint(c.line(still.place(edge), width=0.06 * pose.scale, within=torso), p.cloth * 0.75, d.plain)


def draw_ear(d: Drawing, way: int) -> None:
    p, pose, c = d.person, d.pose, d.canvas
    x = d.ear_x(way)
    ear = rounded([(x - way * 0.1, -0.12), (x + way * 0.06, -0.17), (x + way * 0.11 * p.ears, -0.02),
                   (x + way * 0.07 * p.ears, 0.17), (x, 0.27), (x - way * 0.1, 0.22)])  # fmt: skip
    hollow = rounded([(x, -0.09), (x + way * 0.06, -0.07), (x + way * 0.05, 0.07), (x, 0.14)], 2)
    c.paint(c.fill(pose.place(ear), blur=0.025 * pose.scale), p.skin * (0.45, 0.33, 0.3), None, 0.4)
    c.paint(c.fill(pose.place(ear)), p.skin * (0.97, 0.86, 0.84), d.relief.skin)
    c.paint(c.fill(pose.place(hollow), blur=0.02 * pose.scale), p.skin * (0.66, 0.5, 0.47), d.relief.skin, 0.8)


def draw_skin(d: Drawing) -> None:
    """The bare head with blush, folds and freckles."""
    p, rng = d.person, d.rng
    d.paint(d.head, p.skin)
    red, fold = p.skin * (1.0, 0.74, 0.72) + (0.03, 0, 0), p.skin * (0.62, 0.49, 0.46)
    for way in (-1, 1):
        cheek = d.fill(ellipse(way * 0.37, 0.29, 0.16, 0.12), blur=0.09, within=d.head)
        d.paint(cheek, red, 0.2 + 0.4 * p.blush)
        socket = d.fill(ellipse(way * 0.3, -0.02, 0.17, 0.10), blur=0.05, within=d.head)
        d.paint(socket, p.skin * (0.78, 0.66, 0.64), 0.4)
        smile_line = rounded([(way * 0.19, 0.37), (way * 0.27, 0.5), (way * (0.30 + 0.03 * p.smile), 0.63)], 2, False)
        d.paint(d.line(smile_line, width=0.02, blur=0.016), fold, 0.08 + 0.34 * p.age + 0.22 * max(0, p.smile))
        bag = rounded([(way * 0.2, 0.07), (way * 0.3, 0.12), (way * 0.41, 0.07)], 2, False)
        d.paint(d.line(bag, width=0.02, blur=0.014), fold, 0.1 + 0.4 * p.age)
    if p.age > 0.5:
        creases = [across([(0.3, y), (0.1, y - 0.02)], 2) for y in (-0.5, -0.42, -0.34)]
        d.paint(d.line(*creases, width=0.012, blur=0.008), fold, 0.6 * (p.age - 0.5))
    if p.freckles:
        spots = zip(rng.normal(0, 0.27, 70), rng.normal(0.2, 0.10, 70), strict=True)
        layer = d.fill(*[ellipse(x, y, 0.012, 0.011, corners=6) for x, y in spots], within=d.head)
        d.paint(layer, p.skin * (0.72, 0.5, 0.38), 0.5 * p.freckles)
