"""Stage train: trains one model of `models` on the augmented photos; writes its networks, losses and samples.

The outputs hold everything that is needed to log the training again, since DVC caches outputs but no side effects.
"""

from __future__ import annotations

import csv
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save

from bmask.data.split.dataset import Dataset, resize, to_tensor
from bmask.errors import DataError, Preempted, TrainingError
from bmask.faces.template import TEMPLATE
from bmask.files import fresh_folder, read_json, write_bytes, write_json
from bmask.fingerprint import fingerprint, identity, short
from bmask.gan.device import pick_device
from bmask.gan.generator_file import FILE, save_generator
from bmask.observers.checkpoint_sync import open_checkpoints, remove_samples
from bmask.observers.progress_bar import Progress
from bmask.observers.sample_sheets import SampleSheets
from bmask.placement import Placement, in_words
from bmask.progress import say
from bmask.recipe import (
    DISCRIMINATORS,
    MASK_GENERATOR,
    frozen_files,
    given_digests,
    loop_options,
    open_photos,
    placement_of,
    recipe_of,
    say_resume,
    warm_files,
    warm_weights,
)
from bmask.tracking.outputs import take_back
from bmask.tracking.tracker import Tracker
from bmask.training.distributed import Lost, World, joined, launched_processes
from bmask.training.health import Diverged, OutOfMemory, peak_memory
from bmask.training.launch import in_processes
from bmask.training.loop import Observer
from bmask.training.loop import train as run_loop
from bmask.training.options import LoopOptions
from bmask.training.schedule import steps_per_epoch
from bmask.training.stopping import Stopped

if TYPE_CHECKING:
    from bmask.params import Params
    from bmask.params.sections import Model


def train(
    params: Params, model: str, dataset_folder: Path, augment_folder: Path, masks_folder: Path, out: Path
) -> None:
    """Trains `models.<model>` and writes its folder: its networks, losses.csv, samples/, run.json.

    A training that MLflow holds finished is not repeated: its folder is fetched from there. A killed training goes on
    from its last checkpoint below `train.checkpoints`, on another machine too if that is in object storage. The run is
    visible in MLflow while it trains. With torchrun or `train.processes`, several processes share each batch, and the
    first one writes.

    Raises:
        ParamsError: there is no such model or device.
        DataError: the photos do not fit, or the object storage fails at the start.
        TrainingError: the training diverged, does not fit the memory, or lost a process.
        Preempted: SIGTERM stopped it; the state is saved.
    """
    folders = (dataset_folder, augment_folder, masks_folder)
    plan = _plan(params, model, *folders)
    if launched_processes() > 1:  # by torchrun, which starts this function in each process
        _train_here(params, plan, None, *folders, out)
        return
    known = _taken_back(params, plan, dataset_folder, out)
    if known == "taken":
        return
    whole = (params, plan, known, *folders, out)
    if plan.placement.processes > 1:
        in_processes(plan.placement.processes, _train_here, *whole)
    else:
        _train_here(*whole)


@dataclass(frozen=True)
class _Plan:
    """What is known of a training before it starts; the same in all of its processes."""

    model: str
    placement: Placement
    warm: dict[str, Path]  # files of a warm start, by direction
    frozen: dict[str, Path]  # files of networks that are used but not trained, by name
    fingerprint: dict
    about: dict[str, Any]  # as in run.json

    @property
    def folder(self) -> str:
        """The name of its checkpoints' folder."""
        return f"{self.model}-{short(self.fingerprint)}"


def _plan(params: Params, model: str, dataset_folder: Path, augment_folder: Path, masks_folder: Path) -> _Plan:
    recipe = recipe_of(params, model)
    placement = placement_of(params, recipe)
    dataset = Dataset.open(dataset_folder)
    photos, digest = open_photos(recipe, augment_folder, masks_folder)
    warm, frozen = warm_files(recipe), frozen_files(model, recipe, masks_folder)
    parts = fingerprint(params, recipe, digest, warm) | given_digests(recipe, photos, frozen)
    about: dict[str, Any] = {"model": model, "fingerprint": identity(parts, recipe), "data_digest": dataset.digest}
    about |= {"params": _plain(params, recipe), "data_revision": dataset.summary.get("revision", "")}
    return _Plan(model, placement, warm, frozen, parts, about)


def _taken_back(params: Params, plan: _Plan, dataset_folder: Path, out: Path) -> str:
    """Whether the training was taken from MLflow: `taken`, `absent`, or `silent` where MLflow does not answer."""
    private = Dataset.open(dataset_folder).private
    if private:
        remove_samples(params, plan.folder)  # made before the photos were called private
    known = take_back(plan.about | {"private": private}, out)
    if known:
        say(f"it was computed {in_words(read_json(Path(out) / 'run.json')['placed'][-1])}")
    return "silent" if known is None else "taken" if known else "absent"


def _train_here(
    params: Params,
    plan: _Plan,
    known: str | None,
    dataset_folder: Path,
    augment_folder: Path,
    masks_folder: Path,
    out: Path,
) -> None:
    """Trains in one of the processes that train together. `known`: from `_taken_back`; None if not yet asked."""
    model, placement, parts, about = plan.model, plan.placement, plan.fingerprint, dict(plan.about)
    recipe = recipe_of(params, model)
    options = loop_options(params, recipe, placement)
    dataset = Dataset.open(dataset_folder)
    photos, _ = open_photos(recipe, augment_folder, masks_folder)
    masked = dataset.centre(dataset.photos("masked", "validation")[: params.train.samples])
    shown = resize(masked, params.train.image_size)
    with _explained(model), joined(pick_device(params.train.device)) as world:
        if known is None:
            known = _taken_back(params, plan, dataset_folder, out) if world.first else "absent"
            if world.any(known == "taken"):
                return
        folder = Path(plan.folder)
        observers: list[Observer] = []
        tracker = Tracker(about, folder / "samples")
        if world.first:
            say(f"train {model}: {placement}")
            folder, syncs = open_checkpoints(params, folder.name, parts, dataset.private)
            say_resume(folder, parts, options, placement)
            samples = SampleSheets(folder / "samples", private=dataset.private)
            tracker = Tracker(about, samples.folder, live=known != "silent")
            observers = [Progress(model, options), samples, tracker, *syncs]
        with _tracked(tracker):
            given = {name: load_file(path) for name, path in plan.frozen.items()}
            start = warm_weights(recipe, plan.warm, given, _framing(dataset))
            result = run_loop(
                recipe.network, photos, to_tensor(shown), options, folder, parts, observers, start, world, given
            )
    if not world.first:
        return
    about |= {
        "seconds": round(result.seconds, 1),
        "steps": result.steps,
        "device": result.placed[-1]["device"],
        "precision": result.placed[-1]["precision"],
        "placed": result.placed,
        "placed_why": placement.why,
        "private": dataset.private,
    }
    with fresh_folder(out) as fresh:
        header: dict[str, Any] = {key: about[key] for key in ("model", "fingerprint", "data_digest")}
        header |= {
            "network": asdict(recipe.network),
            "image_size": params.train.image_size,
            **_framing(dataset),
        }
        save_generator(fresh / FILE, result.generators["ab"], {**header, "direction": "masked to unmasked"})
        if "ba" in result.generators:
            about_ba = {**header, "direction": "unmasked to masked"}
            save_generator(fresh / MASK_GENERATOR, result.generators["ba"], about_ba)
        if len(result.discriminators):
            half = {k: v.detach().half().cpu().contiguous() for k, v in result.discriminators.state_dict().items()}
            write_bytes(fresh / DISCRIMINATORS, save(half))  # only for a warm start; serving does not use them
        _write_losses(fresh / "losses.csv", result.history)
        (fresh / "samples").mkdir()
        for sheet in samples.sheets(params.train.sample_every, options.epochs):
            shutil.copy2(sheet, fresh / "samples" / sheet.name)
        write_json(fresh / "run.json", about)
    tracker.finish(out, params.evaluate.attention_threshold)


def _framing(dataset: Dataset) -> dict[str, Any]:
    """How the photos were framed, for a generator's header: serving must frame photos in the same way."""
    fit = dataset.summary["fit"]
    return {"fit": fit} | ({"template": TEMPLATE.tolist()} if fit == "face" else {})


@contextmanager
def _explained(model: str) -> Iterator[None]:
    """Turns the errors that end a training early into those that the command line reports."""
    try:
        yield
    except (Diverged, OutOfMemory, Lost) as error:
        raise TrainingError(f"models.{model}: {error}") from None
    except Stopped as error:
        raise Preempted(f"models.{model}: {error} by SIGTERM; the same command goes on from there") from None
    except ValueError as error:
        raise DataError(f"models.{model}: {error}") from None


@contextmanager
def _tracked(tracker: Tracker) -> Iterator[None]:
    """Marks the run in MLflow as failed or killed if the training ends early."""
    try:
        yield
    except (Diverged, OutOfMemory, Lost, ValueError) as error:
        tracker.failed(str(error))
        raise
    except BaseException:
        tracker.interrupted()
        raise


def dry_run(params: Params, model: str, dataset_folder: Path, augment_folder: Path, masks_folder: Path) -> str:
    """Trains a few steps in a temporary folder; returns the whole training's time and memory as text. Logs nothing."""
    import tempfile

    recipe = recipe_of(params, model)
    placement = placement_of(params, recipe)
    photos, _ = open_photos(recipe, augment_folder, masks_folder)
    options = loop_options(params, recipe, placement)
    frozen = {name: load_file(path) for name, path in frozen_files(model, recipe, masks_folder).items()}
    processes, warmup, timed = placement.processes, 2, 5

    def seconds(steps: int) -> float:
        few = {
            "epochs": 1,
            "constant_epochs": 1,
            "epoch_photos": steps * batch,
            "sample_every": 2,
            "batch_size": batch,
        }
        with tempfile.TemporaryDirectory() as folder:
            began = time.monotonic()
            shown = torch.zeros(1, 3, options.image_size, options.image_size)
            brief = LoopOptions(**{**asdict(options), **few})
            run_loop(recipe.network, photos, shown, brief, Path(folder), {}, frozen=frozen)
            return time.monotonic() - began

    with _explained(model):
        batch = World(size=processes).share(options.batch_size).stop  # photos per step of one process
        seconds(warmup)
        step = max(1e-6, (seconds(warmup + timed) - seconds(warmup)) / timed)
    per_epoch = steps_per_epoch(photos, options.epoch_photos, options.batch_size)
    device = torch.device(placement.device)
    if device.type == "cuda":
        memory = f"{torch.cuda.max_memory_allocated(device) / 2**30:.1f} GB on the device"
    else:
        memory = f"{peak_memory():.1f} GB"
    total = options.epochs * per_epoch
    shared = f" (measured with one process alone and its share of {batch})" if processes > 1 else ""
    return (
        f"{model}: {recipe.network.system}, {placement};"
        f" {options.epochs} epochs of {per_epoch} steps with batch {options.batch_size}{shared};"
        f" {step:.3f} s a step, about {total * step / 60:.1f} minutes in all, {memory}"
    )


def _plain(params: Params, recipe: Model) -> dict:
    return {
        "network": asdict(recipe.network),
        "schedule": recipe.schedule.model_dump(),
        "train": params.train.model_dump(exclude={"checkpoints"}),
    }


def _write_losses(path: Path, history: list[dict]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        names = list(dict.fromkeys(name for row in history for name in row))  # a loss may begin in a later epoch
        writer = csv.DictWriter(file, fieldnames=names)
        writer.writeheader()
        writer.writerows(history)
