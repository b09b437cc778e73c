"""`bmask champion`: which model is served."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=False, help="Show, set and roll back the model that is served.")
ParamsFile = Annotated[Path, typer.Option("--params", help="The parameter file.", show_default=True)]
PARAMS = Path("params.yaml")


@app.callback(invoke_without_command=True)
def champion(context: typer.Context, params: ParamsFile = PARAMS) -> None:
    """Without a sub-command: show the versions, their scores and which is the champion."""
    if context.invoked_subcommand is None:
        champion_show(params)


@app.command("show")
def champion_show(params: ParamsFile = PARAMS) -> None:
    """Show the versions, their scores and which is the champion."""
    from bmask.params import load_params
    from bmask.tracking.registry import show

    typer.echo(show(load_params(params).register_.name))


@app.command("address")
def champion_address(params: ParamsFile = PARAMS) -> None:
    """Print the champion's MLflow address, for `mlflow models serve -m`; exit code 3 when there is none."""
    from bmask.params import load_params
    from bmask.tracking.resolving import resolve

    name = load_params(params).register_.name
    resolve("champion", name)
    typer.echo(f"models:/{name}@champion")


@app.command("set")
def champion_set(
    version: Annotated[int, typer.Argument(help="A version of the registered model.")], params: ParamsFile = PARAMS
) -> None:
    """Make a version the champion, whatever the gate said."""
    from bmask.params import load_params
    from bmask.tracking.registry import set_champion

    typer.echo(set_champion(version, load_params(params).register_.name))


@app.command("rollback")
def champion_rollback(params: ParamsFile = PARAMS) -> None:
    """Make the previous champion the champion again."""
    from bmask.params import load_params
    from bmask.tracking.registry import rollback

    typer.echo(rollback(load_params(params).register_.name))
