"""Lists, fetches and sends objects below a prefix in S3. Credentials come only from boto3's own chain."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from bmask.data.sources.listing import unusual
from bmask.errors import DataError, room
from bmask.files import fresh_file

if TYPE_CHECKING:
    from bmask.params.sections import S3

SCHEME = "s3://"
CHUNK = 1 << 20  # bytes
WORKERS = 16  # objects transferred at once; photos are small, so most of the time is waiting
ATTEMPTS = 5  # of a request, with growing pauses

# S3's error code -> cause and remedy. Answers to HEAD have no body, so their status is the code.
KEY_UNKNOWN = "the server does not know the access key; set AWS_ACCESS_KEY_ID to one that it knows"
KEY_WRONG = "the secret does not belong to the access key; set AWS_SECRET_ACCESS_KEY to the right one"
NO_BUCKET = "there is no bucket {bucket} at {endpoint}; create it or correct {field}"
NO_RIGHT = "the access key has not the right to {action} there; give it that right or use another key"
REMOVED = "an object, or the bucket {bucket}, was removed meanwhile; find out what removes it, and try again"
CHANGED = "an object changed meanwhile; wait until nothing writes there, and try again"
COLD = "an object lies in cold storage; restore it first"
REGION = "the bucket is in another region; set s3.region or AWS_REGION"
EXPIRED = "the session token has expired; get a new one (AWS_SESSION_TOKEN)"
ANSWERS = {
    "NoSuchBucket": NO_BUCKET,
    "InvalidBucketName": NO_BUCKET,
    "InvalidAccessKeyId": KEY_UNKNOWN,
    "SignatureDoesNotMatch": KEY_WRONG,
    "AccessDenied": NO_RIGHT,
    "403": NO_RIGHT,
    "NoSuchKey": REMOVED,
    "404": REMOVED,
    "PreconditionFailed": CHANGED,
    "412": CHANGED,
    "InvalidObjectState": COLD,
    "ExpiredToken": EXPIRED,
    "InvalidToken": EXPIRED,
    "RequestTimeTooSkewed": "this machine's clock differs from the server's; correct it",
    "AuthorizationHeaderMalformed": REGION,
    "PermanentRedirect": REGION,
    "301": REGION,
}
OBJECT_CODES = {"NoSuchKey", "PreconditionFailed", "412", "InvalidObjectState"}  # these concern one object only
NO_CREDENTIALS = "there are no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
NO_SERVER = "nothing answers at {endpoint}; start the server, or correct s3.endpoint or AWS_ENDPOINT_URL"

BROKEN_OFF = "{endpoint} breaks off its answers; check the server and the network, and try again"


class Unavailable(DataError):
    """One object cannot be fetched; others may."""


def split_url(url: str, field: str = "the address") -> tuple[str, str]:
    """`s3://bucket/some/prefix/` -> ("bucket", "some/prefix"). Raises DataError for any other address."""
    bucket, _, prefix = url.removeprefix(SCHEME).partition("/")
    if not url.startswith(SCHEME) or not re.fullmatch(r"[A-Za-z0-9][\w.-]{2,254}", bucket):
        raise DataError(f"{field}: {url!r} is not an address of objects; write it like s3://bucket/prefix")
    return bucket, prefix.strip("/")


@dataclass(frozen=True)
class Object:
    """An object as it was listed. `name` is its key below the prefix; `etag` changes with the content."""

    name: str
    size: int | None  # bytes; None where it is not known
    etag: str


class Prefix:
    """The objects below s3://bucket/prefix, by their names below it. Threads may share it.

    Every failure is a DataError that names `field` (the parameter with the address), the cause and the remedy, but no
    secret.
    """

    def __init__(self, url: str, settings: S3, field: str):
        self.url, self.field = url, field
        self.bucket, prefix = split_url(url, field)
        self.start = f"{prefix}/" if prefix else ""
        self.client: Any = None
        with self._explained("connect"):
            self.client = _client(settings)

    def names(self) -> list[str]:
        """All names, sorted, without keys that end in a slash, which only mark folders."""
        return [item.name for item in self.objects()]

    def objects(self) -> list[Object]:
        """The objects of `names`, in the same order."""
        return sorted(self._listed(self.start), key=lambda item: item.name)

    def itself(self) -> Object | None:
        """The object whose key is the prefix itself, under an empty name, or None."""
        listed = self._listed(self.start.removesuffix("/"), 1)
        return next((item for item in listed if not item.name), None) if self.start else None

    def _listed(self, start: str, limit: int | None = None) -> list[Object]:
        with self._explained("list objects"):
            paginator = self.client.get_paginator("list_objects_v2")
            pages = paginator.paginate(Bucket=self.bucket, Prefix=start, PaginationConfig={"MaxItems": limit})
            listed = (item for page in pages for item in page.get("Contents", ()) if not item["Key"].endswith("/"))
            return [Object(item["Key"][len(start) :], item["Size"], item["ETag"]) for item in listed]

    def fetch(self, name: str, folder: Path) -> None:
        """Writes an object to the file of its name below `folder`, completely or not at all, with little memory."""
        if reason := unusual(name):
            raise DataError(f"{self.field} {self.url}: {name!r} {reason}; rename or remove that object")
        self._save(self.start + name, f"read {name}", folder / name)

    def save(self, item: Object, path: Path) -> None:
        """Writes an object, unchanged since it was listed, to a file, completely or not at all, with little memory."""
        key = self.start + item.name if item.name else self.start.removesuffix("/")
        self._save(key, f"read {item.name or self.url}", path, IfMatch=item.etag)

    def _save(self, key: str, action: str, path: Path, **conditions: str) -> None:
        with self._explained(action), fresh_file(path) as temporary, open(temporary, "wb") as file:
            for attempt in range(1, ATTEMPTS + 1):
                try:
                    if file.tell():  # the answer broke off: ask for the rest of the same object
                        conditions["Range"] = f"bytes={file.tell()}-"
                    answer = self.client.get_object(Bucket=self.bucket, Key=key, **conditions)
                    conditions["IfMatch"] = answer["ETag"]
                    shutil.copyfileobj(answer["Body"], file, CHUNK)
                    break
                except Exception as error:
                    if attempt == ATTEMPTS or not _is_temporary(error):
                        raise
                    time.sleep(2**attempt / 4)

    def send(self, path: Path, name: str) -> None:
        """Uploads a file. The object appears when it is complete: S3 shows a large one after its last piece."""
        with self._explained(f"write {name}"):
            self.client.upload_file(str(path), self.bucket, self.start + name)

    def copy(self, name: str, to: str) -> None:
        """Copies an object within the server."""
        with self._explained(f"write {to}"):
            self.client.copy({"Bucket": self.bucket, "Key": self.start + name}, self.bucket, self.start + to)

    def put(self, name: str, content: bytes) -> None:
        with self._explained(f"write {name}"):
            self.client.put_object(Bucket=self.bucket, Key=self.start + name, Body=content)

    def remove(self, name: str) -> None:
        with self._explained(f"remove {name}"):
            self.client.delete_object(Bucket=self.bucket, Key=self.start + name)

    @contextmanager
    def _explained(self, action: str) -> Iterator[None]:
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError
        from s3transfer.exceptions import RetriesExceededError, S3DownloadFailedError

        try:
            yield
        except (
            BotoCoreError,
            ClientError,
            Boto3Error,
            RetriesExceededError,
            S3DownloadFailedError,
            ValueError,
        ) as error:
            cause: Any = error
            if isinstance(error, RetriesExceededError):
                cause = error.last_exception
            elif isinstance(error, Boto3Error) and error.__context__:
                cause = error.__context__
            alone = isinstance(cause, ClientError) and str(cause.response.get("Error", {}).get("Code")) in OBJECT_CODES
            kind = Unavailable if alone else DataError
            raise kind(f"{self.field} {self.url}: {self._cause(cause, action)}") from None
        except OSError as error:
            what = f"cannot {action}: {error.filename or 'a file'}: {error.strerror}"
            remedy = room(error) or "; check this machine's disk"
            raise DataError(f"{self.field} {self.url}: {what}{remedy}") from None

    def _cause(self, error: BaseException, action: str) -> str:
        from botocore import exceptions as known

        names = {"bucket": self.bucket, "endpoint": self._endpoint(), "field": self.field, "action": action}
        if isinstance(error, known.ClientError):
            answer = error.response.get("Error", {})
            code = str(answer.get("Code", "nothing"))
            other = f"cannot {action}: the server answered {code} ({answer.get('Message', '')})"
            return ANSWERS[code].format(**names) if code in ANSWERS else other
        if isinstance(error, known.NoCredentialsError | known.PartialCredentialsError):
            return NO_CREDENTIALS
        if _broken_off(error):
            return BROKEN_OFF.format(**names)
        if isinstance(error, known.HTTPClientError | known.ConnectionError):
            return NO_SERVER.format(**names)
        return f"cannot {action}: {' '.join(str(error).split())}"[:300]

    def _endpoint(self) -> str:
        """The server's address without user and password, which AWS_ENDPOINT_URL may hold."""
        address = urlsplit(self.client.meta.endpoint_url if self.client else "")
        return f"{address.scheme}://{address.netloc.rpartition('@')[2]}"


def _broken_off(error: BaseException) -> bool:
    """Whether the connection ended in the middle of an answer, which boto3 itself does not retry."""
    from botocore import exceptions as known

    return isinstance(error, known.IncompleteReadError | known.ReadTimeoutError | known.ResponseStreamingError)


def _is_temporary(error: Exception) -> bool:
    """Whether the server may be restarting: then `_save` waits for it some 40 s longer than boto3 does."""
    from botocore import exceptions as known

    status = error.response["ResponseMetadata"]["HTTPStatusCode"] if isinstance(error, known.ClientError) else 0
    return status >= 500 or _broken_off(error) or isinstance(error, known.HTTPClientError | known.ConnectionError)


def region_of(settings: S3) -> str | None:
    """The region. Clusters and other SDKs set AWS_REGION, but boto3 reads only AWS_DEFAULT_REGION."""
    return settings.region or os.environ.get("AWS_REGION") or None


def _client(settings: S3) -> Any:
    import boto3
    from botocore.config import Config

    config = Config(
        signature_version="s3v4",
        s3={"addressing_style": "path" if settings.path_style else "auto"},
        request_checksum_calculation=settings.checksums,
        response_checksum_validation=settings.checksums,
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
        connect_timeout=10,
        max_pool_connections=WORKERS,
    )
    session = boto3.session.Session(region_name=region_of(settings))  # the default session keeps old credentials
    return session.client("s3", endpoint_url=settings.endpoint or None, config=config)
