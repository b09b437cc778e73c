"""The last stage: the best training becomes a version in MLflow's registry, and champion if it passes the gate.

It runs every time, even if nothing changed: the outputs may come from a cache, and the tracking store, which is not an
output of the pipeline, may be new. This stage brings the store in line with the outputs. It decides about each
evaluation only once, so it does not undo a champion that was set or rolled back by hand.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bmask.errors import DataError
from bmask.files import fresh_folder, read_json, write_json
from bmask.gan.generator_file import FILE
from bmask.progress import say
from bmask.serving.model import THRESHOLD_TAG
from bmask.tracking import registry, store, tracker, versions
from bmask.tracking.outputs import EVALUATED, MODEL_ID, ensure_logged
from bmask.tracking.resolving import resolve
from bmask.tracking.runs import dvc_experiment

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from bmask.params import Params
    from bmask.quality.scores import Scores
    from bmask.serving.unmasker import Unmasker

SPLIT = "test"
DECISION = "bmask.decision."  # prefix of a version's tags that hold the decisions about it, as JSON
CHECK_PHOTOS = 200  # on which exported networks are compared with the originals
MAX_REASON = 800  # characters of one reason; all databases accept tags of 5000


@dataclass(frozen=True)
class Outputs:
    """The outputs of the earlier stages."""

    dataset_folder: Path
    train_folder: Path
    judge_folder: Path
    evaluate_folder: Path
    runs: dict[str, dict]  # run.json of each training
    metrics: dict[str, dict[str, float]]
    data_digest: str
    masks_folder: Path | None = None

    @staticmethod
    def read(
        models: Iterable[str], dataset: Path, train: Path, judge: Path, evaluate: Path, masks: Path | None = None
    ) -> Outputs:
        """Raises DataError when something is missing."""
        runs = {name: _read(train / name / "run.json") for name in models}
        metrics = _read(evaluate / "scores.json")
        for name in runs:
            if name not in metrics:
                raise DataError(f"{evaluate}/scores.json has no {name}; run evaluate again")
        digest = _read(dataset / "summary.json")["digest"]
        return Outputs(dataset, train, judge, evaluate, runs, metrics, digest, masks)

    def values(self, model: str) -> dict[str, float]:
        """The model's scores without the ends of their intervals, which would crowd tables and charts."""
        return {key: value for key, value in self.metrics[model].items() if not key.endswith(("_low", "_high"))}

    def write_serving_files(self, generator: Path, folder: Path) -> None:
        """Writes what serving needs beside a generator: generator and judge, exported and checked on test photos."""
        from bmask.data.split.dataset import Dataset
        from bmask.quality.judge import FILE as JUDGE
        from bmask.quality.judge_export import export_judge
        from bmask.serving.agreement import export_checked

        photos = Dataset.open(self.dataset_folder).photos("masked", SPLIT)[:CHECK_PHOTOS]
        export_checked(generator, photos, folder)
        try:
            export_judge(self.judge_folder / JUDGE, folder, photos)
        except DataError as error:
            say(f"serving will not measure how much of a mask still shows: {error}")

    def scores_file(self, model: str) -> Path:
        return self.evaluate_folder / "scores" / f"{model}.npz"


def register(
    params: Params,
    dataset_folder: Path,
    train_folder: Path,
    judge_folder: Path,
    evaluate_folder: Path,
    data_page: Path,
    page: Path,
    out: Path,
    masks_folder: Path | None = None,
) -> dict[str, Any]:
    """Logs what the store lacks, registers the best training and decides which version is the champion.

    The best training leads in `register.primary` among those that pass the thresholds, or among all if none passes. It
    becomes a version, unless there is one of this training and attention threshold. The gate compares it with the
    champion, scored again on the present test photos by the present judge; it becomes `champion` or `challenger`.
    `register.promote` says whether it may become champion without a person's consent.

    `data_page` and `page`, the reports about the photos and about the systems, are logged.

    Writes and returns decision.json: model, version (0 for none), promoted, reasons, the present champion, scores and
    digests.

    Raises:
        DataError: no models, or an earlier stage's outputs are missing. TrackingError: the store does not answer.
    """
    if not params.models:
        raise DataError("models is empty in the parameter file, so there is nothing to register; add a model there")
    dataset, trained, judged, scored = map(Path, (dataset_folder, train_folder, judge_folder, evaluate_folder))
    outputs = Outputs.read(params.models, dataset, trained, judged, scored, masks_folder)
    evaluation = _digest(params, outputs)
    name = params.register_.name

    client = store.connect()
    private = _read(outputs.dataset_folder / "summary.json")["private"]
    threshold = params.evaluate.attention_threshold
    logged = [_log(client, outputs, model, evaluation, threshold, data_page, private) for model in outputs.runs]
    folders = {outputs.train_folder / model: about for model, about in outputs.runs.items()}
    versions.mend(client, name, folders, outputs.write_serving_files)
    decision = _decided(client, name, evaluation)
    if decision:
        say(f"register: this evaluation was decided already, for version {decision['version']} of {name}")
    else:
        decision = {"evaluation": evaluation, **_decide(client, params, outputs)}
        if decision["version"]:
            tag, text = DECISION + evaluation[:16], json.dumps(decision, ensure_ascii=False)
            client.set_model_version_tag(name, str(decision["version"]), tag, text)
            verdict = "champion" if decision["promoted"] else "challenger"
            say(f"register: {decision['model']} is version {decision['version']} of {name} and its {verdict}")
        for reason in decision["reasons"]:
            say(f"  {reason}")
    present = registry.champion(client, name)
    model = decision["model"]
    decision |= {
        "name": name,
        "champion": present.number if present else None,
        "promoted": bool(present and present.number == decision["version"]),
        "fingerprint": outputs.runs[model]["fingerprint"],
        "data_digest": outputs.data_digest,
        "scores": outputs.metrics[model],
    }
    named, leaderboard = _named(outputs, model), outputs.evaluate_folder / "leaderboard.csv"
    tracker.log_pipeline(logged, decision, named, data_page, (leaderboard, page), private)
    with fresh_folder(out) as folder:
        write_json(folder / "decision.json", decision)
    return decision


def _read(path: Path) -> dict:
    try:
        return read_json(path)
    except FileNotFoundError:
        raise DataError(f"{path} is missing; run the stage that writes {path.parent} first") from None
    except ValueError as error:
        raise DataError(f"{path} is damaged ({error}); run the stage that writes it again") from None


def _promotion(params: Params) -> str:
    """`register.promote` with `auto` resolved: `always`, `manual` or `never`."""
    wished = params.register_.promote
    return ("manual" if dvc_experiment() else "always") if wished == "auto" else wished


def _digest(params: Params, outputs: Outputs) -> str:
    """SHA-256 of everything that a decision depends on, except the present champion."""
    parts: dict[str, Any] = {
        "register": {**params.register_.model_dump(), "promote": _promotion(params)},
        "evaluate": params.evaluate.model_dump(include={"attention_threshold", "bootstrap", "seed"}),
        "data": outputs.data_digest,
    }
    for model, about in outputs.runs.items():
        path = outputs.scores_file(model)
        if not path.is_file():
            raise DataError(f"{path} is missing; run evaluate again")
        parts[model] = [about["fingerprint"], hashlib.sha256(path.read_bytes()).hexdigest()]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _log(
    client: MlflowClient,
    outputs: Outputs,
    model: str,
    evaluation: str,
    threshold: float,
    data_page: Path,
    private: bool,
) -> str:
    """Brings the training's run in line with its outputs, and logs the scores of this evaluation to run and model, and
    the report about the photos to the run. Returns the run's id.
    """
    run = ensure_logged(outputs.train_folder / model, threshold)
    if run.data.tags.get(EVALUATED) == evaluation:
        return run.info.run_id
    model_id = run.data.tags[MODEL_ID]
    tracker.log_scores(run.info.run_id, model_id, _named(outputs, model), ("test photos", outputs.data_digest))
    tracker.log_data_report(run.info.run_id, data_page, private)
    client.set_tag(run.info.run_id, EVALUATED, evaluation)
    return run.info.run_id


def _named(outputs: Outputs, model: str) -> dict[str, float]:
    """The model's scores under their names in MLflow."""
    return {f"test/{key}": value for key, value in outputs.values(model).items()}


def _decided(client: MlflowClient, name: str, evaluation: str) -> dict[str, Any] | None:
    """The decision about this evaluation, if its version or that version's successor exists, with its number."""
    tag = DECISION + evaluation[:16]
    for version in registry.versions(client, name):  # newest first: a successor has the tags of the version before it
        decision = json.loads(version.tags.get(tag, "{}"))
        if decision.get("evaluation") == evaluation:
            return decision | {"version": version.number}
    return None


def _decide(client: MlflowClient, params: Params, outputs: Outputs) -> dict[str, Any]:
    """Registers the best training and passes it through the gate: {model, version, promoted, reasons}."""
    from bmask.quality.champion_gate import check_thresholds, deciding, pick
    from bmask.quality.scores import Scores, primary_value

    scores = {model: Scores.load(outputs.scores_file(model)) for model in outputs.runs}
    rules, name = (params.register_, params.evaluate), params.register_.name
    primary = deciding(next(iter(scores.values())), params.register_)
    best = pick(scores, *rules) or max(scores, key=lambda model: primary_value(scores[model], primary))
    if _promotion(params) == "never":
        reason = "register.promote is never: it was logged, but neither registered nor compared with the champion."
        return {"model": best, "version": 0, "promoted": False, "reasons": [reason]}
    present = registry.champion(client, name)
    folder, about = outputs.train_folder / best, outputs.runs[best]
    own = outputs.values(best)
    threshold = params.evaluate.attention_threshold
    version = versions.version_of(client, name, folder, about, threshold, own, outputs.write_serving_files)
    if present is not None and present.number == version.number:
        promoted, reasons = True, (*check_thresholds(scores[best], *rules).reasons, "It is the champion already.")
    else:
        passed, reasons = _compare(params, outputs, best, scores, present)
        refusals = _refusals(params, version) if passed else ()
        promoted, reasons = passed and not refusals, (*reasons, *refusals)
        if promoted:
            registry.promote(client, name, version.number)
        else:
            client.set_registered_model_alias(name, registry.CHALLENGER, str(version.number))
    reasons = tuple(reason[:MAX_REASON] for reason in reasons)
    client.update_model_version(name, str(version.number), description="\n\n".join(reasons))
    return {"model": best, "version": version.number, "promoted": promoted, "reasons": list(reasons)}


def _refusals(params: Params, version: registry.Version) -> tuple[str, ...]:
    """Why a version that passed the gate is not promoted without a person."""
    by_hand = f"`bmask champion set {version.number}`"
    if registry.ROLLED_BACK in version.tags:
        return (f"It was rolled back by hand; {by_hand} brings it back.",)
    if _promotion(params) == "manual" and params.register_.promote == "auto":
        inside = f"This is the DVC experiment {dvc_experiment()}, where register.promote auto keeps the champion"
        return (f"It passed. {inside}; {by_hand} promotes it.",)
    if _promotion(params) == "manual":
        return (f"It passed. register.promote is manual; {by_hand} promotes it.",)
    return ()


def _compare(
    params: Params, outputs: Outputs, best: str, scores: dict[str, Scores], present: registry.Version | None
) -> tuple[bool, tuple[str, ...]]:
    """The gate's decision between the best training and the present champion."""
    from bmask.quality.champion_gate import decide
    from bmask.serving.unmasker import Unmasker

    rules, threshold = (params.register_, params.evaluate), params.evaluate.attention_threshold
    if present is None:
        return decide(scores[best], None, *rules)
    for model, about in outputs.runs.items():
        identity = {"fingerprint": about["fingerprint"], THRESHOLD_TAG: f"{threshold:g}"}
        if identity.items() <= present.tags.items():
            return decide(scores[best], scores[model], *rules)
    device, unsound = _device(params), scores[best].unsound
    try:
        file = resolve(f"models:/{params.register_.name}/{present.number}", params.register_.name)
        champion = Unmasker(file, float(present.tags.get(THRESHOLD_TAG, threshold)), device, engine="pytorch")
    except Exception as error:  # damaged files and networks of other versions fail in many ways
        return False, (
            f"The champion, version {present.number}, cannot be loaded, so nothing was compared: {error}",
            "`bmask champion set VERSION` makes another version champion by hand.",
        )
    say(f"register: scoring the champion, version {present.number}, on the present test photos")
    rival, own = _score(champion, params, outputs, unsound), scores[best]
    if own.prefix != rival.prefix:  # evaluated elsewhere, with features that are not available here
        own = _score(
            Unmasker(outputs.train_folder / best / FILE, threshold, device, engine="pytorch"), params, outputs, unsound
        )
    return decide(own, rival, *rules)


def _score(unmasker: Unmasker, params: Params, outputs: Outputs, unsound: tuple[str, ...]) -> Scores:
    """Scores a model on the present test photos, as it is served."""
    from bmask.data.split.dataset import Dataset
    from bmask.quality.as_served import score_as_served

    folders = outputs.judge_folder, outputs.masks_folder
    dataset = Dataset.open(outputs.dataset_folder)
    return score_as_served(unmasker, dataset, SPLIT, params.train.image_size, *folders, unsound)


def _device(params: Params) -> str:
    import torch

    from bmask.gan.device import pick_device
    from bmask.parallel import threads

    torch.set_num_threads(threads(params.train.threads))
    return str(pick_device(params.train.device))
