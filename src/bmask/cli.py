"""The command line: one command per stage, and commands for using the results."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated

import typer

from bmask.commands import champion, use
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
app.add_typer(champion.app, name="champion")
app.add_typer(pipeline_app, name="pipeline")

STAGES, USE = "Stages, in the order of `dvc repro`", "Using the result"
Results = Annotated[Path, typer.Option(help="Folder of all stages' results.", show_default=True)]
ParamsFile = Annotated[Path, typer.Option("--params", help="The parameter file.", show_default=True)]
RESULTS, PARAMS = Path("results"), Path("params.yaml")

SERVING = ("boto3", "botocore", "prometheus_client", "starlette", "uvicorn")  # of the extras serve and train
FROM_START = "the same command starts again from the beginning"
INTERRUPTED = {  # what is left of a command; those not named here write whole results or none
    "train": "the same command goes on from the last checkpoint, if one was written",
    "unmask": "the photos that are done stay, and the same command with --resume skips them",
    "pipeline run": "the same command goes on with the tasks that were not finished",
    "pipeline submit": "a run that was started goes on in Kubeflow",
    "pipeline schedule": "a schedule that was made stays in Kubeflow",
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
        bool, typer.Option("--dry-run", help="Train a few steps; print the expected time and memory.")
    ] = False,
) -> None:
    """Train one model; write results/train/MODEL and an MLflow run. A killed training goes on from its checkpoint."""
    from bmask.params import load_params
    from bmask.stages import train as stage

    folders = (results / "ingest", results / "augment", results / "masks")
    if dry_run:
        typer.echo(stage.dry_run(load_params(params), model, *folders))
    else:
        stage.train(load_params(params), model, *folders, results / "train" / model)


@app.command(rich_help_panel=STAGES)
def judge(params: ParamsFile = PARAMS, results: Results = RESULTS) -> None:
    """Train the judge, which scores all systems, and check it; write results/judge."""
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
    """Bring MLflow in line with the results; promote the best generator if the gate and `register.promote` allow."""
    from bmask.params import load_params
    from bmask.stages.register import register

    dataset, trained, judged, scored = (results / stage for stage in ("ingest", "train", "judge", "evaluate"))
    data_page, page = (results / "report" / stage / "report.html" for stage in ("ingest", "evaluate"))
    out, masks = results / "register", results / "masks"
    register(load_params(params), dataset, trained, judged, scored, data_page, page, out, masks)


for command in (use.unmask, use.serve, use.log, use.draw):
    app.command(rich_help_panel=USE)(command)


def main() -> None:
    """Runs the app; errors that a user can fix end as one sentence and an exit code."""
    _speak_utf8()
    _set_user()
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
        extra = "serve" if (error.name or "").partition(".")[0] in SERVING else "train"
        print(f"bmask: this needs {error.name}; install it with pip install 'bmask[{extra}]'", file=sys.stderr)
        sys.exit(2)
    except (KeyboardInterrupt, SystemExit) as stop:  # typer turns an interrupt into exit code 130 without a message
        if isinstance(stop, SystemExit) and stop.code != 130:
            raise
        print(f"bmask: interrupted; {_what_is_left(sys.argv[1:])}", file=sys.stderr)
        sys.exit(130)


def _what_is_left(arguments: list[str]) -> str:
    """What an interrupted command left, and what the same command would do."""
    if "--dry-run" in arguments:
        return FROM_START
    return INTERRUPTED.get(" ".join(arguments[:2]), INTERRUPTED.get(arguments[0] if arguments else "", FROM_START))


def _speak_utf8() -> None:
    """Makes names of files and objects UTF-8 in any locale; a terminal with another encoding shows \\xfc for ü.

    Python chooses the encoding of file names before it runs any of our code, so this process starts again.
    """
    if sys.getfilesystemencoding() != "utf-8":
        command = [sys.executable, "-X", "utf8", *sys.orig_argv[1:]]
        os.execve(sys.executable, command, os.environ | {"PYTHONUTF8": "1"})  # the variable is for child processes
    if isinstance(sys.stdout, TextIOWrapper):  # None where standard output is closed
        sys.stdout.reconfigure(errors="backslashreplace")  # as stderr is


def _set_user() -> None:
    """Sets USER and HOME, which MLflow and torch need, in a container whose user id has no account."""
    import getpass

    try:
        getpass.getuser()
        Path.home()
    except (KeyError, OSError, RuntimeError):
        os.environ["USER"] = os.environ.get("USER") or str(os.getuid())
        os.environ.setdefault("HOME", "/")


if __name__ == "__main__":
    main()
