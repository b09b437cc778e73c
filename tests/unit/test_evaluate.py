"""evaluate puts every system on one leaderboard and refuses what belongs to other photos."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pytest
import torch
from drawn import write_dataset

from bmask.errors import DataError
from bmask.files import write_json
from bmask.gan.generator_file import save_generator
from bmask.gan.lookup import build_generator
from bmask.gan.systems.attentiongan import AttentionGANOptions
from bmask.params import parse_params
from bmask.quality.judge import Judge, save_judge
from bmask.quality.pictures import Pictures, shown_photos
from bmask.quality.scores import Scores
from bmask.stages.evaluate import evaluate
from bmask.stages.report_evaluate import report_evaluate

NETWORK = {"system": "attentiongan", "scheme": 2, "filters": 4, "blocks": 1, "masks": 3}
TREE = {
    "train": {"image_size": 32, "threads": 1, "device": "cpu"},
    "models": {"tiny": {"network": NETWORK}},
    "evaluate": {"bootstrap": 50, "pictures": 6, "min_told": 0},
}
SYSTEMS = ("tiny", "identity", "mean_face", "telea")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A split, an untrained generator and an untrained judge, as the stages before evaluate leave them."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("evaluate")
    dataset = write_dataset(root / "ingest")
    generator = build_generator(AttentionGANOptions(filters=4, blocks=1, masks=3))
    about = {"network": NETWORK, "data_digest": dataset.digest}
    save_generator(root / "train" / "tiny" / "generator.safetensors", generator, about)
    rows = [f"{i},{i // 5},{1 / (i + 1):.4f},{'' if i % 2 else 0.3}" for i in range(40)]
    (root / "train" / "tiny" / "losses.csv").write_text("\n".join(["step,epoch,cycle,gan", *rows]))
    save_judge(root / "judge" / "judge.safetensors", Judge(4, 32), {"data_digest": dataset.digest})
    kinds = {"masked": {"share": 0.02, "photos": 16, "groups": 8}}
    write_json(root / "judge" / "checks.json", {"clean": 0.97, "found": 0.96, "fooled": 0.03, "kinds": kinds})
    return root


def run(root, out, **sections):
    tree = {**TREE, **sections}
    return evaluate(parse_params(tree), root / "ingest", root / "train", root / "judge", out)


def report(root, evaluated, dataset=None):
    """The folder of the report about `evaluated`."""
    out = evaluated.with_name(f"{evaluated.name}-report")
    report_evaluate(parse_params(TREE), dataset or root / "ingest", root / "train", root / "judge", evaluated, out)
    return out


@pytest.fixture(scope="module")
def reported(folders, done):
    return report(folders, done[0])


@pytest.fixture(scope="module")
def done(folders):
    returned = run(folders, folders / "evaluate")
    return folders / "evaluate", returned


def test_scores_are_flat_finite_and_hold_an_interval_for_every_score(done):
    out, returned = done
    written = json.loads((out / "scores.json").read_text())
    assert written == returned and tuple(written) == SYSTEMS
    for system in SYSTEMS:
        found = written[system]
        assert all(isinstance(value, float) and np.isfinite(value) for value in found.values())
        assert found["residue_rate_low"] <= found["residue_rate"] <= found["residue_rate_high"]
        assert {"judge_kid", "paste_distance", "realism", "region_psnr", "bare_untouched"} <= set(found)
    assert written["identity"]["untouched"] == 1 and "attention" not in written["identity"]


def test_what_dvc_compares_are_a_few_of_these_numbers(done):
    shown = json.loads((done[0] / "metrics.json").read_text())
    assert tuple(shown) == ("tiny",) and 5 <= len(shown["tiny"]) <= 8
    assert shown["tiny"].items() <= done[1]["tiny"].items()
    assert not any(name.endswith(("_low", "_high")) for name in shown["tiny"])


def test_every_system_and_photo_has_a_row_of_scores(done):
    out, returned = done
    rows = list(csv.DictReader((out / "scores.csv").read_text().splitlines()))
    assert len(rows) == len(SYSTEMS) * 14
    own = [float(row["upper_ssim"]) for row in rows if row["system"] == "tiny"]
    assert np.mean(own) == pytest.approx(returned["tiny"]["upper_ssim"], abs=1e-4)
    board = list(csv.DictReader((out / "leaderboard.csv").read_text().splitlines()))
    assert [row["kind"] for row in board] == ["trained", "baseline", "baseline", "baseline"]
    assert len(Scores.load(out / "scores" / "tiny.npz").names) == 14


def test_the_report_needs_no_other_file_and_shows_every_part(reported):
    page = (reported / "report.html").read_text()
    for address in ("http://", "https://", 'src="/', "<link", "<script"):
        assert address not in page.replace("http://www.w3.org", ""), address
    for words in (
        "Leaderboard",
        "Before and after",
        "Slices",
        "The ladder",
        "The judge",
        "Losses",
        "drawn-0",
        "true face",
    ):
        assert words in page, words
    assert page.count("<svg") == 1 and page.count("data:image/png;base64,") == 6 * 6


def test_the_strip_has_a_row_for_each_kind_and_a_column_for_each_photo(reported):
    from PIL import Image

    with Image.open(reported / "before_after.png") as strip:
        assert strip.mode == "RGBA" and strip.height == 4 * (96 + 6) and strip.width > 8 * (96 + 6)


def test_the_same_inputs_give_the_same_files(folders, done, reported):
    run(folders, folders / "again")
    again = report(folders, folders / "again")
    for name in (
        "metrics.json",
        "scores.json",
        "ceiling.json",
        "ladder.json",
        "scores.csv",
        "leaderboard.csv",
        "pictures.npz",
    ):
        assert (folders / "again" / name).read_bytes() == (done[0] / name).read_bytes(), name
    for name in ("report.html", "before_after.png"):
        assert (again / name).read_bytes() == (reported / name).read_bytes(), name


def test_private_photos_show_up_in_no_file(folders, tmp_path):
    write_dataset(tmp_path / "ingest", private=True)
    tree = parse_params(TREE)
    evaluate(tree, tmp_path / "ingest", folders / "train", folders / "judge", tmp_path / "out")
    assert not (tmp_path / "out" / "pictures.npz").exists()
    made = report(folders, tmp_path / "out", tmp_path / "ingest")
    assert not (made / "before_after.png").exists()
    page = (made / "report.html").read_text()
    assert "data:image" not in page and "private" in page


def test_every_loss_is_a_table_of_its_own_for_dvc(reported):
    tables = {path.relative_to(reported).as_posix() for path in reported.glob("losses/**/*.csv")}
    assert tables == {"losses/tiny/cycle.csv", "losses/tiny/gan.csv"}
    gan = list(csv.DictReader((reported / "losses/tiny/gan.csv").read_text().splitlines()))
    assert [row["step"] for row in gan[:3]] == ["0", "2", "4"]  # cells without a number are left out
    assert gan[0]["value"] == "0.3"


def test_the_report_shows_the_photos_of_whichever_system_leads(folders, done):
    """The leader depends on the gate's params; evaluate does not."""
    scores = {name: Scores.load(done[0] / "scores" / f"{name}.npz") for name in SYSTEMS}
    kept = Pictures.load(done[0] / "pictures.npz")
    for rows in (1, 2, TREE["evaluate"]["pictures"]):
        first, hardest = shown_photos(scores["tiny"], rows)
        assert len(first) + len(hardest) == max(2, rows)
        assert {*first, *hardest} <= set(kept.index.tolist())


def test_a_missing_file_names_the_stage_to_run(folders, done, tmp_path):
    for name in ("pictures.npz", "scores.json", "ceiling.json", "ladder.json", "scores/tiny.npz"):
        shutil.rmtree(tmp_path / "evaluate", ignore_errors=True)
        shutil.copytree(done[0], tmp_path / "evaluate")
        (tmp_path / "evaluate" / name).unlink()
        with pytest.raises(DataError, match=r"run (evaluate|the stage that writes .*evaluate) again"):
            report(folders, tmp_path / "evaluate")


def test_a_generator_of_other_photos_is_refused(folders, tmp_path):
    other = write_dataset(tmp_path / "ingest", seed=1)
    save_judge(tmp_path / "judge" / "judge.safetensors", Judge(4, 32), {"data_digest": other.digest})
    tree = parse_params(TREE)
    with pytest.raises(DataError, match="tiny was trained on another dataset"):
        evaluate(tree, tmp_path / "ingest", folders / "train", tmp_path / "judge", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_baselines_alone_make_a_leaderboard_and_nothing_at_all_is_refused(folders, tmp_path):
    alone = {"bootstrap": 20, "pictures": 2, "min_told": 0, "baselines": ["telea"]}
    assert tuple(run(folders, tmp_path / "out", models={}, evaluate=alone)) == ("telea",)
    with pytest.raises(DataError, match="nothing to score"):
        run(folders, tmp_path / "none", models={}, evaluate={"baselines": []})
