"""The stage that puts all trained systems and the baselines on one leaderboard: same photos, same judge, same seeds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bmask.errors import DataError
from bmask.files import fresh_folder, write_json
from bmask.progress import say

if TYPE_CHECKING:
    from bmask.data.split.dataset import Dataset
    from bmask.params import Params
    from bmask.quality.leaderboard import Entry
    from bmask.quality.measuring import Reference
    from bmask.quality.render import Rendered

SPLIT = "test"


def evaluate(
    params: Params,
    dataset_folder: Path,
    train_folder: Path,
    judge_folder: Path,
    out: Path,
    masks_folder: Path | None = None,
) -> dict:
    """Scores params.models and params.evaluate.baselines on the test photos and writes into `out`:

    metrics.json (a few numbers, for DVC), scores.json (all of them with their intervals), leaderboard.csv, scores.csv
    (a row per system and photo), scores/<system>.npz (for the gate), ceiling.json (the measures of real
    faces), ladder.json (which measures rank the ladder correctly) and, unless the dataset is private, pictures.npz (for
    the report). If `masks_folder` has cut-outs of the masked test photos, real masks are measured too. Returns the
    content of scores.json.

    Raises:
        DataError: there is no system to score, a file is missing, or a network was trained on another dataset.
        ParamsError: the device does not exist.
    """
    import torch

    from bmask.data.split.dataset import Dataset, resize
    from bmask.gan.device import pick_device
    from bmask.parallel import threads
    from bmask.quality.judge import FILE, SIZE, load_judge
    from bmask.quality.ladder import build
    from bmask.quality.leaderboard import all_scores, headlines, write_leaderboard, write_photo_scores
    from bmask.quality.measuring import ceiling, read_cutouts, reference
    from bmask.quality.pictures import PICTURES, chosen_pictures
    from bmask.quality.render import require_photos
    from bmask.quality.soundness import as_rows, climbs, unsound

    if not params.models and not params.evaluate.baselines:
        raise DataError("there is nothing to score: name a model under models or a baseline under evaluate.baselines")
    device = str(pick_device(params.train.device))
    torch.set_num_threads(threads(params.train.threads))
    dataset = Dataset.open(dataset_folder)
    judge, about = load_judge(Path(judge_folder) / FILE)
    _same_photos(about, dataset, Path(judge_folder))
    size = params.train.image_size
    require_photos(dataset, SPLIT)
    told = params.evaluate.min_told
    climbed = climbs(
        judge, build(resize(dataset.centre(dataset.photos("unmasked", SPLIT)), SIZE), params.evaluate.seed)
    )
    cutouts = read_cutouts(masks_folder, dataset, SPLIT)
    real = reference(dataset, SPLIT, judge, size, device, cutouts, unsound(climbed, told))
    trained = [_scored(params, real, name, Path(train_folder), device) for name in params.models]
    baselines = [_scored(params, real, name, None, device) for name in params.evaluate.baselines]
    entries, rendered = map(list, zip(*trained, *baselines, strict=True))
    found = all_scores(entries)
    with fresh_folder(out) as folder:
        write_json(folder / "metrics.json", headlines(entries))
        write_json(folder / "scores.json", found)
        write_leaderboard(folder / "leaderboard.csv", entries)
        write_photo_scores(folder / "scores.csv", entries)
        for entry in entries:
            entry.scores.save(folder / "scores" / f"{entry.name}.npz")
        write_json(folder / "ceiling.json", ceiling(real))
        write_json(folder / "ladder.json", {"judge": about["digest"], "measures": as_rows(climbed, told)})
        if not dataset.private:
            truth = dataset.truth(SPLIT)
            chosen_pictures(
                {entry.name: own for entry, own in zip(entries, rendered, strict=True)},
                [entry.scores for entry, _ in trained or baselines],
                params.evaluate.pictures,
                None if truth is None else resize(dataset.centre(truth[0]), size),
            ).save(folder / PICTURES)
    for entry in entries:
        left, distance = entry.found["residue_rate"].value, entry.found["paste_distance"].value
        say(f"{entry.name}: a mask still shows in {left:.1%} of photos, distance to the truth {distance:.3f}")
    return found


def _scored(
    params: Params, real: Reference, name: str, train_folder: Path | None, device: str
) -> tuple[Entry, Rendered]:
    """Scores one trained model, or the baseline of that name when there is no `train_folder`."""
    from bmask.quality.baselines import baseline
    from bmask.quality.leaderboard import Entry
    from bmask.quality.measuring import measure
    from bmask.quality.render import renderer, translator
    from bmask.quality.scores import intervals

    if train_folder is None:
        translate = baseline(name, real.dataset, real.size)
    else:
        from bmask.gan.generator_file import FILE, load_generator

        generator, about = load_generator(train_folder / name / FILE)
        _same_photos(about, real.dataset, train_folder / name)
        translate = translator(generator, device, faces=real.dataset.summary["fit"] == "face")
    render = renderer(translate, params.evaluate.attention_threshold, what=name)
    own = render(real.masked)
    scores = measure(own, render, real)
    found = intervals(scores, params.evaluate.bootstrap, params.evaluate.seed)
    return Entry(name, train_folder is not None, scores, found), own


def _same_photos(about: dict, dataset: Dataset, folder: Path) -> None:
    """Raises DataError for a network that was trained on another dataset: it may have seen these test photos."""
    if about.get("data_digest") != dataset.digest:
        raise DataError(f"{folder} was trained on another dataset than {dataset.folder}; run its stage again")
