"""`bmask unmask`, `serve`, `log` and `draw`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer


def unmask(
    source: Annotated[str, typer.Argument(help="A photo, a folder of photos, or s3://bucket/prefix.")],
    target: Annotated[
        str, typer.Argument(help="A JPEG, PNG or WEBP file, a folder for the results, or s3://bucket/prefix.")
    ],
    model: Annotated[
        str | None,
        typer.Option(
            help="`champion`, `challenger`, models:/..., a training's name or folder, a generator file, or the shipped"
            " `photos-128`. Default: the champion if there is one, else the shipped one."
        ),
    ] = None,
    attention: Annotated[bool, typer.Option("--attention", help="Write PHOTO.attention.png too.")] = False,
    threshold: Annotated[
        float | None,
        typer.Option(help="Pixels with attention at or below it do not change; default: the model's own."),
    ] = None,
    mark: Annotated[
        bool,
        typer.Option("--mark/--no-mark", help="Note in changed photos (XMP) that a model changed them."),
    ] = True,
    resume: Annotated[bool, typer.Option("--resume", help="Skip photos whose result exists already.")] = False,
    report: Annotated[Path | None, typer.Option(help="A CSV file that gets a line for each photo.")] = None,
    aligned: Annotated[bool, typer.Option("--aligned", help="The photos are squares, framed as by ingest.")] = False,
) -> None:
    """Take the masks off photos. Pixels outside the attention mask stay the same, bit for bit."""
    from bmask.progress import say
    from bmask.serving.files import unmask_files
    from bmask.serving.unmasker import Unmasker
    from bmask.tracking.resolving import best, resolve

    if model is None:
        model = best()
        say(f"unmasking with {model}")
    unmasker = Unmasker(resolve(model), threshold)
    if source.startswith("s3://") or target.startswith("s3://"):
        import signal

        from bmask.serving.objects import unmask_objects

        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that no photo is left in a temporary folder
        left_out = unmask_objects(source, target, unmasker, attention, mark, resume, report, aligned)
    else:
        there = Path(source), Path(target)
        left_out = unmask_files(*there, unmasker, attention, mark, resume, report, aligned)
    raise typer.Exit(3 if left_out else 0)


def serve(
    model: Annotated[str | None, typer.Option(help="As for `bmask unmask`.")] = None,
    host: Annotated[str, typer.Option(help="0.0.0.0 answers other machines too.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes any free port.")] = 5001,
    at_once: Annotated[int, typer.Option(min=1, help="Requests that are worked on at the same time.")] = 1,
    megabytes: Annotated[float, typer.Option(min=1, help="Largest request.")] = 64,
    workers: Annotated[
        int, typer.Option(min=1, help="Processes, each with the model; one that dies is replaced, the others go on.")
    ] = 1,
    engine: Annotated[
        Literal["fastest", "openvino", "pytorch"],
        typer.Option(help="`fastest`: PyTorch where there is a GPU, else OpenVINO where it is installed."),
    ] = "fastest",
) -> None:
    """Answer requests over HTTP, as `mlflow models serve` does, and show a page for people."""
    from bmask.progress import say
    from bmask.serving import app as server
    from bmask.serving.unmasker import Unmasker
    from bmask.tracking.resolving import best, resolve

    name = best() if model is None else model
    file = resolve(name)
    limits = server.Limits(megabytes=megabytes, at_once=at_once)
    if workers > 1:
        from bmask.serving import workers as several

        say(f"serving {name} in {workers} processes")
        with server.listen(host, port) as listening:
            several.run(file, engine, name, limits, listening, workers)
        return
    unmasker = Unmasker(file, engine=engine, watch=True)
    say(f"serving {name} with {unmasker.engine.name} on {unmasker.device}")
    with server.listen(host, port) as listening:
        server.run(unmasker, name, limits, listening)


def log(
    model: Annotated[str | None, typer.Argument(help="A training's name; default: all.")] = None,
    results: Annotated[Path, typer.Option(help="Folder of all stages' results.")] = Path("results"),
) -> None:
    """Log trainings to MLflow again, from their results: for a clone whose results came from the DVC cache."""
    from bmask.tracking.outputs import ensure_logged

    trained = results / "train"
    folders = [trained / model] if model else sorted(path.parent for path in trained.glob("[!.]*/run.json"))
    for folder in folders:
        typer.echo(f"{folder.name}: run {ensure_logged(folder).info.run_id}")


def draw(
    folder: Annotated[Path, typer.Argument(help="Where the pictures go.")],
    masked: Annotated[int, typer.Option(help="How many masked faces.")] = 100,
    unmasked: Annotated[int, typer.Option(help="How many unmasked faces.")] = 100,
    size: Annotated[int, typer.Option(help="Side in px.")] = 128,
    seed: Annotated[int, typer.Option(help="Another seed draws other people.")] = 7,
) -> None:
    """Draw the embedded set: faces with and without masks, and their truth."""
    from bmask.params.sections import Drawn
    from bmask.synthetic import draw_set

    draw_set(folder, Drawn(masked=masked, unmasked=unmasked, size=size, seed=seed))
