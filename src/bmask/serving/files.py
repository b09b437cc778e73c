"""Files and folders of photos, unmasked into files: what `bmask unmask IN OUT` does."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from bmask.data.sources.listing import is_clutter
from bmask.errors import DataError
from bmask.files import write_bytes
from bmask.progress import bar, say
from bmask.serving import pictures
from bmask.serving.unmasker import Unmasker


def unmask_files(src: Path, dst: Path, unmasker: Unmasker, attention: bool = False) -> list[str]:
    """Unmasks a photo, or all photos below a folder. Returns a line for each file that was left out.

    Results are PNG files, since only a lossless format keeps untouched pixels bit for bit. `face.jpg` becomes
    `face.png`, below `dst` in the same sub folder; where `face.jpg` and `face.webp` lie side by side they become
    `face.jpg.png` and `face.webp.png`. A single photo goes to `dst` itself if that ends in .png, else into the folder
    `dst`. With `attention`, `face.attention.png` lies beside each result: 0 where the pixels are the photo's own.

    Files that are no photos are named and left out. Transparency and colour profiles are kept, other metadata
    is dropped, orientation is applied.

    Raises:
        DataError: there is nothing to do, or a result would take the place of a photo.
    """
    targets = plan(Path(src), Path(dst))
    failed: list[str] = []
    waiting: list[tuple[Path, pictures.Picture]] = []
    for path, target in bar(targets.items(), len(targets), "unmasking photos"):
        try:
            waiting.append((target, pictures.read(path)))
        except DataError as error:
            failed.append(f"{path} {error}")
            say(f"left out: {failed[-1]}")
        if len(waiting) == unmasker.batch:
            _write(waiting, unmasker, attention)
            waiting = []
    _write(waiting, unmasker, attention)
    say(f"unmasked {len(targets) - len(failed)} of {len(targets)} photos into {dst}")
    return failed


def plan(src: Path, dst: Path) -> dict[Path, Path]:
    """Which file becomes which: {photo: result}, in the order of names. Raises DataError as `unmask_files`."""
    if src.is_dir():
        photos = [path for path in sorted(src.rglob("*")) if _visible(path.relative_to(src)) and path.is_file()]
        inside = dst.resolve() != src.resolve() and dst.resolve().is_relative_to(src.resolve())
        photos = [path for path in photos if not (inside and path.resolve().is_relative_to(dst.resolve()))]
        if not photos:
            raise DataError(f"{src} holds no files; name a photo or a folder of photos")
        results = [(dst / path.relative_to(src)).with_suffix(".png") for path in photos]
    elif src.is_file():
        photos = [src]
        results = [dst if dst.suffix.lower() == ".png" and not dst.is_dir() else dst / f"{src.stem}.png"]
    else:
        raise DataError(f"{src} does not exist; name a photo or a folder of photos")
    count = Counter(results)
    results = [
        result if count[result] == 1 else result.with_name(f"{photo.name}.png")
        for photo, result in zip(photos, results, strict=True)
    ]
    own = {path.resolve() for path in photos}
    for result in results:
        if result.resolve() in own:
            raise DataError(f"{result} is one of the photos and would be overwritten; name another folder")
    return dict(zip(photos, results, strict=True))


def _visible(path: Path) -> bool:
    return not any(map(is_clutter, path.parts))


def _write(waiting: list[tuple[Path, pictures.Picture]], unmasker: Unmasker, attention: bool) -> None:
    results = unmasker.unmask([picture.photo for _, picture in waiting])
    for (target, picture), result in zip(waiting, results, strict=True):
        write_bytes(target, pictures.png(picture, result))
        if attention:
            write_bytes(target.with_name(f"{target.stem}.attention.png"), pictures.encode(result.attention))
