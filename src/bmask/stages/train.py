"""Stage train: one model of `models` from the augmented photos to its generators, losses and samples.

Everything that is needed to log the training again is among the outputs, since DVC caches outputs and not side effects.
"""

from __future__ import annotations

import csv
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file

from bmask.data.split.dataset import Split, resize, to_tensor
from bmask.errors import DataError, Preempted, TrainingError
from bmask.files import fresh_folder, write_json
from bmask.fingerprint import fingerprint, identity, short
from bmask.gan.device import pick_device
from bmask.gan.generator_file import FILE, save_generator
from bmask.observers.checkpoint_sync import open_checkpoints
from bmask.observers.progress_bar import Progress
from bmask.observers.sample_sheets import SampleSheets
from bmask.placement import Placement
from bmask.progress import say
from bmask.recipe import (
    MASK_GENERATOR,
    frozen_files,
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
from bmask.training.health import Diverged, OutOfMemory
from bmask.training.launch import in_processes
from bmask.training.loop import Observer
from bmask.training.loop import train as run_loop
from bmask.training.options import LoopOptions
from bmask.training.stopping import Stopped

if TYPE_CHECKING:
    from bmask.params import Params
    from bmask.params.sections import Model


def train(params: Params, model: str, split_folder: Path, augment_folder: Path, out: Path) -> None:
    """Trains `models.<model>` and writes its folder: both generators, losses.csv, samples/, run.json.

    A training that MLflow holds finished is not repeated: its folder is written from there. One that was killed goes on
    from its last checkpoint below `train.checkpoints`, on another disk too when that is in object storage. The run
    appears in MLflow while it trains. Started by torchrun, or as `train.processes` says, several processes share each
    batch, and the first one writes.

    Raises:
        ParamsError: there is no such model or device.
        DataError: the photos do not fit, or the object storage fails at the start.
        TrainingError: the training diverged, does not fit the memory, or lost a process.
        Preempted: SIGTERM stopped it; the state is saved.
    """
    placement = placement_of(params, recipe_of(params, model))
    whole = (params, model, placement, split_folder, augment_folder, out)
    if placement.processes > launched_processes():
        Split.open(split_folder), open_photos(augment_folder)  # what is missing is said before all that starts
        in_processes(placement.processes, _train_here, *whole)
    else:
        _train_here(*whole)


def _train_here(
    params: Params, model: str, placement: Placement, split_folder: Path, augment_folder: Path, out: Path
) -> None:
    """In each of the processes that train together."""
    recipe = recipe_of(params, model)
    options = loop_options(params, recipe, placement)
    split = Split.open(split_folder)
    photos, digest = open_photos(augment_folder)
    warm = warm_files(recipe)
    frozen = frozen_files(model, recipe)
    shown = resize(split.photos("masked", "validation")[: params.train.samples], params.train.image_size)
    with _explained(model), joined(pick_device(params.train.device)) as world:
        bits = fingerprint(params, recipe, digest, warm)
        bits |= {f"frozen.{name}": sha256(path.read_bytes()).hexdigest() for name, path in frozen.items()}
        about: dict[str, Any] = {"model": model, "fingerprint": identity(bits, recipe), "data_digest": split.digest}
        about["params"] = _plain(params, recipe)
        about["data_revision"] = split.summary.get("revision", "")
        known = take_back(about | {"private": split.private}, out) if world.first else False
        if world.any(known is True):
            return
        folder = Path(f"{model}-{short(bits)}")
        observers: list[Observer] = []
        tracker = Tracker(about, folder / "samples")
        if world.first:
            say(f"train {model}: {placement}")
            folder, syncs = open_checkpoints(params, folder.name, bits, split.private)
            say_resume(folder, bits, options, placement)
            samples = SampleSheets(folder / "samples", private=split.private)
            tracker = Tracker(about, samples.folder, live=known is not None)
            observers = [Progress(model, options), samples, tracker, *syncs]
        with _tracked(tracker):
            start = warm_weights(recipe, warm)
            given = {name: load_file(path) for name, path in frozen.items()}
            result = run_loop(
                recipe.network, photos, to_tensor(shown), options, folder, bits, observers, start, world, given
            )
    if not world.first:
        return
    about |= {
        "seconds": round(result.seconds, 1),
        "steps": result.steps,
        "device": placement.device,
        "precision": result.placed[-1]["precision"],
        "placed": result.placed,
        "placed_why": placement.why,
        "private": split.private,
    }
    with fresh_folder(out) as fresh:
        header: dict[str, Any] = {key: about[key] for key in ("model", "fingerprint", "data_digest")}
        header |= {"network": asdict(recipe.network), "image_size": params.train.image_size, "fit": params.ingest.fit}
        save_generator(fresh / FILE, result.generators["ab"], {**header, "direction": "masked to unmasked"})
        if "ba" in result.generators:
            about_ba = {**header, "direction": "unmasked to masked"}
            save_generator(fresh / MASK_GENERATOR, result.generators["ba"], about_ba)
        _write_losses(fresh / "losses.csv", result.history)
        (fresh / "samples").mkdir()
        for sheet in samples.sheets(params.train.sample_every, options.epochs):
            shutil.copy2(sheet, fresh / "samples" / sheet.name)
        write_json(fresh / "run.json", about)
    tracker.finish(out, params.evaluate.attention_floor)


@contextmanager
def _explained(model: str) -> Iterator[None]:
    """What ends a training early, as the command line says it."""
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
    """What ends a training early, as its run in MLflow says it."""
    try:
        yield
    except (Diverged, OutOfMemory, Lost, ValueError) as error:
        tracker.failed(str(error))
        raise
    except BaseException:
        tracker.interrupted()
        raise


def dry_run(params: Params, model: str, split_folder: Path, augment_folder: Path) -> str:
    """Trains a few steps in a throwaway folder and says what the whole would take. Nothing is logged or kept."""
    import resource
    import tempfile

    pick_device(params.train.device)
    recipe = recipe_of(params, model)
    photos, _ = open_photos(augment_folder)
    placement = placement_of(params, recipe)
    options = loop_options(params, recipe, placement)
    frozen = {name: load_file(path) for name, path in frozen_files(model, recipe).items()}
    processes, warmup, timed = placement.processes, 2, 5

    def seconds(steps: int) -> float:
        short = {
            "epochs": 1,
            "constant_epochs": 1,
            "epoch_photos": steps * batch,
            "sample_every": 2,
            "batch_size": batch,
        }
        with tempfile.TemporaryDirectory() as folder:
            began = time.monotonic()
            shown = torch.zeros(1, 3, options.image_size, options.image_size)
            brief = LoopOptions(**{**asdict(options), **short})
            run_loop(recipe.network, photos, shown, brief, Path(folder), {}, frozen=frozen)
            return time.monotonic() - began

    with _explained(model):
        batch = World(size=processes).share(options.batch_size).stop  # what one of them works on
        seconds(warmup)
        step = max(1e-6, (seconds(warmup + timed) - seconds(warmup)) / timed)
    larger = max(photos[domain].shape[1] for domain in ("a", "b"))
    per_epoch = max(1, (options.epoch_photos or larger) // options.batch_size)
    device = torch.device(placement.device)
    if device.type == "cuda":
        memory = f"{torch.cuda.max_memory_allocated(device) / 2**30:.1f} GB on the device"
    else:
        memory = f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GB"
    total = options.epochs * per_epoch
    shared = f" (one process was measured, alone, with its {batch})" if processes > 1 else ""
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
        writer = csv.DictWriter(file, fieldnames=list(history[0]))
        writer.writeheader()
        writer.writerows(history)
