"""Runs the pipeline on this machine without a cluster, each task in its own process or container."""

from __future__ import annotations

import os
import uuid
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from bmask.errors import PipelineError
from bmask.kubeflow.compiling import build_pipeline
from bmask.params import Params

if TYPE_CHECKING:
    from kfp.local import DockerRunner

PASSED_ON = ("KFP_RUN_ID", "MLFLOW_", "AWS_")  # prefixes of the environment variables that a container gets


def run(params: Params, folder: Path, caching: bool = True, image: str = "") -> Path:
    """Runs all tasks, trainings one after another, with outputs below `folder`. Returns evaluate's folder.

    `cluster` has no effect here: a training uses the GPUs of this machine, as with `dvc repro`. Outputs of tasks whose
    inputs did not change are taken from the cache in `folder`. MLflow is used as with `dvc repro`, and all runs have
    one parent. With `image`, each task runs in a container, which reaches MLflow and object storage only over the
    network.

    Raises PipelineError when a task fails, after the task has printed its own message.
    """
    from kfp import local

    cluster = params.cluster.model_copy(update={"gpus": 0, "retries": 0})  # kfp would wait minutes before a retry
    pipeline = build_pipeline(params.model_copy(update={"cluster": cluster}), image or "bmask:local", parallelism=1)
    for noise in ("You may be attemping to run a task that uses custom", "Task '.*': settings .* have no e"):
        warnings.filterwarnings("ignore", message=noise)
    before = os.environ.get("KFP_RUN_ID")
    os.environ["KFP_RUN_ID"] = str(uuid.uuid4())
    runner = _containers() if image else local.SubprocessRunner(use_venv=False)
    mask = os.umask(0) if image and not os.getuid() else None  # root makes the folders, the container's user writes
    folder.mkdir(parents=True, exist_ok=True)
    local.init(runner, pipeline_root=str(folder), enable_caching=caching)
    try:
        return Path(pipeline().output.path)
    except RuntimeError as error:
        raise PipelineError(f"{str(error).splitlines()[0]} Its own message is above.") from None
    finally:
        if mask is not None:
            os.umask(mask)
        os.environ.pop("KFP_RUN_ID") if before is None else os.environ.update(KFP_RUN_ID=before)


def _containers() -> DockerRunner:
    """Containers restricted as on a strict cluster: not root, no capabilities, only outputs and memory are writable."""
    from kfp import local

    if not os.environ.get("MLFLOW_TRACKING_URI"):
        raise PipelineError("a container cannot reach mlflow.db; start an MLflow server and set MLFLOW_TRACKING_URI")
    given = {name: value for name, value in os.environ.items() if name.startswith(PASSED_ON)}
    writable = {"/tmp": "mode=1777,exec", "/work": "mode=1777", "/dev/shm": "mode=1777"}
    return local.DockerRunner(
        environment=given,
        user=f"{os.getuid() or 10001}:{os.getgid() or 10001}",
        read_only=True,
        tmpfs=writable,
        cap_drop=["ALL"],
        network_mode="host",
    )
