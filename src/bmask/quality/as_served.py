"""Scores of a model as it is served, whatever the size of its own squares."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bmask.data.split.dataset import Dataset
from bmask.quality.judge import FILE, load_judge
from bmask.quality.measuring import read_cutouts, reference, score
from bmask.quality.render import Rendered
from bmask.quality.scores import Scores
from bmask.serving.unmasker import Unmasker


def score_as_served(
    unmasker: Unmasker,
    dataset: Dataset,
    split: str,
    size: int,
    judge_folder: Path,
    masks_folder: Path | None,
    unsound: tuple[str, ...],
) -> Scores:
    """Scores a model on a split of today's photos, squares of `size` px, by today's judge.

    Args:
        masks_folder: what the stage masks left, where it ran.
        unsound: scores whose measures failed the ladder in evaluate.
    """

    def render(photos: np.ndarray) -> Rendered:
        results = unmasker.unmask(list(photos), framed=True)
        images, weights = (np.stack([getattr(one, name) for one in results]) for name in ("image", "attention"))
        whole = (weights == 255).all()  # as of systems without attention
        return Rendered(photos, images, None if whole else (weights / 255).astype(np.float32))

    judge, _ = load_judge(judge_folder / FILE)
    cutouts = read_cutouts(masks_folder, dataset, split)
    return score(render, reference(dataset, split, judge, size, unmasker.device, cutouts, unsound))
