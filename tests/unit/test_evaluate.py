"""evaluate puts every system on one leaderboard and refuses what belongs to other photos."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import torch
from drawn import write_split

from bmask.errors import DataError
from bmask.files import write_json
from bmask.gan.generator_file import save_generator
from bmask.gan.registry import build_generator
from bmask.gan.systems.attentiongan import AttentionGANOptions
from bmask.params import parse_params
from bmask.quality.judge import Judge, save_judge
from bmask.quality.scores import Scores
from bmask.stages.evaluate import evaluate

NETWORK = {"system": "attentiongan", "scheme": 2, "filters": 4, "blocks": 1, "masks": 3}
TREE = {
    "train": {"image_size": 32, "threads": 1, "device": "cpu"},
    "models": {"tiny": {"network": NETWORK}},
    "evaluate": {"bootstrap": 50, "pictures": 6},
}
SYSTEMS = ("tiny", "identity", "mean_face", "inpainting")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A split, an untrained generator and an untrained judge, as the stages before evaluate leave them."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("evaluate")
    split = write_split(root / "ingest")
    generator = build_generator(AttentionGANOptions(filters=4, blocks=1, masks=3))
    about = {"network": NETWORK, "data_digest": split.digest}
    save_generator(root / "train" / "tiny" / "generator.safetensors", generator, about)
    rows = [f"{i},{i // 5},{1 / (i + 1):.4f},{'' if i % 2 else 0.3}" for i in range(40)]
    (root / "train" / "tiny" / "losses.csv").write_text("\n".join(["step,epoch,cycle,gan", *rows]))
    save_judge(root / "judge" / "judge.safetensors", Judge(4, 32), {"data_digest": split.digest})
    kinds = {"masked": {"share": 0.02, "photos": 16, "groups": 8}}
    write_json(root / "judge" / "checks.json", {"accuracy": 0.97, "pasted": 0.96, "fooled": 0.03, "kinds": kinds})
    return root


def run(root, out, **sections):
    tree = {**TREE, **sections}
    return evaluate(parse_params(tree), root / "ingest", root / "train", root / "judge", out)


@pytest.fixture(scope="module")
def done(folders):
    returned = run(folders, folders / "evaluate")
    return folders / "evaluate", returned


def test_metrics_are_flat_finite_and_hold_an_interval_for_every_score(done):
    out, returned = done
    written = json.loads((out / "metrics.json").read_text())
    assert written == returned and tuple(written) == SYSTEMS
    for system in SYSTEMS:
        found = written[system]
        assert all(isinstance(value, float) and np.isfinite(value) for value in found.values())
        assert found["unmask_rate_low"] <= found["unmask_rate"] <= found["unmask_rate_high"]
        assert {"judge_kid", "judge_frechet", "upper_ssim", "region_psnr", "outside_mae"} <= set(found)
    assert written["identity"]["untouched"] == 1 and "attention" not in written["identity"]


def test_every_system_and_photo_has_a_row_of_scores(done):
    out, returned = done
    rows = list(csv.DictReader((out / "scores.csv").read_text().splitlines()))
    assert len(rows) == len(SYSTEMS) * 14
    own = [float(row["upper_ssim"]) for row in rows if row["system"] == "tiny"]
    assert np.mean(own) == pytest.approx(returned["tiny"]["upper_ssim"], abs=1e-4)
    board = list(csv.DictReader((out / "leaderboard.csv").read_text().splitlines()))
    assert [row["kind"] for row in board] == ["trained", "baseline", "baseline", "baseline"]
    assert len(Scores.load(out / "scores" / "tiny.npz").names) == 14


def test_the_report_needs_no_other_file_and_shows_every_part(done):
    page = (done[0] / "report.html").read_text()
    for address in ("http://", "https://", 'src="/', "<link", "<script"):
        assert address not in page.replace("http://www.w3.org", ""), address
    for words in ("Leaderboard", "Before and after", "Slices", "The judge", "Losses", "drawn-0", "true face"):
        assert words in page, words
    assert page.count("<svg") == 1 and page.count("data:image/png;base64,") == 6 * 6


def test_the_strip_has_a_row_for_each_kind_and_a_column_for_each_photo(done):
    from PIL import Image

    with Image.open(done[0] / "before_after.png") as strip:
        assert strip.mode == "RGBA" and strip.height == 4 * (96 + 6) and strip.width > 8 * (96 + 6)


def test_the_same_inputs_give_the_same_files(folders, done):
    run(folders, folders / "again")
    for name in ("metrics.json", "scores.csv", "leaderboard.csv", "report.html", "before_after.png"):
        assert (folders / "again" / name).read_bytes() == (done[0] / name).read_bytes(), name


def test_private_photos_show_up_in_no_file(folders, tmp_path):
    write_split(tmp_path / "ingest", private=True)
    tree = parse_params(TREE)
    evaluate(tree, tmp_path / "ingest", folders / "train", folders / "judge", tmp_path / "out")
    assert not (tmp_path / "out" / "before_after.png").exists()
    page = (tmp_path / "out" / "report.html").read_text()
    assert "data:image" not in page and "private" in page


def test_a_generator_of_other_photos_is_refused(folders, tmp_path):
    other = write_split(tmp_path / "ingest", seed=1)
    save_judge(tmp_path / "judge" / "judge.safetensors", Judge(4, 32), {"data_digest": other.digest})
    tree = parse_params(TREE)
    with pytest.raises(DataError, match="tiny was trained on other photos"):
        evaluate(tree, tmp_path / "ingest", folders / "train", tmp_path / "judge", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_baselines_alone_make_a_leaderboard_and_nothing_at_all_is_refused(folders, tmp_path):
    alone = {"bootstrap": 20, "pictures": 2, "baselines": ["inpainting"]}
    assert tuple(run(folders, tmp_path / "out", models={}, evaluate=alone)) == ("inpainting",)
    with pytest.raises(DataError, match="nothing to score"):
        run(folders, tmp_path / "none", models={}, evaluate={"baselines": []})
