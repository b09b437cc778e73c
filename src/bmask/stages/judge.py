"""The stage that trains the judge, once per dataset, and refuses one that fails its own checks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bmask.errors import DataError
from bmask.files import fresh_folder, write_json
from bmask.progress import say

if TYPE_CHECKING:
    from bmask.params import Params


def judge(params: Params, dataset_folder: Path, out: Path) -> dict:
    """Trains the judge on the training photos and checks it on the validation photos.

    Writes judge.safetensors and checks.json into `out` and returns the checks. Neither file holds a picture.

    Raises:
        DataError: a split that the judge needs has no photos.
        TrainingError: the judge fails a check of params.judge.
    """
    import torch

    from bmask.data.split.dataset import Dataset, resize
    from bmask.parallel import threads
    from bmask.quality.judge import FILE, SIZE, save_judge
    from bmask.quality.train_judge import check_judge, require_passed, train_judge

    dataset = Dataset.open(dataset_folder)
    photos: dict[tuple[str, str], np.ndarray] = {}
    for split in ("train", "validation"):
        for domain in ("masked", "unmasked"):
            stored = dataset.photos(domain, split)
            if not len(stored):
                raise DataError(f"{dataset_folder} has no {domain} photos in its {split} split; the judge needs them")
            photos[domain, split] = resize(dataset.centre(stored), SIZE)
    torch.set_num_threads(max(1, threads(params.train.threads) - 1))  # one core prepares the next batch
    trained = train_judge(photos["masked", "train"], photos["unmasked", "train"], params.judge)
    masked, unmasked = (photos[domain, "validation"] for domain in ("masked", "unmasked"))
    groups = dataset.groups("masked", "validation"), dataset.groups("unmasked", "validation")
    checks = check_judge(trained, masked, unmasked, groups, params.judge)
    with fresh_folder(out) as folder:
        save_judge(folder / FILE, trained, {"data_digest": dataset.digest})
        write_json(folder / "checks.json", {**checks, "data_digest": dataset.digest, "size": SIZE})
        # Beside `out`, since a failure leaves `out` unchanged.
        failed = Path(out).with_name(f"{Path(out).name}-failed-checks.json")
        failed.unlink(missing_ok=True)
        if not checks["passed"]:
            write_json(failed, checks)
            require_passed(checks, str(failed))
    say(f"judge: clean {checks['clean']:.3f}, found {checks['found']:.3f}, fooled {checks['fooled']:.3f}")
    return checks
