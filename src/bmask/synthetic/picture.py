"""One photograph of one or two people before a background, in one light and by one camera, with and without masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from bmask.synthetic import features, hair, head, masks, scene
from bmask.synthetic.canvas import Canvas, Pose
from bmask.synthetic.masks import KINDS, Mask
from bmask.synthetic.relief import Relief
from bmask.synthetic.traits import Light, Person, any_colour, sample_light, sample_person, sample_pose

CASES = ("skin_coloured_mask", "hand", "cap", "several_people", "two_masks")  # failures of the published system


@dataclass(frozen=True)
class Face:
    """One drawn photograph; all arrays have the same side S.

    Attributes:
        masked: (S, S, 3) uint8 RGB, with the mask on.
        unmasked: (S, S, 3) uint8 RGB, its twin: equal to `masked`, bit for bit, wherever `region` is 0.
        region: (S, S) uint8, 255 where a mask, its straps or the edge of its shadow is visible, else 0. A hand, glasses
            or hair in front of the mask are not part of it.
        slices: the mask's kind, then the failure case, if the picture shows one.
        person: the main person.
    """

    masked: np.ndarray
    unmasked: np.ndarray
    region: np.ndarray
    slices: tuple[str, ...]
    person: Person


def draw_face(
    seed: int | Sequence[int], size: int, kind: str | None = "surgical", case: str | None = None, oversample: int = 0
) -> Face:
    """Draws one person with and without a mask. The same arguments give the same bytes.

    Args:
        seed: determines the person, the pose, the light and everything else that varies. One seed shows the same
            person in the same pose at every size and with every kind of mask.
        size: side in pixels.
        kind: one of KINDS, or None for no mask; then `masked` equals `unmasked` and a hand leaves the mouth visible.
        case: one of CASES, or None for an easy picture.
        oversample: factor by which the picture is painted larger; 0 means 2, or 3 if size is below 90.
    """
    if kind not in (None, *KINDS) or case not in (None, *CASES):
        raise ValueError(f"kind {kind!r} must be one of {KINDS} or None and case {case!r} one of {CASES} or None")
    people, poses, lights, scenery, mask, lens = (np.random.default_rng([*np.atleast_1d(seed), n]) for n in range(6))
    person = sample_person(people)
    pose, light = sample_pose(poses, person), sample_light(lights)
    canvas = Canvas(size * (oversample or (2 if size >= 90 else 3)))
    plain = scene.plain_light(light, canvas.side)
    scene.draw_background(canvas, scenery)
    if case == "several_people":
        someone = sample_person(people)
        pose, far = _two_poses(poses, pose, sample_pose(poses, someone))
        theirs = masks.sample_mask(mask, KINDS[mask.integers(len(KINDS))])
        _draw_person(canvas, someone, far, light, plain, [theirs] if kind else [], None, scenery)
    worn = _worn(mask, person, kind, case) if kind else []
    _draw_person(canvas, person, pose, light, plain, worn, case, scenery)
    exposure = light.exposure * (0.46 / float(person.skin.mean())) ** 0.3  # cameras expose for the face
    take = scene.camera(lens, exposure, size)
    twin = take(canvas.images[0])
    if canvas.coverage is None:
        return Face(twin, twin, np.zeros((size, size), np.uint8), (), person)
    masked = take(canvas.images[1])
    coverage = cv2.resize(canvas.coverage, (size, size), interpolation=cv2.INTER_AREA)
    region = (coverage > 0.5) | (masked != twin).any(-1)  # the second: soft edges that the camera has blurred
    slices = tuple(filter(None, (kind, case)))
    return Face(masked, twin, region.astype(np.uint8) * 255, slices, person)


def _two_poses(rng: np.random.Generator, near: Pose, far: Pose) -> tuple[Pose, Pose]:
    """Moves the main head aside and places a smaller one behind it."""
    way = rng.choice([-1, 1])
    near = replace(near, x=0.5 - way * rng.uniform(0.10, 0.14), y=near.y + 0.04, scale=rng.uniform(0.36, 0.41))
    x, y, scale = 0.5 + way * rng.uniform(0.28, 0.34), rng.uniform(0.26, 0.38), rng.uniform(0.2, 0.26)
    return near, replace(far, x=x, y=y, scale=scale)


def _worn(rng: np.random.Generator, person: Person, kind: str, case: str | None) -> list[Mask]:
    """The masks of the main person, innermost first."""
    cloth = None
    if case == "skin_coloured_mask":
        cloth = np.clip(person.skin * rng.uniform(0.93, 1.07) + rng.normal(0, 0.01, 3), 0.03, 1)
    outer = masks.sample_mask(rng, kind, cloth)
    if case != "two_masks":
        return [outer]
    other = masks.sample_mask(rng, "surgical" if kind != "surgical" else "cloth")
    under, outer = (outer, other) if kind == "gaiter" else (other, outer)  # a gaiter outside would hide the other mask
    return [replace(under, top=0.06, side=0.97, low=1.13), replace(outer, top=0.24, side=0.80, low=1.0)]


def _draw_person(
    canvas: Canvas,
    person: Person,
    pose: Pose,
    light: Light,
    plain: np.ndarray,
    worn: list[Mask],
    case: str | None,
    rng: np.random.Generator,
) -> None:
    """Draws from back to front: hair behind, body, head, face, masks, then hair, cap, glasses and hand."""
    relief = Relief(person, pose, light, canvas.side)
    d = head.Drawing(canvas, person, pose, relief, plain, rng)
    top = relief.over()
    texture = 1 + np.float32(0.1) * scene.noise(rng, canvas.side, 90, stretch=3)
    scarf = person.hair == "scarf"
    if scarf:
        hair.draw_scarf(d, plain, behind=True)
    else:
        hair.draw_hair_behind(d, plain, texture)
    head.draw_body(d)
    far = -1 if pose.yaw < 0 else 1
    ears = person.hair not in ("long", "wavy", "bob", "scarf")
    if ears:
        head.draw_ear(d, far)
        head.draw_ear(d, -far)
    head.draw_skin(d)
    if ears and abs(pose.yaw) > 0.3:  # the near ear is now in front of the head
        head.draw_ear(d, -far)
    features.draw_eyes(d)
    features.draw_nose(d)
    features.draw_mouth(d)
    features.draw_beard(d, texture)
    for mask in worn:
        masks.draw_mask(d, mask)
    if scarf:
        hair.draw_scarf(d, top, behind=False)
    else:
        hair.draw_hair_front(d, top, texture)
    if case == "cap":
        hair.draw_cap(d, top, any_colour(rng, 0.08, 0.8))
    features.draw_glasses(d)
    if case == "hand":
        way = int(rng.choice([-1, 1]))
        if worn:
            at, angle = (way * rng.uniform(0.0, 0.22), rng.uniform(0.82, 0.98)), rng.uniform(0.15, 0.7)
        else:  # beside the face: both domains have hands, but the mouth must stay visible
            at, angle = (way * rng.uniform(0.72, 0.85), rng.uniform(0.5, 0.7)), rng.uniform(0.0, 0.3)
        scene.draw_hand(canvas, person.skin, plain, pose([at])[0], pose.scale, pose.roll - way * angle, way)
