"""Checks on a GPU: the step computes the same as on a CPU, a training resumes, full memory is reported.

    python benchmarks/gpu_checks.py

Needs only torch and numpy. Prints a line for each check; the exit code is 1 if one fails.
"""

from __future__ import annotations

import dataclasses
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from bmask.gan.lookup import build_system
from bmask.gan.options import SystemOptions
from bmask.gan.systems.attentiongan import AttentionGANOptions
from bmask.gan.systems.cyclegan import CycleGANOptions
from bmask.training.batches import Feed
from bmask.training.distributed import World
from bmask.training.engine import Engine
from bmask.training.health import OutOfMemory
from bmask.training.loop import Trained, train
from bmask.training.options import LoopOptions

SYSTEMS: dict[str, SystemOptions] = {
    "cyclegan": CycleGANOptions(filters=16, blocks=2, discriminator_filters=16),
    "scheme 1": AttentionGANOptions(filters=16, blocks=2, discriminator_filters=16, scheme=1),
    "scheme 2": AttentionGANOptions(filters=16, blocks=2, discriminator_filters=16, scheme=2, masks=4),
}
OPTIONS = LoopOptions(
    epochs=2, constant_epochs=2, batch_size=4, epoch_photos=16, image_size=64, device="cuda", log_every=1
)


def main() -> int:
    failed = 0
    for name, check in CHECKS.items():
        try:
            print(f"ok    {name}: {check()}", flush=True)
        except Exception as error:
            failed = 1
            print(f"FAILS {name}: {type(error).__name__}: {error}", flush=True)
    return failed


def same_as_the_cpu() -> str:
    """Compares the losses of three fp32 steps without TF32; in later steps Adam enlarges rounding differences."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    worst = 0.0
    for options in SYSTEMS.values():
        rows = []
        for device in ("cpu", "cuda"):
            torch.manual_seed(1)
            chosen = dataclasses.replace(OPTIONS, device=device)
            engine = Engine(build_system(options), chosen, torch.device(device), "fp32", World())
            draws = torch.Generator().manual_seed(1)
            batch = [(torch.rand(4, 3, 64, 64, generator=draws) * 2 - 1).to(device) for _ in "ab"]
            rows.append([engine.step(dict(zip("ab", batch, strict=True)), 0, step) for step in range(3)])
        for one, other in zip(*rows, strict=True):
            for name, value in one.items():
                if not name.startswith(("gradient", "saturated")):
                    worst = max(worst, abs(value.item() - other[name].item()) / max(abs(value.item()), 1e-3))
    assert worst < 2e-2, f"the losses differ by {worst:.2%}"
    return f"losses differ by {worst:.2e} at most"


def training_resumes() -> str:
    """Two epochs in two calls must have the losses of two epochs in one call, up to bf16 rounding."""
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        whole = _train(Path(one), OPTIONS).history
        _train(Path(other), dataclasses.replace(OPTIONS, epochs=1, constant_epochs=1))
        resumed = _train(Path(other), OPTIONS).history
    differences = [abs(a["total"] / b["total"] - 1) for a, b in zip(whole, resumed, strict=True)]
    assert max(differences) < 0.1, f"the losses differ after a resume: {differences}"
    return f"total differs by {max(differences):.2e} at most over {len(whole)} steps"


def full_memory_is_reported() -> str:
    huge = dataclasses.replace(OPTIONS, batch_size=4096, image_size=256, epoch_photos=4096)
    try:
        with tempfile.TemporaryDirectory() as folder:
            _train(Path(folder), huge, CycleGANOptions(), side=256)
    except OutOfMemory as error:
        assert "GB" in str(error) and "schedule.accumulate_steps" in str(error), str(error)
        return str(error)
    raise AssertionError("a batch of 4096 photos of 256 px fitted into memory")


def nothing_waits_for_the_device() -> str:
    """torch raises an error on every synchronisation inside a step."""
    torch.manual_seed(1)
    device = torch.device("cuda")
    engine = Engine(build_system(SYSTEMS["scheme 2"]), OPTIONS, device, "bf16", World())
    photos = np.random.default_rng(1).integers(0, 256, (1, 16, 72, 72, 3), np.uint8)
    feed = Feed({"unpaired": 1}, {domain: torch.from_numpy(photos).to(device) for domain in "ab"}, 64, 4, 1)
    for step in range(40):  # from the 20th on the pool is full
        torch.cuda.set_sync_debug_mode("error" if step >= 20 else "default")
        engine.step(feed.at(step), 0, step)
    torch.cuda.set_sync_debug_mode("default")
    return "20 steps without a synchronisation"


def _train(folder: Path, options: LoopOptions, system: SystemOptions = SYSTEMS["scheme 2"], side: int = 72) -> Trained:
    draws = np.random.default_rng(1)
    photos = {d: draws.integers(0, 256, (1, 16, side, side, 3), np.uint8) for d in "ab"}
    return train(system, photos, torch.zeros(2, 3, options.image_size, options.image_size), options, folder, {})


CHECKS: dict[str, Callable[[], str]] = {
    "the step computes the same as on the CPU": same_as_the_cpu,
    "a training resumes": training_resumes,
    "nothing waits for the device": nothing_waits_for_the_device,
    "full memory is reported": full_memory_is_reported,
}

if __name__ == "__main__":
    sys.exit(main())
