"""The outputs of the stages before register, made by hand, and a store of their own."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from bmask.data.split.dataset import Dataset
from bmask.files import write_json, write_text
from bmask.gan.generator_file import FILE, load_generator, save_generator
from bmask.gan.lookup import build_generator
from bmask.gan.systems.attentiongan import AttentionGANOptions
from bmask.gan.systems.cyclegan import CycleGANOptions
from bmask.params import Params, parse_params
from bmask.quality.judge import Judge, save_judge
from bmask.quality.leaderboard import Entry, all_scores
from bmask.quality.measuring import reference, score
from bmask.quality.render import renderer, translator
from bmask.quality.scores import intervals
from bmask.stages.register import register
from bmask.tracking import registry as champion
from bmask.tracking.store import connect

SIZE, NAME = 24, "bmask-unmasker"
REPAINTS = CycleGANOptions(filters=8, blocks=1)
CHANGES_MUCH = AttentionGANOptions(filters=8, blocks=1, masks=4, background_bias=0.0)
CHANGES_LITTLE = AttentionGANOptions(filters=8, blocks=1, masks=4, background_bias=2.0)


class Place:
    """The outputs of the stages before register, made by hand in the shape that those stages give them."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.split("digest-of-the-photos")

    def split(self, digest: str, seed: int = 0) -> None:
        folder, rng, rows = self.folder / "split", np.random.default_rng(seed), []
        folder.mkdir(exist_ok=True)
        for domain in ("masked", "unmasked"):
            small = rng.integers(0, 256, (12, 4, 4, 3), dtype=np.uint8)
            photos = [np.asarray(Image.fromarray(s).resize((SIZE, SIZE), Image.Resampling.BICUBIC)) for s in small]
            np.save(folder / f"{domain}_test.npy", np.stack(photos))
            for i in range(12):
                rows.append({"domain": domain, "name": f"{i}.png", "group": f"{seed}-{i}", "split": "test", "index": i})
        with open(folder / "manifest.csv", "w", newline="") as file:
            writer = csv.DictWriter(file, ["domain", "name", "sha256", "group", "split", "index", "slices"], restval="")
            writer.writeheader()
            writer.writerows(rows)
        write_json(
            folder / "summary.json",
            {"digest": digest, "load_size": SIZE, "fit": "crop", "private": False, "truth": False, "version": 4},
        )
        for stage in ("ingest", "evaluate"):
            self.page(stage, "numbers alone")
        self.digest = digest
        torch.manual_seed(0)
        save_judge(self.folder / "judge" / "judge.safetensors", Judge(filters=4, size=32), {"data_digest": digest})

    def train(self, model: str, options, fingerprint: str, seed: int = 1) -> None:
        folder = self.folder / "train" / model
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "samples").mkdir(parents=True)
        torch.manual_seed(seed)
        header = {"model": model, "fingerprint": fingerprint, "data_digest": self.digest, "image_size": SIZE}
        save_generator(folder / FILE, build_generator(options), {**header, "network": asdict(options)})
        (folder / "losses.csv").write_text("step,total\n1,2.5\n2,2.25\n")
        Image.new("RGB", (8, 8)).save(folder / "samples" / "epoch-0001.png")
        about = {"params": {"schedule": {"epochs": 1}}, "steps": 2, "seconds": 0.1, **header}
        write_json(folder / "run.json", about)

    def evaluate(self, params: Params) -> None:
        from bmask.quality.judge import load_judge

        folder = self.folder / "evaluate"
        shutil.rmtree(folder, ignore_errors=True)
        dataset, threshold = Dataset.open(self.folder / "split"), params.evaluate.attention_threshold
        judge, _ = load_judge(self.folder / "judge" / "judge.safetensors")
        real, entries = reference(dataset, "test", judge, SIZE), []
        for model in params.models:
            generator, _ = load_generator(self.folder / "train" / model / FILE)
            scores = score(renderer(translator(generator), threshold), real)
            scores.save(folder / "scores" / f"{model}.npz")
            entries.append(Entry(model, True, scores, intervals(scores, 50, 1)))
        write_json(folder / "scores.json", all_scores(entries))

    def page(self, stage: str, text: str) -> None:
        write_text(self.folder / "report" / stage / "report.html", text)

    def register(self, params: Params) -> dict:
        pages = (f"report/{stage}/report.html" for stage in ("ingest", "evaluate"))
        folders = (self.folder / name for name in ("split", "train", "judge", "evaluate", *pages))
        out = self.folder / "register"
        shutil.rmtree(out, ignore_errors=True)  # as DVC does
        decision = register(params, *folders, out)
        assert json.loads((out / "decision.json").read_text()) == decision
        return decision

    def run(self, params: Params, **trainings) -> dict:
        """One pass of the pipeline: each training is (options, fingerprint)."""
        for model, (options, fingerprint) in trainings.items():
            self.train(model, options, fingerprint)
        self.evaluate(params)
        return self.register(params)


def settings(*models, threshold=0.1, seed=1, **gate) -> Params:
    gate = {"max_residue_rate": 1.0, "max_grade": 1.0, "max_paste_outside": 255.0, "primary": "upper_ssim", **gate}
    return parse_params(
        {
            "models": {model: {"network": {"system": "cyclegan"}} for model in models},
            "ingest": {"load_size": SIZE},
            "train": {"image_size": SIZE, "device": "cpu", "threads": 1},
            "evaluate": {"attention_threshold": threshold, "bootstrap": 50, "seed": seed},
            "register": gate,
        }
    )


def aliases() -> dict[int, tuple[str, ...]]:
    return {version.number: version.aliases for version in champion.versions(connect(), NAME)}
