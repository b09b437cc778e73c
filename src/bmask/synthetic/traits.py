"""The random properties of a drawn person, of the pose and of the light."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike

from bmask.synthetic.canvas import Pose, colour

T = TypeVar("T")

TONES = tuple(
    colour(*rgb)
    for rgb in (
        (251, 218, 197), (245, 205, 177), (240, 192, 158), (230, 178, 140), (214, 158, 116),
        (193, 135, 95), (166, 110, 76), (138, 88, 61), (108, 68, 49), (82, 53, 41),
    )
)  # fmt: skip
HAIR_COLOURS = (
    (22, 19, 20), (34, 26, 23), (56, 38, 28), (84, 56, 36), (118, 80, 48), (160, 118, 70), (204, 166, 106),
    (224, 198, 148), (140, 62, 30), (172, 82, 40), (128, 124, 122), (206, 204, 200), (60, 90, 120), (150, 70, 110),
)  # fmt: skip
HAIR_ODDS = np.array([16, 16, 14, 11, 9, 7, 6, 4, 3, 3, 5, 4, 1, 1], float)
IRIS_COLOURS = (
    (58, 36, 22), (84, 54, 30), (110, 78, 44), (96, 104, 62), (74, 108, 92), (84, 122, 160), (120, 140, 156),
)  # fmt: skip
IRIS_ODDS = np.array([9, 8, 4, 2, 2, 3, 2], float)
LIP_COLOURS = ((170, 30, 45), (190, 70, 85), (140, 40, 70), (200, 95, 85), (120, 30, 40))
STYLES = {  # hair: odds for people who may have a beard, odds for the others
    "bald": (6, 1), "buzz": (13, 2), "short": (22, 7), "side": (19, 10), "quiff": (16, 5), "fringe": (9, 11),
    "bob": (3, 18), "long": (5, 24), "wavy": (3, 20), "afro": (5, 6), "curly": (7, 8), "bun": (2, 14),
    "receding": (7, 0), "scarf": (0, 6),
}  # fmt: skip
EXPRESSIONS = {  # odds, range of the smile (-1..1), range of the open mouth (0..1)
    "neutral": (30, (-0.2, 0.3), (0, 0)), "smile": (24, (0.4, 0.9), (0, 0)), "grin": (18, (0.5, 1), (0.22, 0.4)),
    "open": (8, (-0.3, 0.3), (0.3, 0.8)), "frown": (10, (-0.9, -0.35), (0, 0)), "laugh": (10, (0.6, 1), (0.5, 0.9)),
}  # fmt: skip
BEARDS = ("none", "stubble", "moustache", "goatee", "short", "full")
GLASSES = ("none", "round", "square", "wide")
COLLARS = ("round", "v", "shirt", "hood")


@dataclass(frozen=True)
class Person:
    """The person who is drawn. Lengths are in head units (see Pose), colours RGB in 0..1."""

    tone: int  # index of the nearest of TONES
    skin: np.ndarray
    blush: float
    freckles: float
    age: float  # 0..1
    width: float  # half width of the head at the cheekbones
    jaw: float  # half width at the corners of the jaw
    chin: float  # half width of the chin
    ears: float
    hair: str
    hair_colour: np.ndarray
    volume: float
    part: float  # x of the parting
    hairline: float  # y
    fringe: float
    sweep: float  # slope of the fringe
    brow: float  # thickness
    brow_tilt: float
    brow_colour: np.ndarray
    eye_gap: float
    eye_width: float
    eye_open: float
    eye_tilt: float
    iris: np.ndarray
    nose_width: float
    nose_length: float
    mouth_width: float
    lips: float  # fullness
    lip_colour: np.ndarray
    makeup: float
    beard: str
    glasses: str
    glasses_colour: np.ndarray
    smile: float  # -1..1
    mouth_open: float  # 0..1
    teeth: bool
    gaze: tuple[float, float]
    raised: float  # brows
    collar: str
    cloth: np.ndarray
    cloth_second: np.ndarray
    scarf: np.ndarray


@dataclass(frozen=True)
class Light:
    """One light for the whole picture."""

    direction: np.ndarray  # (3,) unit vector, x right, y down, z towards the camera
    ambient: float
    tint: np.ndarray
    exposure: float

    @property
    def halfway(self) -> np.ndarray:
        """Unit vector halfway between light and camera; surfaces that face it are shiny."""
        middle = self.direction + np.array([0, 0, 1], np.float32)
        return middle / np.linalg.norm(middle)


def any_colour(rng: np.random.Generator, low: float = 0.12, high: float = 0.9) -> np.ndarray:
    """A colour of clothes, walls and fabrics: often muted, sometimes strong."""
    grey = rng.uniform(low, high)
    return np.clip(grey + rng.normal(0, (0.02, 0.06, 0.13)[rng.integers(3)], 3), 0.03, 0.97).astype(np.float32)


def _choice(rng: np.random.Generator, items: Sequence[T], odds: ArrayLike) -> T:
    return items[rng.choice(len(items), p=np.asarray(odds, float) / np.sum(odds))]


def sample_person(rng: np.random.Generator) -> Person:
    tone = int(rng.integers(len(TONES)))
    nearby = TONES[min(max(tone + rng.choice([-1, 1]), 0), len(TONES) - 1)]
    skin = TONES[tone] + (nearby - TONES[tone]) * rng.uniform(0, 0.45) + rng.normal(0, 0.008, 3)
    skin = np.clip(skin * rng.normal((1, 1, 1), (0.01, 0.01, 0.018)), 0.03, 0.99).astype(np.float32)
    bearded = rng.random() < 0.45  # may have a beard; the others more often have long hair and make-up
    dark_odds = np.where(np.arange(len(HAIR_COLOURS)) < 4, 1 + tone, 1.0)
    hair_colour = colour(*_choice(rng, HAIR_COLOURS, HAIR_ODDS * dark_odds)) * rng.uniform(0.8, 1.2)
    hair = _choice(rng, tuple(STYLES), [odds[0 if bearded else 1] for odds in STYLES.values()])
    width = rng.uniform(0.64, 0.75)
    expression = _choice(rng, tuple(EXPRESSIONS), [odds for odds, _, _ in EXPRESSIONS.values()])
    smile, opened = (rng.uniform(*span) for span in EXPRESSIONS[expression][1:])
    makeup = 0.0 if bearded else float(rng.random() < 0.5) * rng.uniform(0.3, 1)
    lip = skin * (0.82, 0.62, 0.62) + (0.05, 0.0, 0.01)
    painted = colour(*LIP_COLOURS[rng.integers(len(LIP_COLOURS))])
    lip = lip + (painted - lip) * makeup * 0.75
    brow_colour = np.minimum(hair_colour * 0.75, skin * 0.55)
    return Person(
        tone=tone,
        skin=skin,
        blush=rng.uniform(0, 1) * (0.5 + makeup),
        freckles=float(rng.random() < 0.12 and tone < 5) * rng.uniform(0.4, 1),
        age=rng.beta(1.3, 2.0),
        width=width,
        jaw=width * rng.uniform(0.78, 0.93),
        chin=width * rng.uniform(0.36, 0.56),
        ears=rng.uniform(0.85, 1.2),
        hair=hair,
        hair_colour=np.clip(hair_colour, 0.03, 0.95).astype(np.float32),
        volume=rng.uniform(0.0, 1.0),
        part=rng.uniform(-0.35, 0.35),
        hairline=rng.uniform(-0.68, -0.56),
        fringe=rng.uniform(-0.42, -0.25),
        sweep=rng.normal(0, 0.1),
        brow=rng.uniform(0.035, 0.065) * (1.15 if bearded else 0.85),
        brow_tilt=rng.normal(-0.01, 0.03),
        brow_colour=np.clip(brow_colour, 0.03, 0.6).astype(np.float32),
        eye_gap=width * rng.uniform(0.42, 0.48),
        eye_width=rng.uniform(0.135, 0.165),
        eye_open=rng.uniform(0.38, 0.56) * (1 - 0.3 * max(0, smile) * (opened > 0)),
        eye_tilt=rng.normal(0.03, 0.07),
        iris=colour(*_choice(rng, IRIS_COLOURS, IRIS_ODDS * (np.arange(7) < 3 if tone > 5 else 1.0))),
        nose_width=rng.uniform(0.115, 0.185),
        nose_length=rng.uniform(0.36, 0.46),
        mouth_width=rng.uniform(0.2, 0.28),
        lips=rng.uniform(0.6, 1.35),
        lip_colour=np.clip(lip, 0.05, 0.95).astype(np.float32),
        makeup=makeup,
        beard=_choice(rng, BEARDS, [4, 4, 2, 2, 4, 4]) if bearded else "none",
        glasses=_choice(rng, GLASSES, [72, 9, 11, 8]),
        glasses_colour=any_colour(rng, 0.04, 0.35),
        smile=smile,
        mouth_open=opened,
        teeth=expression in ("grin", "laugh"),
        gaze=(rng.normal(0, 0.14), rng.normal(0, 0.08)),
        raised=rng.normal(0, 0.03) + 0.04 * (expression == "open"),
        collar=_choice(rng, COLLARS, [4, 3, 3, 2]),
        cloth=any_colour(rng, 0.08, 0.85),
        cloth_second=any_colour(rng, 0.2, 0.95),
        scarf=any_colour(rng, 0.15, 0.85),
    )


def sample_pose(rng: np.random.Generator, person: Person) -> Pose:
    return Pose(
        x=0.5 + rng.normal(0, 0.025),
        y=0.495 + rng.normal(0, 0.022),
        scale=rng.uniform(0.41, 0.49),
        roll=rng.normal(0, 0.09),
        yaw=float(np.clip(rng.normal(0, 0.42), -0.95, 0.95)),
        pitch=float(np.clip(rng.normal(0, 0.35), -0.8, 0.8)),
        width=person.width * 1.05,
    )


def sample_light(rng: np.random.Generator) -> Light:
    direction = np.array([rng.uniform(-0.75, 0.75), rng.uniform(-0.75, -0.05), rng.uniform(0.7, 1.0)])
    warmth = rng.normal(0.015, 0.02)
    return Light(
        direction=(direction / np.linalg.norm(direction)).astype(np.float32),
        ambient=rng.uniform(0.35, 0.62),
        tint=np.array([1 + warmth, 1, 1 - 1.3 * warmth], np.float32),
        exposure=float(np.exp(rng.normal(0, 0.1))),
    )
