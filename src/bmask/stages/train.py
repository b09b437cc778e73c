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

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from bmask.data.split.dataset import Split, open_array, resize, to_tensor
from bmask.errors import DataError, ParamsError, Preempted, TrainingError
from bmask.files import fresh_folder, read_json, write_json
from bmask.fingerprint import fingerprint, identity, short
from bmask.gan.device import pick_device
from bmask.gan.generator_file import FILE, load_generator, save_generator
from bmask.gan.registry import system_class
from bmask.observers.checkpoint_sync import open_checkpoints
from bmask.observers.progress_bar import Progress
from bmask.observers.sample_sheets import SampleSheets
from bmask.placement import Placement, place, told
from bmask.progress import say
from bmask.tracking.logs import Tracker
from bmask.tracking.outputs import take_back
from bmask.training import checkpoint
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

MASK_GENERATOR = "mask_generator.safetensors"


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
    placement = _placement(params, _recipe(params, model))
    whole = (params, model, placement, split_folder, augment_folder, out)
    if placement.processes > launched_processes():
        Split.open(split_folder), _photos(augment_folder)  # what is missing is said before all that starts
        in_processes(placement.processes, _train_here, *whole)
    else:
        _train_here(*whole)


def _train_here(
    params: Params, model: str, placement: Placement, split_folder: Path, augment_folder: Path, out: Path
) -> None:
    """In each of the processes that train together."""
    recipe = _recipe(params, model)
    options = _loop_options(params, recipe, placement)
    split = Split.open(split_folder)
    photos, digest = _photos(augment_folder)
    warm = _warm_files(recipe)
    frozen = _frozen_files(model, recipe)
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
            folder, mirrors = open_checkpoints(params, folder.name, bits, split.private)
            _say_resume(folder, bits, options, placement)
            samples = SampleSheets(folder / "samples", private=split.private)
            tracker = Tracker(about, samples.folder, live=known is not None)
            observers = [Progress(model, options), samples, tracker, *mirrors]
        with _tracked(tracker):
            start = _warm(recipe, warm)
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
    recipe = _recipe(params, model)
    photos, _ = _photos(augment_folder)
    placement = _placement(params, recipe)
    options = _loop_options(params, recipe, placement)
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
            run_loop(recipe.network, photos, shown, LoopOptions(**{**asdict(options), **short}), Path(folder), {})
            return time.monotonic() - began

    with _explained(model):
        batch = World(size=processes).share(options.batch_size).stop  # what one of them works on
        seconds(warmup)
        step = max(1e-6, (seconds(warmup + timed) - seconds(warmup)) / timed)
    larger = max(photos[domain].shape[1] for domain in ("a", "b"))
    per_epoch = max(1, (options.epoch_photos or larger) // options.batch_size)
    device = pick_device(options.device)
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


def _placement(params: Params, recipe: Model) -> Placement:
    system = system_class(recipe.network.system)
    return place(params.train, recipe.schedule, recipe.network.needs, system.couples_samples)


def _recipe(params: Params, model: str) -> Model:
    if model not in params.models:
        raise ParamsError(f"models.{model} is not in the params; there are {', '.join(params.models) or 'none'}")
    return params.models[model]


def _photos(augment_folder: Path) -> tuple[dict[str, np.ndarray], str]:
    """The training arrays, mapped copy-on-write since torch wants writable memory, and their digest.

    Both domains, and what else lies there for systems that need it (see `batches.Feed`), by the name of its file.
    """
    folder, photos = Path(augment_folder), {}
    files = {"a": folder / "masked_train.npy", "b": folder / "unmasked_train.npy"}
    for path in sorted(folder.glob("*_train.npy")):
        if path not in files.values():
            files[path.name.removesuffix("_train.npy")] = path
    for name, path in files.items():
        open_array(path)  # says what is wrong with it
        photos[name] = np.load(path, mmap_mode="c")
    return photos, read_json(folder / "summary.json")["digest"]


def _loop_options(params: Params, recipe: Model, placement: Placement) -> LoopOptions:
    placed = {"precision": placement.precision, "threads": placement.threads}
    named = {**params.train.model_dump(), **recipe.schedule.model_dump(), **placed}
    return LoopOptions(**{key: named[key] for key in LoopOptions.__dataclass_fields__})


def _say_resume(folder: Path, fingerprint: dict, options: LoopOptions, placement: Placement) -> None:
    """Tells from where the training goes on, whether on other ground, or which checkpoints it refuses and why."""
    found, reasons = checkpoint.find(folder, fingerprint, options.epochs, options.constant_epochs)
    model = folder.name.rpartition("-")[0]
    others = [path for path in folder.parent.glob(f"{model}-*/{checkpoint.LATEST}") if path.parent != folder]
    if not folder.exists() and others:
        newest = max(others, key=lambda path: path.stat().st_mtime)
        _, reasons = checkpoint.find(newest.parent, fingerprint, options.epochs, options.constant_epochs)
        reasons = reasons[:1]
    for reason in reasons:
        say(f"checkpoint refused: {reason}")
    if found:
        say(f"going on from epoch {found['epoch']} of {options.epochs} in {folder}")
        _say_moved(found, folder, options, placement)
    elif reasons:
        say("no checkpoint can be used; the training starts anew")


def _frozen_files(model: str, recipe: Model) -> dict[str, Path]:
    """The files of the networks that the system is handed."""
    files = {name: Path(path) for name, path in recipe.network.frozen.items()}
    for name, path in files.items():
        if not path.is_file():
            raise DataError(
                f"models.{model}.network: the frozen network {name} is to come from {path}, which is not there"
            )
    return files


def _say_moved(found: dict, folder: Path, options: LoopOptions, placement: Placement) -> None:
    """Tells when the checkpoint was computed on something else than what goes on."""
    was, here = found["placed"][-1], placement.noted()
    if all(was[key] == value for key, value in here.items()):
        return
    if found["epoch"] == options.epochs:
        say(f"it is complete, from {told(was)}; to train anew in {told(here)}, remove {folder}")
    else:
        say(f"going on with a checkpoint from {told(was)}: the bits will differ from here")


def _warm_files(recipe: Model) -> dict[str, Path]:
    """The generator files to begin from, by direction; none without a warm start."""
    if not recipe.schedule.warm_start:
        return {}
    from bmask.tracking.resolving import resolve

    unmask = Path(resolve(recipe.schedule.warm_start))
    mask = unmask.with_name(MASK_GENERATOR)
    return {"ab": unmask, **({"ba": mask} if mask.exists() else {})}


def _warm(recipe: Model, files: dict[str, Path]) -> dict[str, dict[str, Tensor]]:
    """The weights to begin from. The registered model holds the unmasking direction alone; the other starts fresh."""
    weights = {}
    for way, path in files.items():
        generator, about = load_generator(path)
        differences = checkpoint.compare(_shape(about["network"]), _shape(asdict(recipe.network)))
        if differences:
            raise ParamsError(f"schedule.warm_start {path} is another network: {'; '.join(differences)}")
        weights[way] = generator.state_dict()
        say(f"warm start {way} from {path}")
    return weights


def _shape(network: dict) -> dict:
    """What decides a generator's weights: all options but the losses' weights and what discriminators are like."""
    others = ("w_", "discriminator_", "curriculum", "guided", "background_bias")
    return {key: value for key, value in network.items() if not key.startswith(others)}


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
