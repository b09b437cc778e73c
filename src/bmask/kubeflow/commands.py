"""`bmask pipeline`: the same stages as `dvc repro`, as a Kubeflow pipeline."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="The stages as a Kubeflow pipeline: compile, run here, submit, schedule.")

ParamsFile = Annotated[Path, typer.Option("--params", help="The parameter file.", show_default=True)]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Change one parameter for this call; may be repeated."),
]
Image = Annotated[str, typer.Option(help="Image with its tag; default: `cluster.image` tagged with the git commit.")]
Uploaded = Annotated[str, typer.Option(help="Image with its tag, needed for uploading; default: a placeholder.")]
Host = Annotated[str, typer.Option(envvar="KF_PIPELINES_ENDPOINT", help="Kubeflow's address; empty inside a cluster.")]
TokenFile = Annotated[Path | None, typer.Option(help="File with the token; default: the variable KFP_TOKEN.")]
Namespace = Annotated[str, typer.Option(help="Your namespace, in a multi-user Kubeflow.")]
Experiment = Annotated[str, typer.Option(help="Kubeflow's experiment that the run appears in.")]
ServiceAccount = Annotated[str, typer.Option(help="Service account of the pods.")]
Cache = Annotated[
    bool, typer.Option("--cache/--no-cache", help="Reuse cached outputs of tasks whose inputs did not change.")
]
AllowDirty = Annotated[bool, typer.Option("--allow-dirty", help="Submit even if files differ from the commit.")]
PARAMS = Path("params.yaml")


@app.command("compile")
def compile_(
    out: Annotated[Path, typer.Option("--out", "-o", help="The file to write.")] = Path("pipelines/unmask.yaml"),
    params: ParamsFile = PARAMS,
    changes: Set = None,
    image: Uploaded = "",
) -> None:
    """Write the pipeline as YAML, to be read or, with --image, uploaded. The same params give the same bytes."""
    from bmask.kubeflow.compiling import build_pipeline, placeholder, write_pipeline
    from bmask.params import load_params

    chosen = load_params(params, changes or ())
    write_pipeline(build_pipeline(chosen, image or placeholder(chosen)), out)
    typer.echo(f"{out}: {len(chosen.models)} trainings ({', '.join(chosen.models)})")
    if not image:
        typer.echo(
            f"its image {placeholder(chosen)} is a placeholder: to upload the file, name one by --image", err=True
        )


@app.command()
def run(
    params: ParamsFile = PARAMS,
    changes: Set = None,
    folder: Annotated[Path, typer.Option(help="Where the tasks' outputs go.")] = Path("results/pipeline"),
    image: Annotated[str, typer.Option(help="Run each task in a container of this image, through Docker's API.")] = "",
    cache: Cache = True,
) -> None:
    """Run the pipeline on this machine, each task in its own process. Gives the same bits as `dvc repro`."""
    from bmask.kubeflow.local import run
    from bmask.kubeflow.remote import pinned
    from bmask.params import load_params

    chosen = pinned(load_params(params, changes or ()))
    typer.echo(f"report: {run(chosen, folder, cache, image) / 'report' / 'report.html'}")


@app.command()
def submit(
    params: ParamsFile = PARAMS,
    changes: Set = None,
    host: Host = "",
    token_file: TokenFile = None,
    namespace: Namespace = "",
    experiment: Experiment = "bmask",
    service_account: ServiceAccount = "",
    image: Image = "",
    allow_dirty: AllowDirty = False,
    cache: Cache = True,
    wait: Annotated[bool, typer.Option("--wait", help="Print the tasks' states until the run ends.")] = False,
) -> None:
    """Start a run on a cluster and print its id. With --wait, exit code 6 when the run fails."""
    from bmask.kubeflow import remote
    from bmask.kubeflow.server import Target
    from bmask.params import load_params

    chosen = load_params(params, changes or ())
    image = image or remote.image_of_commit(chosen, allow_dirty)
    target = Target(host, token_file, namespace, experiment, service_account, cache)
    run_id = remote.submit(remote.pinned(chosen), image, target, f"unmask {datetime.now(UTC):%Y-%m-%d %H:%M:%S}")
    typer.echo(run_id)
    if wait:
        remote.wait(run_id, target)


@app.command()
def schedule(
    cron: Annotated[str, typer.Option(help="Six fields, seconds first: '0 0 3 * * *' is 3 o'clock every night.")],
    params: ParamsFile = PARAMS,
    changes: Set = None,
    name: Annotated[str, typer.Option(help="The schedule's name.")] = "unmask",
    host: Host = "",
    token_file: TokenFile = None,
    namespace: Namespace = "",
    experiment: Experiment = "bmask",
    service_account: ServiceAccount = "",
    image: Image = "",
    allow_dirty: AllowDirty = False,
    cache: Cache = True,
) -> None:
    """Run the pipeline on a schedule, never two runs at once; print the schedule's id.

    Each run reads the photos of that time: the newest commit of the branch `ingest.revision`, or what is in S3 or on
    the volume.
    """
    from bmask.kubeflow import remote
    from bmask.kubeflow.server import Target
    from bmask.params import load_params

    chosen = load_params(params, changes or ())
    image = image or remote.image_of_commit(chosen, allow_dirty)
    target = Target(host, token_file, namespace, experiment, service_account, cache)
    typer.echo(remote.schedule(chosen, image, target, name, cron))
