"""The leaderboard, as a Kubeflow component. `python components/evaluate/component.py` compiles it."""

from typing import Any

from kfp import compiler, dsl
from kfp.dsl import HTML, Artifact, Dataset, Input, Metrics, Model, Output


@dsl.component(base_image="registry.example.com/team/bmask:REPLACE_WITH_GIT_SHA", install_kfp_package=False)
def evaluate(
    dataset: Input[Dataset],
    masks: Input[Dataset],
    trainings: Input[list[Model]],
    judge: Input[Model],
    evaluation: Output[Artifact],
    leaderboard: Output[Metrics],
    report: Output[HTML],
    ingest: dict[str, Any],
    augment: dict[str, Any],
    train: dict[str, Any],
    models: list[dict[str, Any]],
    judging: dict[str, Any],
    evaluate: dict[str, Any],
    register: dict[str, Any],
) -> None:
    """Scores all trained systems and the baselines on the test photos.

    Args:
        dataset: The output of ingest.
        masks: The output of masks.
        trainings: The outputs of the training tasks.
        judge: The output of the task judge.
        evaluation: scores.json, leaderboard.csv, the scores of every photo, the report.
        leaderboard: The headline numbers of each system.
        report: One page with leaderboard, slices, pictures (none of private photos) and losses.
        ingest: The section `ingest` of the parameter file.
        augment: The section `augment` of the parameter file.
        train: The section `train` of the parameter file.
        models: The entries of `models` in the parameter file, each with its `name`.
        judging: The section `judge` of the parameter file.
        evaluate: The section `evaluate` of the parameter file.
        register: The section `register` of the parameter file.
    """
    import shutil
    from pathlib import Path

    from bmask.kubeflow.inside import log_numbers, on_any_node, one_sentence, params_of, training_folder
    from bmask.stages.evaluate import evaluate as stage
    from bmask.stages.report_evaluate import report_evaluate

    out = Path(evaluation.path)
    sections = {"ingest": ingest, "augment": augment, "train": on_any_node(train), "judge": judging}
    sections |= {"evaluate": evaluate, "register": register}
    with one_sentence(), training_folder([training.path for training in trainings]) as folder:
        params = params_of(models, **sections)
        folders = (Path(dataset.path), folder, Path(judge.path), out)
        found = stage(params, *folders, Path(masks.path))
        report_evaluate(params, *folders, out / "report")
    log_numbers(leaderboard, found)
    shutil.copyfile(out / "report" / "report.html", report.path)


if __name__ == "__main__":
    compiler.Compiler().compile(evaluate, __file__.replace(".py", ".yaml"))
