"""Photos and results by version, with the commands of the README: DVC, git and a real S3 server."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient

from repository import Repository
from s3 import Server
from workspace import ROOT, TINY, Workspace

IMPORTED = {"source": "dataset", "masked": "with_mask", "unmasked": "without_mask"}


class Versioned(Workspace):
    """A workspace in git whose DVC remote is a bucket."""

    def __init__(self, folder: Path, s3: Server, ingest: dict[str, str]):
        folder.mkdir()
        super().__init__(folder)
        shutil.copy(ROOT / ".gitignore", folder)
        self.env |= s3.environment() | people()
        params = copy.deepcopy(TINY)
        del params["models"]["cyclegan"]
        params["ingest"] |= ingest
        self.write(params)
        self.run("dvc", "remote", "add", "-d", "store", "s3://versions/dvc")
        self.run("dvc", "remote", "modify", "store", "endpointurl", s3.endpoint)

    def commit(self, tag: str) -> None:
        self.run("git", "add", "--all")
        self.run("git", "commit", "-q", "-m", tag)
        self.run("git", "tag", tag)

    def clone(self, folder: Path) -> Versioned:
        """A fresh clone in `folder`: what git holds, without DVC's cache."""
        self.run("git", "clone", "-q", str(self.folder), str(folder))
        other = copy.copy(self)
        other.folder, other.env = folder, {**self.env, "PYTHONPATH": str(folder / "src")}
        return other

    def ran(self, *command: str) -> set[str]:
        """The stages that a DVC command ran."""
        return {line.split("'")[1] for line in self.run(*command).splitlines() if line.startswith("Running stage")}


def people() -> dict[str, str]:
    return {f"GIT_{role}_{key}": "t@t" for role in ("AUTHOR", "COMMITTER") for key in ("NAME", "EMAIL")}


def draw(work: Workspace, folder: Path, count: int, seed: int) -> Path:
    """Draws faces without truth, like a user's own photos."""
    numbers = {"masked": count, "unmasked": count, "size": 40, "seed": seed}
    options = [part for name, number in numbers.items() for part in (f"--{name}", str(number))]
    work.run("bmask", "draw", str(folder), *options)
    shutil.rmtree(folder / "truth")
    return folder


@pytest.fixture(scope="module")
def bucket(s3_server_of_session) -> Server:
    s3_server_of_session.empty("versions")
    return s3_server_of_session


@pytest.mark.slow
def test_own_photos_are_added_pushed_and_found_by_a_fresh_clone(bucket, tmp_path):
    work = Versioned(tmp_path / "work", bucket, {"source": "photos"})
    draw(work, work.folder / "photos", 60, seed=3)
    work.run("dvc", "add", "photos")
    assert work.ran("dvc", "repro", "ingest") == {"ingest"}
    work.commit("v1")
    work.run("dvc", "push")

    clone = work.clone(tmp_path / "clone")
    assert clone.ran("dvc", "repro", "--pull", "--allow-missing", "ingest") == set()
    assert not (clone.folder / "photos").exists()  # nothing needs them
    clone.run("dvc", "pull", "photos.dvc", "ingest")
    assert clone.json("results/ingest/summary.json") == work.json("results/ingest/summary.json")
    assert sum(path.is_file() for path in (clone.folder / "photos").rglob("*.png")) == 120


@pytest.fixture(scope="module")
def public(bucket, tmp_path_factory) -> Repository:
    """Stands in for a public set: a plain git repository, without DVC, with photos below dataset/."""
    return Repository(tmp_path_factory.mktemp("public") / "repository")


def publish(work: Workspace, public: Repository, seed: int) -> str:
    """Adds drawn faces to the public set and returns its commit."""
    faces = draw(work, public.folder.parent / f"faces {seed}", 60, seed)
    for domain, name in (("masked", "with_mask"), ("unmasked", "without_mask")):
        (public.folder / "dataset" / name).mkdir(parents=True, exist_ok=True)
        for path in (faces / domain).iterdir():
            shutil.copy(path, public.folder / "dataset" / name / f"{seed}-{path.name}")
    return public.commit()


@pytest.fixture(scope="module")
def imported(bucket, public, tmp_path_factory) -> Versioned:
    """The imported set, its results committed and pushed as v1."""
    work = Versioned(tmp_path_factory.mktemp("imported") / "work", bucket, IMPORTED)
    work.first = publish(work, public, seed=5)
    work.run("dvc", "import", str(public.folder), "dataset")
    work.run("dvc", "repro")
    work.commit("v1")
    work.run("dvc", "push")
    return work


@pytest.mark.slow
def test_a_public_set_is_imported_from_its_plain_git_repository(imported):
    origin = yaml.safe_load((imported.folder / "dataset.dvc").read_text())["deps"][0]["repo"]
    assert origin["rev_lock"] == imported.first
    counts = imported.json("results/ingest/summary.json")["counts"]
    assert sum(counts["masked"].values()) == sum(counts["unmasked"].values()) == 60


@pytest.mark.slow
def test_a_fresh_clone_elsewhere_computes_nothing_and_knows_the_champion(imported, tmp_path):
    clone = imported.clone(tmp_path / "clone")
    clone.run("dvc", "pull", "train")  # `repro --pull` does not pull results/train: it is a folder of outputs
    assert clone.ran("dvc", "repro", "--pull", "--allow-missing") == {"register"}
    assert not (clone.folder / "dataset").exists()
    assert clone.json("results/register/decision.json")["data_digest"] == digest(imported)
    assert digest(imported) in (clone.folder / "results/report/evaluate/report.html").read_text()
    assert "attentiongan" in clone.run("bmask", "champion")


@pytest.mark.slow
def test_an_experiment_changes_one_number_and_is_compared(imported, tmp_path):
    clone = imported.clone(tmp_path / "clone")
    clone.run("dvc", "pull")
    stages = clone.ran("dvc", "exp", "run", "-S", "models.attentiongan.network.w_cycle=9")
    assert stages == {"train@attentiongan", "evaluate", "report_evaluate", "register"}
    assert any(change["diff"] for change in scores(clone.run("dvc", "metrics", "diff", "--json")))
    assert "w_cycle" in clone.run("dvc", "params", "diff")


@pytest.mark.slow
def test_two_versions_of_the_photos_are_compared_and_each_digest_is_with_its_run(imported, public, tmp_path):
    clone = imported.clone(tmp_path / "clone")
    before = digest(imported)
    second = publish(clone, public, seed=6)
    clone.run("dvc", "update", "dataset.dvc")
    origin = yaml.safe_load((clone.folder / "dataset.dvc").read_text())["deps"][0]["repo"]
    assert origin["rev_lock"] == second
    clone.run("dvc", "repro", "--pull")
    clone.commit("v2")
    after = digest(clone)
    assert after != before
    assert any(change["diff"] for change in scores(clone.run("dvc", "metrics", "diff", "v1", "v2", "--json")))
    for work, found in ((imported, before), (clone, after)):
        client = MlflowClient(f"sqlite:///{work.folder}/mlflow.db")
        (version,) = client.search_model_versions("name = 'bmask-unmasker'")
        run = client.get_run(version.run_id)
        assert version.tags["data_digest"] == run.data.tags["data_digest"] == found
        assert [item.path for item in client.list_artifacts(run.info.run_id, "data")] == ["data/report.html"]
        assert found in (work.folder / "results/report/evaluate/report.html").read_text()


def digest(work: Workspace) -> str:
    return work.json("results/ingest/summary.json")["digest"]


def scores(difference: str) -> list[dict]:
    """The changes of the scores of attentiongan, as `dvc metrics diff --json` tells them."""
    (changes,) = json.loads(difference).values()
    return [change for name, change in changes.items() if name.startswith("attentiongan")]
