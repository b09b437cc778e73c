"""The batch of a step: its photos, crops and flips depend only on the seed and the step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from bmask.gan.beyond import beyond
from bmask.gan.draws import generator_for
from bmask.gan.system import NEEDS
from bmask.training.distributed import World

# The arrays of each need. Those that `Feed` passes on unchanged are in the order of their tensors in NEEDS.
SOURCES: dict[str, tuple[str, ...]] = {
    "unpaired": ("a", "b"),
    "pasted": ("b", "masks"),
    "cutouts": ("cutouts",),
    "paired": ("inputs", "targets"),
    "labels": ("a", "labels"),
}

RGBA = ("mask", "wearing")  # names in `Crops` of pictures whose alpha is the region of the mask


class Crops:
    """Random crops of arrays that belong together: all show the same copy, corner and flip of each photo.

    arrays: by name, uint8 (copies, N, S, S, C) for pictures, (copies, N, S, S) for regions, int64 (N,) for numbers; on
        the training's device (memory-mapped on a CPU).
    rows: those of the batch that this process needs; the draws are for the whole batch.

    Every photo is seen once before any is seen again; its copy, a crop of `size` px and a flip are drawn each time.
    Raises ValueError if an array has another shape or type, is empty, smaller than the crops, or of other photos.
    """

    def __init__(
        self, arrays: Mapping[str, Tensor], size: int, batch: int, seed: int, purpose: str, rows: slice = slice(None)
    ):
        _check(arrays, size)
        self.arrays, self.size, self.batch, self.seed, self.purpose, self.rows = (
            arrays,
            size,
            batch,
            seed,
            purpose,
            rows,
        )
        self.copies, self.count, self.side = next(iter(arrays.values())).shape[:3]
        self._lap, self._order = -1, torch.empty(0, dtype=torch.long)

    def __len__(self) -> int:
        return self.count

    def at(self, step: int) -> dict[str, Tensor]:
        """The rows of this step's batch: float32 (rows, C, size, size), pictures in [-1, 1] and regions in [0, 1]."""
        draws = generator_for(self.seed, f"crop {self.purpose}", step)
        photo = torch.stack([self._photo(step * self.batch + i) for i in range(self.batch)])
        copy = torch.randint(self.copies, (self.batch,), generator=draws)
        corner = torch.randint(self.side - self.size + 1, (self.batch, 2), generator=draws)
        flip = torch.rand(self.batch, generator=draws) < 0.5

        # One gather for the whole batch, since on a GPU the kernel launches take most of the time.
        along = torch.arange(self.size)
        down = corner[:, :1] + along
        across = corner[:, 1:] + torch.where(flip[:, None], along.flip(0), along)
        where = torch.cat([copy[:, None], photo[:, None], down, across], 1)[self.rows]
        device = next(iter(self.arrays.values())).device
        where = where.to(device, non_blocking=True)  # else the copy would wait for the previous step
        copy, photo, down, across = where.split([1, 1, self.size, self.size], 1)
        place = copy[:, :, None], photo[:, :, None], down[:, :, None], across[:, None, :]
        return {
            name: _floats(array[place]) if array.ndim > 1 else array[photo[:, 0]] for name, array in self.arrays.items()
        }

    def _photo(self, position: int) -> Tensor:
        lap, place = divmod(position, self.count)
        if lap != self._lap:
            draws = generator_for(self.seed, f"order {self.purpose}", lap)
            self._lap, self._order = lap, torch.randperm(self.count, generator=draws)
        return self._order[place]


def arrays_of(needs: Iterable[str]) -> set[str]:
    """The names of the arrays that batches of these needs are made of."""
    return {array for need in needs for array in SOURCES.get(need, ())}


class Feed:
    """The batches of a system: for each need its share of `batch_size` photos, cut to this process's rows.

    arrays: "a" and "b", the photos of both domains; where the system needs them, "masks" (to paste, RGBA), "cutouts"
        (masked photos, alpha is the region of the mask), "inputs" and "targets", "labels"; shapes as in `Crops`.
    turn: number of the discriminator step within a step; each draws its own batch.

    Raises ValueError if an array is missing or unfit, or the batch cannot be shared equally.
    """

    def __init__(
        self,
        needs: Mapping[str, float],
        arrays: Mapping[str, Tensor],
        size: int,
        batch_size: int,
        seed: int,
        world: World = World(),
        turn: int = 0,
    ):
        self.crops: list[Crops] = []

        def add(need: str, purpose: str, **wanted: str) -> None:
            for array in wanted.values():
                if array not in arrays:
                    raise ValueError(f"the system needs {need!r} batches, for which {array}_train.npy is missing")
            count = photos_of(need, needs[need], batch_size)
            chosen = {name: arrays[array] for name, array in wanted.items()}
            suffix = f" turn {turn}" if turn else ""
            self.crops.append(Crops(chosen, size, count, seed, purpose + suffix, world.share(count)))

        for need in needs:
            if need == "unpaired":
                add(need, "a", a="a")
                add(need, "b", b="b")
            elif need == "pasted":
                add(need, "pasted", photo="b")
                add(need, "masks", mask="masks")
            elif need == "cutouts":
                add(need, need, wearing="cutouts")
            else:
                add(need, need, **dict(zip(NEEDS[need], SOURCES[need], strict=True)))

    def at(self, step: int) -> dict[str, Tensor]:
        """The tensors of all needs by their names in NEEDS."""
        batch: dict[str, Tensor] = {}
        for crops in self.crops:
            batch |= crops.at(step)
        if "mask" in batch:
            cloth, region = _layers(batch.pop("mask"))
            region = region * (1 - beyond(batch["photo"]))
            batch |= {"pasted": batch["photo"].lerp(cloth, region), "region": region}
        if "wearing" in batch:
            batch["masked"], batch["cutout"] = _layers(batch.pop("wearing"))
        return batch


def photos_of(need: str, share: float, batch_size: int) -> int:
    """The number of photos of a need in a batch. Raises ValueError for an unknown need or a fraction of a photo."""
    if need not in NEEDS:
        raise ValueError(f"the system needs {need!r}; a batch can carry {', '.join(NEEDS)}")
    count = round(share * batch_size)
    if count < 1 or abs(count - share * batch_size) > 1e-6:
        raise ValueError(
            f"schedule.batch_size {batch_size} gives {share * batch_size:g} photos of {need!r}; make it a whole number"
        )
    return count


def _floats(crops: Tensor) -> Tensor:
    """uint8 (rows, H, W, C) -> float32 (rows, C, H, W) in [-1, 1]; (rows, H, W) -> (rows, 1, H, W) in [0, 1]."""
    if crops.ndim == 3:
        return crops[:, None].float().div_(255)
    return crops.permute(0, 3, 1, 2).contiguous().float().div_(127.5).sub_(1)


def _layers(rgba: Tensor) -> tuple[Tensor, Tensor]:
    """(rows, 4, H, W) in [-1, 1] -> its colours in [-1, 1] and its alpha (rows, 1, H, W) in [0, 1]."""
    return rgba[:, :3], rgba[:, 3:].add(1).div(2)


def _check(arrays: Mapping[str, Tensor], size: int) -> None:
    first: Tensor | None = None
    for name, array in arrays.items():
        shape, channels = tuple(array.shape), 4 if name in RGBA else 3
        if array.ndim == 1 and first is not None:
            fits = array.dtype == torch.int64 and shape[0] == first.shape[1]
        else:
            square = array.ndim in (4, 5) and shape[2] == shape[3] and shape[4:] in ((), (channels,))
            fits = array.dtype == torch.uint8 and square and (first is None or shape[:4] == first.shape[:4])
        if not fits:
            wanted = (
                f"uint8 (copies, N, S, S, {channels})"
                if first is None
                else f"as {next(iter(arrays))} {tuple(first.shape)}"
            )
            raise ValueError(f"the photos {name} are {str(array.dtype)[6:]} {shape}, not {wanted}")
        first = array if first is None else first
    if first is not None and (first.shape[1] == 0 or first.shape[2] < size):
        name, (_, count, side) = next(iter(arrays)), first.shape[:3]
        raise ValueError(f"domain {name} has {count} photos of {side} px; crops are {size} px")
