"""Kubeflow's API server: its address, how to log in, and its failures in one sentence."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bmask.errors import PipelineError
from bmask.progress import say

if TYPE_CHECKING:
    from kfp import Client

TOKEN = "KFP_TOKEN"
FORWARD = "`kubectl -n kubeflow port-forward svc/ml-pipeline 8888`"


@dataclass(frozen=True)
class Target:
    """Which Kubeflow, and how to run there.

    Without `host`, the client uses the cluster that it runs in, else the kubeconfig. The token comes from `token_file`,
    else from the environment variable KFP_TOKEN, never from an argument, which every user of the machine could read.
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
    def where(self) -> str:
        """The server's name in errors."""
        return self.host or "Kubeflow"

    @property
    def options(self) -> dict[str, Any]:
        """Options of runs and schedules; with None, each task decides about caching."""
        return {"enable_caching": None if self.caching else False, "service_account": self.service_account or None}

    @contextmanager
    def answering(self) -> Iterator[Client]:
        """The client; a failure of the server becomes a PipelineError that names the server and the remedy.

        What kfp prints, links to what was made, is shown only on success.
        """
        import kfp_server_api
        from urllib3.exceptions import HTTPError

        try:
            with redirect_stdout(io.StringIO()) as links:
                yield self.client()
        except kfp_server_api.ApiException as error:
            raise _refusal(self.where, error.status, str(error.body or error.reason)) from None
        except (HTTPError, OSError) as error:
            raise _no_answer(self.where, error) from None
        for line in links.getvalue().splitlines():
            say(line)

    def experiment_id(self, client: Client) -> str:
        """The experiment's id; makes the experiment if there is none. Raises PipelineError like `told`."""
        experiment = client.create_experiment(self.experiment, namespace=self.namespace or None)
        return self.told(experiment, "experiment_id")

    def told(self, answer: Any, field: str) -> str:
        """A field that Kubeflow's API always fills.

        Raises PipelineError if it is missing, as in the object that kfp makes from a login page or an empty answer.
        """
        if value := getattr(answer, field, None):
            return value
        raise _not_kubeflow(self.where)


def _check(host: str, token: str | None) -> None:
    """Checks once that the server answers and lets us in; kfp would retry for 30 s and print stack traces."""
    import requests

    address = host if host.startswith("http") else f"https://{host}"
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        answer = requests.get(f"{address.rstrip('/')}/apis/v2beta1/healthz", headers=headers, timeout=20)
    except requests.RequestException as error:
        raise _no_answer(host, error) from None
    if answer.status_code >= 400:
        raise _refusal(host, answer.status_code, answer.text)
    try:
        healthy = isinstance(answer.json(), dict)
    except requests.JSONDecodeError:
        healthy = False
    if not healthy:
        raise _not_kubeflow(host)


def _refusal(where: str, status: int, said: str) -> PipelineError:
    remedy = {401: f"; set {TOKEN} or --token-file to a valid token", 403: "; ask its administrator for access"}
    return PipelineError(f"{where} answered {status} ({' '.join(said.split())[:300]}){remedy.get(status, '')}")


def _not_kubeflow(where: str) -> PipelineError:
    return PipelineError(
        f"{where} answers, but not as Kubeflow's API does: it shows a login or another page; send a token"
        f" ({TOKEN} or --token-file), correct --host, or forward the API's own port with {FORWARD}"
    )


def _no_answer(where: str, error: Exception) -> PipelineError:
    return PipelineError(
        f"{where} does not answer ({type(error).__name__}); check --host, or forward its port with {FORWARD}"
    )
