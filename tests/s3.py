"""A real S3 server (SeaweedFS, one binary) on this machine, with three identities; it ends with the tests."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WEED = Path(sys.executable).with_name("weed")
OWNER, READER = ("owner", "secret-of-the-owner"), ("reader", "secret-of-the-reader")  # access key, secret key
WRITER = ("writer", "secret-of-the-writer")  # may neither list nor read


@dataclass(frozen=True)
class Server:
    endpoint: str

    def client(self, who: tuple[str, str] = OWNER) -> Any:
        import boto3

        return boto3.client("s3", endpoint_url=self.endpoint, **self.keys(who))

    def environment(self, who: tuple[str, str] = OWNER) -> dict[str, str]:
        """The variables with the server's address and the keys."""
        names = {"aws_access_key_id": "AWS_ACCESS_KEY_ID", "aws_secret_access_key": "AWS_SECRET_ACCESS_KEY"}
        keys = {names[key]: value for key, value in self.keys(who).items() if key in names}
        return {"AWS_ENDPOINT_URL": self.endpoint, "AWS_REGION": "us-east-1", **keys}

    def empty(self, bucket: str) -> None:
        """Creates the bucket if it is missing, and empties it."""
        client = self.client()
        with contextlib.suppress(client.exceptions.BucketAlreadyOwnedByYou, client.exceptions.BucketAlreadyExists):
            client.create_bucket(Bucket=bucket)
        names = [{"Key": name} for name in self.names(bucket)]
        for begin in range(0, len(names), 1000):
            client.delete_objects(Bucket=bucket, Delete={"Objects": names[begin : begin + 1000]})

    def names(self, bucket: str) -> list[str]:
        pages = self.client().get_paginator("list_objects_v2").paginate(Bucket=bucket)
        return [item["Key"] for page in pages for item in page.get("Contents", ())]

    def upload(self, folder: Path, bucket: str, prefix: str) -> None:
        client = self.client()
        for path in (path for path in folder.rglob("*") if path.is_file()):
            client.upload_file(str(path), bucket, f"{prefix}/{path.relative_to(folder).as_posix()}")

    @staticmethod
    def keys(who: tuple[str, str]) -> dict[str, str]:
        return {"aws_access_key_id": who[0], "aws_secret_access_key": who[1], "region_name": "us-east-1"}


def free_ports(count: int) -> list[int]:
    """Ports that are free now, and so are those 10000 above, which SeaweedFS uses for its own calls."""
    found = []
    for port in range(11000 + time.monotonic_ns() % 9000, 22000):
        with contextlib.ExitStack() as stack:
            try:
                for each in (port, port + 10000):
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", each))
            except OSError:
                continue
            found.append(port)
            if len(found) == count:
                return found
    raise OSError("no free ports")


@contextlib.contextmanager
def s3_server(folder: Path, ports: list[int] | None = None) -> Iterator[Server]:
    """Runs a server with its data in `folder`, and kills it when the block ends; the data stays for the next server."""
    folder.mkdir(parents=True, exist_ok=True)
    identities = [
        {"name": access, "credentials": [{"accessKey": access, "secretKey": secret}], "actions": actions}
        for (access, secret), actions in ((OWNER, ["Admin"]), (READER, ["Read", "List"]), (WRITER, ["Write"]))
    ]
    (folder / "s3.json").write_text(json.dumps({"identities": identities}))
    s3, filer, master, volume = ports or free_ports(4)
    command = f"""{WEED} mini -dir={folder} -ip=127.0.0.1 -ip.bind=127.0.0.1 -master.telemetry=false
        -s3.config={folder}/s3.json -s3.port={s3} -s3.port.iceberg=0 -s3.port.lance=0 -webdav=false -admin.ui=false
        -disableHttp=true -filer.port={filer} -master.port={master} -volume.port={volume}"""
    with open(folder / "weed.log", "wb") as log:
        process = subprocess.Popen(command.split(), stdout=log, stderr=log, cwd=folder)
        try:
            _wait(process, f"http://127.0.0.1:{s3}/healthz", folder / "weed.log")
            yield Server(f"http://127.0.0.1:{s3}")
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()


def _wait(process: subprocess.Popen, address: str, log: Path, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(urllib.error.URLError, OSError):
            with urllib.request.urlopen(address, timeout=5):
                return
        time.sleep(0.1)
    raise RuntimeError(f"the S3 server did not start: {log.read_text(errors='replace')[-2000:]}")
