"""The command line as users see it: help, exit codes, one sentence for each error that they can fix."""

from __future__ import annotations

import functools
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import typer
from typer.testing import CliRunner

from bmask import cli
from commands import bmask
from tiny import full_disk

ROOT = Path(__file__).parents[2]
STAGES = ["ingest", "augment", "masks", "train", "judge", "evaluate", "register"]
REPORTS = {"report_ingest": "report ingest", "report_evaluate": "report evaluate"}


def commands(group=None, above: tuple[str, ...] = ()) -> dict[tuple[str, ...], object]:
    group = group or typer.main.get_command(cli.app)
    found = {}
    for name, command in group.commands.items():
        found[(*above, name)] = command
        if hasattr(command, "commands"):
            found |= commands(command, (*above, name))
    return found


COMMANDS = commands()


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: bmask(*arguments, monkeypatch=monkeypatch, capsys=capsys)


# Help.


def test_there_is_a_command_for_every_stage_and_for_what_people_do_with_the_result():
    names = {" ".join(name) for name in COMMANDS}
    people = {"unmask", "serve", "log", "draw", "champion", "champion show", "champion set", "champion rollback"}
    assert {*STAGES, "report", *people} <= names


@pytest.mark.parametrize("name", COMMANDS, ids=" ".join)
def test_every_command_and_every_option_of_it_is_explained(name):
    command = COMMANDS[name]
    shown = CliRunner().invoke(cli.app, [*name, "--help"])
    assert shown.exit_code == 0
    assert (command.help or "").strip().endswith(".") or name == ("champion",)
    assert command.help
    for parameter in command.params:
        if parameter.name != "help":
            assert getattr(parameter, "help", None), f"{' '.join(name)}: {parameter.name}"


def test_help_lists_the_commands_in_the_order_of_the_pipeline():
    shown = CliRunner().invoke(cli.app, ["--help"]).stdout
    commands = shown.partition("Stages, in the order")[2]  # skips the text before the list
    places = [commands.index(f" {stage} ") for stage in STAGES]
    assert places == sorted(places)


def test_bmask_alone_shows_the_help():
    assert "Usage: bmask" in CliRunner().invoke(cli.app, []).output


def test_stages_have_the_names_of_dvc_yaml_and_of_the_params():
    import yaml

    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    assert [name for name in stages if name not in REPORTS] == STAGES
    assert {"models" if stage == "train" else stage for stage in STAGES} <= set(params)
    for name, stage in stages.items():
        command = stage.get("do", stage)["cmd"]
        named = REPORTS.get(name, name)
        assert command.split()[: len(named.split()) + 1] == ["bmask", *named.split()]
        outs = stage.get("do", stage)["outs"]
        assert all(str(out).startswith(f"results/{named.replace(' ', '/')}") for out in outs)


# Exit codes: 2 parameters, 3 data.


@pytest.mark.parametrize("stage", STAGES)
def test_without_a_parameter_file_a_stage_ends_with_2_and_says_where_to_run(run, stage):
    code, out, err = run(stage, *(["m"] if stage == "train" else []))
    assert code == 2
    assert err.strip() == "bmask: params.yaml does not exist; run in the folder that holds it or name it with --params"
    assert out == ""


def test_a_mistyped_parameter_ends_with_2_and_its_place(run):
    Path("p.yaml").write_text("train: {sead: 1}", encoding="utf-8")
    code, _, err = run("ingest", "--params", "p.yaml")
    assert code == 2
    assert err == "bmask: p.yaml: train.sead is not a parameter; remove it or correct its name\n"


def test_an_unknown_model_or_command_or_option_ends_with_2(run):
    Path("params.yaml").write_text("models: {one: {network: {system: cyclegan}}}", encoding="utf-8")
    code, _, err = run("train", "two")
    assert code == 2
    assert "models.two is not in the params; there are one" in err
    assert run("fly")[0] == 2
    assert run("ingest", "--fast")[0] == 2
    assert run("train")[0] == 2


@pytest.mark.parametrize(
    "arguments",
    [["ingest"], ["augment"], ["masks"], ["train", "one"], ["judge"], ["evaluate"], ["register"]],
    ids=lambda a: a[0],
)
def test_a_missing_folder_ends_with_3_and_a_sentence(run, arguments, monkeypatch, tmp_path, store_template):
    shutil.copy(store_template, tmp_path / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    text = "ingest: {source: nowhere}\nmodels: {one: {network: {system: cyclegan}}}"
    Path("params.yaml").write_text(text, encoding="utf-8")
    code, _, err = run(*arguments)
    assert code == 3, err
    last = err.strip().splitlines()[-1]
    assert last.startswith("bmask: ")
    assert "Traceback" not in err
    assert not Path("results").exists() or not list(Path("results").iterdir())


@pytest.mark.skipif(torch.cuda.is_available(), reason="it is there")
@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("command", [["train", "cyclegan"], ["train", "cyclegan", "--dry-run"], ["evaluate"]])
def test_a_gpu_that_is_not_there_ends_with_2_and_one_sentence_before_anything_is_read(
    run, tmp_path, command, processes
):
    network = "{system: cyclegan, filters: 4}"
    (tmp_path / "params.yaml").write_text(
        f"train: {{device: cuda, processes: {processes}}}\nmodels: {{cyclegan: {{network: {network}}}}}"
    )
    code, _, said = run(*command)
    assert (code, said) == (
        2,
        "bmask: train.device: cuda is asked for, but torch sees no CUDA device; use auto or cpu\n",
    )


@pytest.mark.parametrize("device", ["cuda:7", "gpu"])
def test_a_device_that_is_none_ends_with_2_and_its_name(run, tmp_path, device):
    (tmp_path / "params.yaml").write_text(f"train: {{device: '{device}'}}\nevaluate: {{baselines: [identity]}}")
    code, _, said = run("evaluate")
    assert code == 2
    assert said.startswith("bmask: train.device: ")
    assert device in said


def test_unmasking_nothing_ends_with_3(run):
    code, _, err = run("unmask", "nowhere.jpg", "out.png", "--model", "nothing.safetensors")
    assert code == 3
    assert err.startswith("bmask: ")


def test_logging_a_training_that_is_not_there_ends_with_3(run, monkeypatch, tmp_path, store_template):
    shutil.copy(store_template, tmp_path / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    code, _, err = run("log", "nobody")
    assert code == 3
    assert "nobody" in err
    assert "Traceback" not in err


def test_an_interrupted_command_ends_with_130_and_promises_no_checkpoint_that_it_has_not(tmp_path):
    drawing = [sys.executable, "-m", "bmask", "draw", "faces", "--masked", "2000", "--unmasked", "2000", "--size", "64"]
    heard = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # the shell may have set it to be ignored
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    child = subprocess.Popen(drawing, cwd=tmp_path, preexec_fn=heard, **pipes)
    while not list(tmp_path.rglob("*.png")):
        assert child.poll() is None, child.stderr.read()
        time.sleep(0.05)
    child.send_signal(signal.SIGINT)
    _, err = child.communicate()
    assert child.returncode == 130
    assert err.endswith("bmask: interrupted; the same command starts again from the beginning\n")
    assert "Traceback" not in err
    assert not list(tmp_path.iterdir())  # nothing is left to go on from, as the message says


@pytest.mark.parametrize(
    ("arguments", "left"),
    [
        ("train attentiongan", "goes on from the last checkpoint, if one was written"),
        ("train attentiongan --dry-run", "from the beginning"),
        ("unmask in out", "the photos that are done stay"),
        ("pipeline submit --wait", "a run that was started goes on in Kubeflow"),
        ("pipeline compile", "from the beginning"),
        ("evaluate", "from the beginning"),
    ],
)
def test_each_interrupted_command_says_what_is_left_of_it(arguments, left, run, monkeypatch):
    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "app", interrupt)
    code, _, err = run(*arguments.split())
    assert code == 130
    assert left in err


def test_the_installed_command_ends_with_the_code_and_no_traceback(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "bmask", "ingest"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("bmask: params.yaml does not exist")
    assert done.stdout == ""


def test_a_full_disk_is_said_in_a_sentence(run, tmp_path):
    with full_disk(5000):
        code, _, told = run("draw", "faces", "--masked", "2", "--unmasked", "1", "--size", "256")
    assert code == 1
    assert told == "bmask: faces cannot be written or read: File too large; make room there\n"


def test_a_full_folder_for_temporary_files_is_named_and_so_is_what_chooses_it(run, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    Path("params.yaml").write_text("ingest: {drawn: {masked: 2, unmasked: 1, size: 256}}", encoding="utf-8")
    with full_disk(5000):
        code, _, told = run("ingest")
    assert code == 1
    last = told.strip().splitlines()[-1]
    assert last.startswith(f"bmask: {tmp_path}/bmask-photos-")
    assert last.endswith("; make room there, or set TMPDIR to a folder with more room")


def test_where_no_folder_takes_temporary_files_all_that_were_tried_are_named(run, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    Path("params.yaml").write_text("ingest: {drawn: {masked: 2, unmasked: 1, size: 256}}", encoding="utf-8")
    with full_disk(0):
        code, _, told = run("ingest")
    assert code == 1
    assert told.startswith(f"bmask: No usable temporary directory found in ['{tmp_path}', '/tmp', ")
    assert told.endswith("set TMPDIR to a folder that can be written\n")


def test_a_place_that_cannot_be_written_is_said_in_a_sentence(run, tmp_path):
    (tmp_path / "taken").write_text("a file where a folder should be")
    code, _, told = run("draw", "taken/faces", "--masked", "1", "--unmasked", "1", "--size", "48")
    assert code == 1
    assert "taken" in told
