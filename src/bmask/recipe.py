"""A training as params and files describe it: its recipe, where it runs, its inputs and initial weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from bmask.data.split.dataset import open_array
from bmask.errors import DataError, ParamsError
from bmask.files import read_json
from bmask.gan.generator_file import load_generator
from bmask.gan.lookup import build_system, system_class
from bmask.gan.system import Weights
from bmask.placement import Placement, in_words, place
from bmask.progress import say
from bmask.training import checkpoint
from bmask.training.batches import arrays_of
from bmask.training.options import LoopOptions

if TYPE_CHECKING:
    from bmask.params import Params
    from bmask.params.sections import Model

MASK_GENERATOR = "mask_generator.safetensors"
DISCRIMINATORS = "discriminators.safetensors"


def placement_of(params: Params, recipe: Model) -> Placement:
    system = system_class(recipe.network.system)
    return place(params.train, recipe.schedule, recipe.network.needs, system.couples_samples)


def recipe_of(params: Params, model: str) -> Model:
    if model not in params.models:
        raise ParamsError(f"models.{model} is not in the params; there are {', '.join(params.models) or 'none'}")
    return params.models[model]


def open_photos(recipe: Model, augment_folder: Path, masks_folder: Path) -> tuple[dict[str, np.ndarray], str]:
    """The training arrays, mapped copy-on-write since torch needs writable memory, and the photos' digest.

    Both domains, and what else the system needs (see `batches.Feed`) of the files that the stage `masks` wrote.

    Raises DataError if the masks were made of other photos than augment's, or found on too few of them.
    """
    folder, photos = Path(augment_folder), {}
    files = {"a": folder / "masked_train.npy", "b": folder / "unmasked_train.npy"}
    others = {name: Path(masks_folder) / f"{name}_train.npy" for name in arrays_of(recipe.network.needs) - set(files)}
    files |= {name: path for name, path in sorted(others.items()) if path.exists()}
    for name, path in files.items():
        open_array(path)  # its error says what is wrong
        photos[name] = np.load(path, mmap_mode="c")
    digest = read_json(folder / "summary.json")["digest"]
    if len(files) > 2:
        about = read_json(Path(masks_folder) / "summary.json")
        if about["augment_digest"] != digest:
            raise DataError(f"{masks_folder} was made of other photos than {folder} holds; run `bmask masks` again")
        if "cutouts" in files and not about["enough"]:
            raise DataError(
                f"a mask in one piece was found on {about['found']['train']:.0%} of the masked training photos, too few"
                " to learn from; frame photos by their faces (ingest.fit: face), or raise masks.steps"
            )
    return photos, digest


def given_digests(recipe: Model, photos: dict[str, np.ndarray], frozen: dict[str, Path]) -> dict[str, str]:
    """Digests, for the fingerprint, of all inputs of the system but the photos of both domains."""
    wanted = sorted((arrays_of(recipe.network.needs) - {"a", "b"}) & set(photos))
    files: dict[str, Any] = {f"frozen.{name}": path.read_bytes() for name, path in frozen.items()}
    arrays = {f"array.{name}": np.ascontiguousarray(photos[name]) for name in wanted}
    return {name: sha256(content).hexdigest() for name, content in (files | arrays).items()}


def loop_options(params: Params, recipe: Model, placement: Placement) -> LoopOptions:
    placed = {"precision": placement.precision, "threads": placement.threads}
    named = {**params.train.model_dump(), **recipe.schedule.model_dump(), **placed}
    return LoopOptions(**{key: named[key] for key in LoopOptions.__dataclass_fields__})


def frozen_files(model: str, recipe: Model, masks_folder: Path) -> dict[str, Path]:
    """The files of the system's frozen networks; a name without a folder is a file that the stage `masks` wrote."""
    named = {name: Path(path) for name, path in recipe.network.frozen.items()}
    files = {name: path if path.parent.name else Path(masks_folder) / path for name, path in named.items()}
    for name, path in files.items():
        if not path.is_file():
            raise DataError(
                f"models.{model}.network: {path}, the file of the frozen network {name}, does not exist;"
                " run `bmask masks`, or name another file"
            )
    return files


def warm_files(recipe: Model) -> dict[str, Path]:
    """The files to begin from: generators by direction, and discriminators; none without a warm start."""
    if not recipe.schedule.warm_start:
        return {}
    from bmask.tracking.resolving import beside, resolve

    unmask = Path(resolve(recipe.schedule.warm_start))
    others = {"ba": beside(unmask, MASK_GENERATOR), "discriminators": beside(unmask, DISCRIMINATORS)}
    return {"ab": unmask, **{name: path for name, path in others.items() if path}}


def warm_weights(
    recipe: Model, files: dict[str, Path], frozen: Mapping[str, Weights], framing: Mapping[str, Any]
) -> dict[str, dict[str, Tensor]]:
    """The weights to begin from; what has no file, and discriminators of another size, start fresh.

    Args:
        frozen: weights of the networks that are not trained.
        framing: of the photos, as a generator's header states it; a line is printed if a generator had another.

    Raises ParamsError if a generator is another network.
    """
    weights: dict[str, dict[str, Tensor]] = {}
    if not files:
        return weights
    with torch.random.fork_rng(devices=[]):  # building draws weights; the caller's random state must not change
        system = build_system(recipe.network, frozen)
    for way, path in files.items():
        if way == "discriminators":
            found = load_file(path)
            if _shapes(found) != _shapes(system.discriminators.state_dict()):
                say(f"no warm start of the discriminators: those in {path} are other networks, so they start fresh")
                continue
            weights[way] = found
        elif way in system.generators:
            generator, about = load_generator(path)
            if _shapes(generator.state_dict()) != _shapes(system.generators[way].state_dict()):
                differences = checkpoint.compare(about["network"], asdict(recipe.network))
                raise ParamsError(f"schedule.warm_start {path} is another network: {'; '.join(differences)}")
            weights[way] = generator.state_dict()
            if any(about.get(key) != framing.get(key) for key in ("fit", "template")):
                say(f"{path} was trained on photos with another framing, and has to learn this one first")
        if way in weights:
            say(f"warm start {way} from {path}")
    return weights


def _shapes(weights: Weights) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in weights.items()}


def say_resume(folder: Path, fingerprint: dict, options: LoopOptions, placement: Placement) -> None:
    """Says where the training goes on and whether it moved, or which checkpoints it refuses and why."""
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


def _say_moved(found: dict, folder: Path, options: LoopOptions, placement: Placement) -> None:
    """Says if the checkpoint was computed in another place than `placement`."""
    was, here = found["placed"][-1], placement.noted()
    if all(was[key] == value for key, value in here.items()):
        return
    if found["epoch"] == options.epochs:
        say(f"the training is complete; it ran in {in_words(was)}")
        say(f"to train again in {in_words(here)}, delete its MLflow run and {folder}")
    else:
        say(f"going on with a checkpoint from {in_words(was)}: the bits will differ from here")
