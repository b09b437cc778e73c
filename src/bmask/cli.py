"""The command line: one command a stage, and what people do with the result."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Literal

import typer

from bmask.errors import BmaskError, explained
from bmask.kubeflow.commands import app as pipeline_app

CODES = (
    "Exit codes: 0 done, 1 failed, 2 wrong parameters or usage, 3 wrong data, 4 training or judge failed, 5 tracking"
    " store, 6 pipeline run failed or Kubeflow does not answer, 143 a training was stopped by SIGTERM and its state is"
    " saved."
)

app = typer.Typer(
    name="bmask",
    help="Takes face masks off photos: trains, compares and serves unpaired translation from two folders of photos.",
    epilog=CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode="markdown",
)
champion_app = typer.Typer(no_args_is_help=False, help="Show, set and roll back the model that is served.")
app.add_typer(champion_app, name="champion")
app.add_typer(pipeline_app, name="pipeline")

STAGES, USE = "Stages, in the order of `dvc repro`", "Using the result"
Results = Annotated[Path, typer.Option(help="Folder of all stages' results.", show_default=True)]
ParamsFile = Annotated[Path, typer.Option("--params", help="The parameter file.", show_default=True)]
RESULTS, PARAMS = Path("results"), Path("params.yaml")

AGAIN = "the same command does it from its beginning"
LEFT = {  # of a command that was interrupted; most write whole results or none
    "train": "the same command goes on from the last checkpoint, if one was written",
    "unmask": "the photos that are done stay, and the same command does all of them again",
    "pipeline run": "the same command goes on with the tasks that were not finished",
    "pipeline submit": "a run that was given an id goes on in Kubeflow",
    "pipeline schedule": "a schedule that was given an id stays in Kubeflow",
}


class Reported(StrEnum):
    """The stages that have a page."""

    ingest = "ingest"
    evaluate = "evaluate"


@app.command(rich_help_panel=STAGES)
def ingest(params: ParamsFile = PARAMS, results: Results = RESULTS) -> None:
    """Check, group, split and store the photos of `ingest.source`; write results/ingest and print the counts."""
    from bmask.params import load_params
    from bmask.stages.ingest import ingest

    ingest(load_params(params), results / "ingest")


@app.command(rich_help_panel=STAGES)
def augment(params: ParamsFile = PARAMS, results: Results = RESULTS) -> None:
    """Make the training arrays: every training photo and its altered copies; write results/augment."""
    from bmask.params import load_params
    from bmask.stages.augment import augment

    augment(load_params(params), results / "ingest", results / "augment")


@app.command(rich_help_panel=STAGES)
def masks(params: ParamsFile = PARAMS, results: Results = RESULTS) -> None:
    """Make masks to paste, drawn and cut out of the masked photos by a small network; write results/masks."""
    from bmask.params import load_params
    from bmask.stages.masks import masks

    masks(load_params(params), results / "ingest", results / "augment", results / "masks")


@app.command(rich_help_panel=STAGES)
def train(
    model: Annotated[str, typer.Argument(help="A name below `models` in the parameter file.")],
    params: ParamsFile = PARAMS,
    results: Results = RESULTS,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Try a few steps; say how long and how much memory.")
    ] = False,
) -> None:
    """Train one model; write results/train/MODEL and an MLflow run. A killed training goes on where it was."""
    from bmask.params import load_params
    from bmask.stages import train as stage

    folders = (results / "ingest", results / "augment", results / "masks")
    if dry_run:
        typer.echo(stage.dry_run(load_params(params), model, *folders))
    else:
        stage.train(load_params(params), model, *folders, results / "train" / model)


@app.command(rich_help_panel=STAGES)
def judge(params: ParamsFile = PARAMS, results: Results = RESULTS) -> None:
    """Train the classifier that scores all systems and hold it to its own checks; write results/judge."""
    from bmask.params import load_params
    from bmask.stages.judge import judge

    judge(load_params(params), results / "ingest", results / "judge")


@app.command(rich_help_panel=STAGES)
def evaluate(params: ParamsFile = PARAMS, results: Results = RESULTS) -> None:
    """Score all models and baselines on the test photos; write metrics and leaderboard to results/evaluate."""
    from bmask.params import load_params
    from bmask.stages.evaluate import evaluate

    folders = (results / name for name in ("ingest", "train", "judge", "evaluate", "masks"))
    evaluate(load_params(params), *folders)


@app.command(rich_help_panel=STAGES)
def report(
    stage: Annotated[Reported, typer.Argument(help="`ingest`: the photos; `evaluate`: the systems.")],
    params: ParamsFile = PARAMS,
    results: Results = RESULTS,
) -> None:
    """Write the page about a stage, one file for a browser, to results/report/STAGE. Nothing is measured again."""
    from bmask.params import load_params
    from bmask.stages.report_evaluate import report_evaluate
    from bmask.stages.report_ingest import report_ingest

    read, out = load_params(params), results / "report" / stage.value
    if stage is Reported.ingest:
        report_ingest(read, results / "ingest", out)
    else:
        dataset, trained, judged, scored = (results / name for name in ("ingest", "train", "judge", "evaluate"))
        report_evaluate(read, dataset, trained, judged, scored, out)


@app.command(rich_help_panel=STAGES)
def register(params: ParamsFile = PARAMS, results: Results = RESULTS) -> None:
    """Bring MLflow in line with the results; promote the best generator if the gate and `register.promote` let it."""
    from bmask.params import load_params
    from bmask.stages.register import register

    dataset, trained, judged, scored = (results / stage for stage in ("ingest", "train", "judge", "evaluate"))
    data_page, page = (results / "report" / stage / "report.html" for stage in ("ingest", "evaluate"))
    out, masks = results / "register", results / "masks"
    register(load_params(params), dataset, trained, judged, scored, data_page, page, out, masks)


@app.command(rich_help_panel=USE)
def unmask(
    source: Annotated[str, typer.Argument(help="A photo, a folder of photos, or s3://bucket/prefix.")],
    target: Annotated[
        str, typer.Argument(help="A JPEG, PNG or WEBP file, a folder for the results, or s3://bucket/prefix.")
    ],
    model: Annotated[
        str | None,
        typer.Option(
            help="`champion`, `challenger`, models:/..., a training's name or folder, a generator file, or the shipped"
            " `photos-64`. Left out: the champion if there is one, else the shipped one."
        ),
    ] = None,
    attention: Annotated[bool, typer.Option("--attention", help="Write PHOTO.attention.png too.")] = False,
    threshold: Annotated[
        float | None,
        typer.Option(help="Pixels with attention at or below it stay as they are; the model has one of its own."),
    ] = None,
    mark: Annotated[
        bool,
        typer.Option("--mark/--no-mark", help="Note in what was changed (XMP) that a model painted into it."),
    ] = True,
    resume: Annotated[bool, typer.Option("--resume", help="Pass over photos whose result is there already.")] = False,
    report: Annotated[Path | None, typer.Option(help="A CSV file that gets a line for each photo.")] = None,
    aligned: Annotated[bool, typer.Option("--aligned", help="The photos are squares of faces, as ingest's.")] = False,
) -> None:
    """Take the masks off photos. Pixels outside the attention stay the photo's own, bit for bit."""
    from bmask.progress import say
    from bmask.serving.files import unmask_files
    from bmask.serving.unmasker import Unmasker
    from bmask.tracking.resolving import best, resolve

    if model is None:
        model = best()
        say(f"unmasking with {model}")
    unmasker = Unmasker(resolve(model), threshold)
    if source.startswith("s3://") or target.startswith("s3://"):
        from bmask.serving.objects import unmask_objects

        left_out = unmask_objects(source, target, unmasker, attention, mark, resume, report, aligned)
    else:
        there = Path(source), Path(target)
        left_out = unmask_files(*there, unmasker, attention, mark, resume, report, aligned)
    raise typer.Exit(3 if left_out else 0)


@app.command(rich_help_panel=USE)
def serve(
    model: Annotated[str | None, typer.Option(help="As of `bmask unmask`.")] = None,
    host: Annotated[str, typer.Option(help="0.0.0.0 answers other machines too.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes any free one.")] = 5001,
    at_once: Annotated[int, typer.Option(min=1, help="Requests that are worked on at the same time.")] = 1,
    megabytes: Annotated[float, typer.Option(min=1, help="Largest request.")] = 64,
    workers: Annotated[
        int, typer.Option(min=1, help="Processes, each with the model; one that dies is replaced, the others go on.")
    ] = 1,
    engine: Annotated[
        Literal["auto", "openvino", "pytorch"],
        typer.Option(help="`auto`: PyTorch where there is a GPU, else OpenVINO where it is installed."),
    ] = "auto",
) -> None:
    """Answer requests over HTTP, as `mlflow models serve` does, and show a page for people."""
    from bmask.progress import say
    from bmask.serving import app as server
    from bmask.serving.engines import fastest
    from bmask.serving.unmasker import Unmasker
    from bmask.tracking.resolving import best, resolve

    name = best() if model is None else model
    file, chosen = resolve(name), fastest() if engine == "auto" else engine
    limits = server.Limits(megabytes=megabytes, at_once=at_once)
    if workers > 1:
        from bmask.serving import workers as several

        say(f"serving {name} with {chosen} in {workers} processes")
        with server.listen(host, port) as listening:
            several.run(file, chosen, name, limits, listening, workers)
        return
    unmasker = Unmasker(file, engine=chosen)
    say(f"serving {name} with {unmasker.engine.name} on {unmasker.device}")
    with server.listen(host, port) as listening:
        server.run(unmasker, name, limits, listening)


@app.command(rich_help_panel=USE)
def log(
    model: Annotated[str | None, typer.Argument(help="A training's name; all of them when left out.")] = None,
    results: Results = RESULTS,
) -> None:
    """Log trainings to MLflow again, from their results: for a clone whose results came from the DVC cache."""
    from bmask.tracking.outputs import ensure_logged

    trained = results / "train"
    folders = [trained / model] if model else sorted(path.parent for path in trained.glob("[!.]*/run.json"))
    for folder in folders:
        typer.echo(f"{folder.name}: run {ensure_logged(folder).info.run_id}")


@app.command(rich_help_panel=USE)
def draw(
    folder: Annotated[Path, typer.Argument(help="Where the pictures go.")],
    masked: Annotated[int, typer.Option(help="How many masked faces.")] = 100,
    unmasked: Annotated[int, typer.Option(help="How many unmasked faces.")] = 100,
    size: Annotated[int, typer.Option(help="Side in px.")] = 128,
    seed: Annotated[int, typer.Option(help="Another seed, other people.")] = 7,
) -> None:
    """Draw the embedded set: faces with and without masks, the truth beside them."""
    from bmask.params.sections import Drawn
    from bmask.synthetic import draw_set

    draw_set(folder, Drawn(masked=masked, unmasked=unmasked, size=size, seed=seed))


@champion_app.callback(invoke_without_command=True)
def champion(context: typer.Context, params: ParamsFile = PARAMS) -> None:
    """Without a sub-command: show the versions, their scores and who is champion."""
    if context.invoked_subcommand is None:
        champion_show(params)


@champion_app.command("show")
def champion_show(params: ParamsFile = PARAMS) -> None:
    """Show the versions, their scores and who is champion."""
    from bmask.params import load_params
    from bmask.tracking.registry import show

    typer.echo(show(load_params(params).register_.name))


@champion_app.command("address")
def champion_address(params: ParamsFile = PARAMS) -> None:
    """Print the champion's MLflow address, for `mlflow models serve -m`; exit code 3 when there is none."""
    from bmask.params import load_params
    from bmask.tracking.resolving import resolve

    name = load_params(params).register_.name
    resolve("champion", name)
    typer.echo(f"models:/{name}@champion")


@champion_app.command("set")
def champion_set(
    version: Annotated[int, typer.Argument(help="A version of the registered model.")], params: ParamsFile = PARAMS
) -> None:
    """Make a version the champion, whatever the gate said."""
    from bmask.params import load_params
    from bmask.tracking.registry import set_champion

    typer.echo(set_champion(version, load_params(params).register_.name))


@champion_app.command("rollback")
def champion_rollback(params: ParamsFile = PARAMS) -> None:
    """Give the alias back to the champion before this one."""
    from bmask.params import load_params
    from bmask.tracking.registry import rollback

    typer.echo(rollback(load_params(params).register_.name))


def main() -> None:
    """Runs the app; errors that a user can mend end as one sentence and an exit code."""
    _speak_utf8()
    _bear_a_name()
    try:
        app()
    except (BmaskError, OSError) as error:
        if (told := explained(error)) is None:
            raise
        print(f"bmask: {told[0]}", file=sys.stderr)
        sys.exit(told[1])
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("bmask"):
            raise
        print(f"bmask: this needs {error.name}, which pip install 'bmask[train]' brings", file=sys.stderr)
        sys.exit(2)
    except (KeyboardInterrupt, SystemExit) as stop:  # typer turns an interrupt into exit code 130 without a word
        if isinstance(stop, SystemExit) and stop.code != 130:
            raise
        print(f"bmask: interrupted; {_what_is_left(sys.argv[1:])}", file=sys.stderr)
        sys.exit(130)


def _what_is_left(arguments: list[str]) -> str:
    """Of an interrupted command, for who wonders whether to repeat it."""
    if "--dry-run" in arguments:
        return AGAIN
    return LEFT.get(" ".join(arguments[:2]), LEFT.get(arguments[0] if arguments else "", AGAIN))


def _speak_utf8() -> None:
    """Names of files and objects are UTF-8 whatever the locale says; a terminal that is not shows \\xfc for ü.

    Python chooses the encoding of file names once, before it runs any of our code, so this process starts again.
    """
    if sys.getfilesystemencoding() != "utf-8":
        command = [sys.executable, "-X", "utf8", *sys.orig_argv[1:]]
        os.execve(sys.executable, command, os.environ | {"PYTHONUTF8": "1"})  # the variable is for its children
    if isinstance(sys.stdout, TextIOWrapper):  # None where standard output is closed
        sys.stdout.reconfigure(errors="backslashreplace")  # as stderr is


def _bear_a_name() -> None:
    """A container may run under a number that no user has; MLflow and torch want a name and a home all the same."""
    import getpass

    try:
        getpass.getuser()
        Path.home()
    except (KeyError, OSError, RuntimeError):
        os.environ["USER"] = os.environ.get("USER") or str(os.getuid())
        os.environ.setdefault("HOME", "/")


if __name__ == "__main__":
    main()
