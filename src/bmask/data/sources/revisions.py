"""Fetches a folder of a git repository at a commit, whether git itself or DVC stores the files.

DVC includes git in Python, so no git binary is needed. The repository is only read; a remote one is cloned to a
temporary folder. DVC's files come from the remote that the repository names, with the credentials of this machine.
"""

from __future__ import annotations

import errno
import glob
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bmask.data.sources.fetching import fetch, kept_folder
from bmask.data.sources.listing import Listing
from bmask.data.sources.objects import SCHEME, Object, region_of
from bmask.errors import DataError
from bmask.files import fresh_file

if TYPE_CHECKING:
    from dvc.fs import DVCFileSystem
    from dvc.repo import Repo

    from bmask.params.sections import S3

DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)  # of this disk: the remote is only read


def pin_revision(repository: str, revision: str = "") -> str:
    """The full commit that a commit, tag or branch means now; HEAD when it is empty. Raises DataError."""
    with _opened(repository, revision) as repo:
        return repo.get_rev()


@contextmanager
def fetched_revision(repository: str, revision: str, source: str, s3: S3) -> Iterator[tuple[str, Listing | Path]]:
    """Yields the full commit that a revision means, and the files of its folder `source`, or the one file, an archive.

    Raises:
        DataError: there is no such repository, revision or folder, or DVC's remote does not send the files.
    """
    with _opened(repository, revision) as repo:
        commit, files = repo.get_rev(), repo.dvcfs
        _set_server(repo, s3)
        inside = files.from_os_path(source)
        if not files.exists(inside):
            raise DataError(
                f"ingest.source: {repository} has no folder or archive {source} at {commit}; correct one of them"
            )
        with kept_folder(f"{repository} {commit} {source}") as folder:
            try:
                place = _Inside(files, inside, f"{source} of {repository} at {commit}")
                listing = fetch(place, _objects(files, inside), folder)
            except Exception as error:  # DVC's remotes raise the exceptions of a dozen libraries
                if isinstance(error, OSError) and error.errno in DISK_ERRORS:
                    raise DataError(
                        f"ingest.source: {source} of {repository} cannot be stored in {folder} ({error.strerror});"
                        " make room there or set TMPDIR"
                    ) from None
                raise DataError(
                    f"ingest.repository {repository}: the files of {source} at {commit} cannot be fetched"
                    f" ({_reason(error)}); `dvc push` them there, and check the remote's address and credentials here"
                ) from None
            yield commit, listing.files.get("", listing)


def _objects(files: DVCFileSystem, inside: str) -> list[Object]:
    """All files of a folder of a revision, or the one file under an empty name."""
    from dvc.scm import lfs_prefetch

    alone = files.isfile(inside)
    lfs_prefetch(files, [glob.escape(inside) + ("" if alone else "/**")])
    names = [""] if alone else ["/".join(files.relparts(path, inside)) for path in files.find(inside)]
    # DVC may not know the sizes. ETags are not needed, since a name has one content at a commit.
    return [Object(name, None, "") for name in names]


@dataclass(frozen=True)
class _Inside:
    files: DVCFileSystem
    folder: str
    url: str

    def save(self, item: Object, path: Path) -> None:
        with fresh_file(path) as temporary:
            self.files.get_file(self.files.join(self.folder, item.name) if item.name else self.folder, str(temporary))


@contextmanager
def _opened(repository: str, revision: str) -> Iterator[Repo]:
    from dvc.exceptions import DvcException
    from dvc.repo import Repo
    from dvc.repo.open_repo import clean_repos
    from dvc.scm import RevError

    # Without a revision, DVC takes a local repository's working files. In a clone, HEAD may be another branch.
    at = revision or ("HEAD" if os.path.exists(repository) else None)
    with tempfile.TemporaryDirectory(prefix="bmask-dvc-") as scratch, ExitStack() as after:
        after.callback(clean_repos)  # removes the clone
        config = {"core": {"site_cache_dir": scratch}}
        try:
            repo = Repo.open(repository, rev=at, uninitialized=True, subrepos=True, config=config)
        except RevError:
            raise DataError(
                f"ingest.revision: {repository} has no commit, tag or branch {revision or 'HEAD'};"
                " push it there or correct it"
            ) from None
        except (DvcException, OSError) as error:
            raise DataError(
                f"ingest.repository: {repository} cannot be read as a git repository ({_reason(error)});"
                " correct its path or URL, and check its credentials"
            ) from None
        yield after.enter_context(repo)


def _set_server(repo: Any, s3: S3) -> None:
    """Gives DVC's remotes in S3 that name no endpoint or region those of the params."""
    for remote in repo.config["remote"].values():
        if str(remote.get("url", "")).startswith(SCHEME):
            for option, value in (("endpointurl", s3.endpoint), ("region", region_of(s3))):
                if value:
                    remote.setdefault(option, value)


def _reason(error: BaseException) -> str:
    """The first lines of DVC's error and of its cause."""
    cause = error.__cause__ or error.__context__
    lines = [str(e).strip().partition("\n")[0] for e in (error, cause) if e is not None]
    return ": ".join(dict.fromkeys(filter(None, lines)))[:300] or type(error).__name__
