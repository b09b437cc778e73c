"""The pipeline on a cluster: submitting, scheduling, watching."""

from __future__ import annotations

import os
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bmask.errors import PipelineError
from bmask.kubeflow.compiling import build_pipeline, write_pipeline
from bmask.params import Params
from bmask.progress import say

if TYPE_CHECKING:
    from kfp import Client

TOKEN = "KFP_TOKEN"
ENDED = {"SUCCEEDED", "SKIPPED", "FAILED", "CANCELED"}
PATIENCE = 300.0  # seconds of an unreachable server that watching a run outlasts


@dataclass(frozen=True)
class Target:
    """Which Kubeflow, and how to run there.

    Without `host` the client asks its own surroundings: the cluster that it runs in, else the kubeconfig. The token
    comes from `token_file`, else from the environment variable KFP_TOKEN, never from an argument that everyone on the
    machine can read.
    """

    host: str = ""
    token_file: Path | None = None
    namespace: str = ""  # of a multi-user Kubeflow
    experiment: str = "bmask"
    service_account: str = ""
    caching: bool = True

    def client(self) -> Client:
        """Raises PipelineError when the token cannot be read."""
        from kfp import Client

        try:
            token = self.token_file.read_text("utf-8").strip() if self.token_file else os.environ.get(TOKEN)
        except (OSError, UnicodeDecodeError) as error:
            raise PipelineError(f"--token-file {self.token_file} cannot be read: {error}") from None
        if self.host:
            _check(self.host, token)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return Client(self.host or None, existing_token=token or None, namespace=self.namespace or "kubeflow")

    @property
    def options(self) -> dict[str, Any]:
        """What runs and schedules are created with alike; None leaves caching to what each task says."""
        return {"enable_caching": None if self.caching else False, "service_account": self.service_account or None}


def image_of_commit(params: Params, allow_dirty: bool = False) -> str:
    """`cluster.image` with the commit as its tag, which is also what Kubeflow's cache goes by.

    Raises PipelineError when the working folder differs from the commit, unless `allow_dirty`.
    """
    from bmask.tracking.runs import git_sha

    sha = git_sha()
    if sha == "unknown":
        raise PipelineError("this is no git checkout, so no commit to tag the image with; name one with --image")
    if sha.endswith("-dirty") and not allow_dirty:
        raise PipelineError(
            "the working folder differs from its commit, so the image of that commit would run other code;"
            " commit and `make image`, or say --allow-dirty"
        )
    return f"{params.cluster.image}:{sha}"


def pinned(params: Params) -> Params:
    """`ingest.revision` as a full commit: a branch would hit the cache when it has moved. Raises DataError."""
    if not params.ingest.repository:
        return params
    from bmask.data.sources.opening import pin_revision

    commit = pin_revision(params.ingest.repository, params.ingest.revision)
    return params.model_copy(update={"ingest": params.ingest.model_copy(update={"revision": commit})})


def submit(params: Params, image: str, target: Target, name: str) -> str:
    """Starts a run and returns its id. Raises PipelineError when the server does not take it."""
    with _answers(target) as client, _package(params, image) as package:
        experiment = client.create_experiment(target.experiment, namespace=target.namespace or None)
        run = client.run_pipeline(experiment.experiment_id, name, str(package), **target.options)
    return run.run_id


def schedule(params: Params, image: str, target: Target, name: str, cron: str) -> str:
    """Creates a recurring run, never two at once and none made up for, and returns its id.

    `cron` has six fields, seconds first, as Kubeflow wants it. Raises PipelineError when the server does not take it.
    """
    if len(cron.split()) != 6:
        raise PipelineError(f"--cron {cron!r} needs six fields, seconds first, as in '0 0 3 * * *' for 3 o'clock")
    with _answers(target) as client, _package(params, image) as package:
        experiment = client.create_experiment(target.experiment, namespace=target.namespace or None)
        made = client.create_recurring_run(
            experiment.experiment_id,
            name,
            cron_expression=cron,
            max_concurrency=1,
            no_catchup=True,
            pipeline_package_path=str(package),
            **target.options,
        )
    return made.recurring_run_id


def wait(run_id: str, target: Target, every: float = 10.0) -> None:
    """Prints each change of a task's state until the run ends.

    Raises PipelineError when it ends otherwise than well, naming the tasks that failed, or when the server stays away.
    """
    shown: dict[str, str] = {}
    heard = time.monotonic()
    with _answers(target) as client:
        while True:
            try:
                run = client.get_run(run_id)
                heard = time.monotonic()
            except Exception as error:
                if time.monotonic() - heard > PATIENCE or getattr(error, "status", None) in (401, 403, 404):
                    raise
                say(f"no answer ({type(error).__name__}); the run goes on, asking again")
                time.sleep(every)
                continue
            tasks = run.run_details.task_details or [] if run.run_details else []
            states = {task.task_id: (task.display_name or task.task_id, str(task.state or "PENDING")) for task in tasks}
            for task, (name, state) in states.items():
                if shown.get(task) != state:
                    say(f"{time.strftime('%H:%M:%S')}  {name}: {state.lower()}")
                    shown[task] = state
            if str(run.state) in ENDED:
                break
            time.sleep(every)
    if str(run.state) != "SUCCEEDED":
        failed = sorted({name for name, state in states.values() if state == "FAILED"})
        which = f" (failed: {', '.join(failed)})" if failed else ""
        raise PipelineError(f"run {run_id} ended as {str(run.state).lower()}{which}; its logs are in Kubeflow's UI")


@contextmanager
def _package(params: Params, image: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="bmask-pipeline-") as folder:
        path = Path(folder) / "unmask.yaml"
        write_pipeline(build_pipeline(params, image), path)
        yield path


@contextmanager
def _answers(target: Target) -> Iterator[Client]:
    """The client; what goes wrong with the server ends as a PipelineError that names it and the remedy."""
    import kfp_server_api
    from urllib3.exceptions import HTTPError

    where = target.host or "Kubeflow"
    try:
        yield target.client()
    except kfp_server_api.ApiException as error:
        raise _refusal(where, error.status, str(error.body or error.reason)) from None
    except (HTTPError, OSError) as error:
        raise _absence(where, error) from None


def _check(host: str, token: str | None) -> None:
    """Asks once whether the server is there and lets us in; kfp would try for half a minute and print stack traces."""
    import requests

    address = host if host.startswith("http") else f"https://{host}"
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        answer = requests.get(f"{address.rstrip('/')}/apis/v2beta1/healthz", headers=headers, timeout=20)
    except requests.RequestException as error:
        raise _absence(host, error) from None
    if answer.status_code >= 400:
        raise _refusal(host, answer.status_code, answer.text)


def _refusal(where: str, status: int, said: str) -> PipelineError:
    remedy = {401: f"; the token is missing or too old: {TOKEN} or --token-file", 403: "; ask for the role there"}
    return PipelineError(f"{where} answered {status} ({' '.join(said.split())[:300]}){remedy.get(status, '')}")


def _absence(where: str, error: Exception) -> PipelineError:
    return PipelineError(
        f"{where} does not answer ({type(error).__name__}); check --host, or forward its port with"
        " `kubectl -n kubeflow port-forward svc/ml-pipeline 8888`"
    )
