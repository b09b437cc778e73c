"""The gate and the registry, as a Kubeflow component. `python components/register/component.py` compiles it."""

from typing import Any, NamedTuple

from kfp import compiler, dsl
from kfp.dsl import Artifact, Dataset, Input, Model, Output


@dsl.component(base_image="registry.example.com/team/bmask:REPLACE_WITH_GIT_SHA", install_kfp_package=False)
def register(
    dataset: Input[Dataset],
    masks: Input[Dataset],
    trainings: Input[list[Model]],
    judge: Input[Model],
    evaluation: Input[Artifact],
    decision: Output[Artifact],
    ingest: dict[str, Any],
    augment: dict[str, Any],
    train: dict[str, Any],
    models: list[dict[str, Any]],
    judging: dict[str, Any],
    evaluate: dict[str, Any],
    register: dict[str, Any],
) -> NamedTuple("Outputs", model=str, version=int, promoted=bool):  # type: ignore[valid-type]  # kfp sends only this function
    """Brings MLflow in line with the results and promotes the best generator if it passes the gate.

    Args:
        dataset: The output of ingest.
        masks: The output of masks.
        trainings: The outputs of the training tasks.
        judge: The output of the task judge.
        evaluation: The output of evaluate.
        decision: The decision and its reasons.
        ingest: The section `ingest` of the parameter file.
        augment: The section `augment` of the parameter file.
        train: The section `train` of the parameter file.
        models: The entries of `models` in the parameter file, each with its `name`.
        judging: The section `judge` of the parameter file.
        evaluate: The section `evaluate` of the parameter file.
        register: The section `register` of the parameter file.

    Returns:
        model: The best model's name.
        version: Its version in the registry; 0 where register.promote is never.
        promoted: Whether it is the champion now.
    """
    from pathlib import Path

    from bmask.kubeflow.inside import on_any_node, one_sentence, params_of, training_folder
    from bmask.stages.register import register as stage

    pages = [Path(of.path) / "report" / "report.html" for of in (dataset, evaluation)]
    folders = (Path(judge.path), Path(evaluation.path), *pages, Path(decision.path), Path(masks.path))
    sections = {"ingest": ingest, "augment": augment, "train": on_any_node(train), "judge": judging}
    sections |= {"evaluate": evaluate, "register": register}
    with one_sentence(), training_folder([training.path for training in trainings]) as folder:
        made = stage(params_of(models, **sections), Path(dataset.path), folder, *folders)
    return made["model"], made["version"], made["promoted"]


if __name__ == "__main__":
    compiler.Compiler().compile(register, __file__.replace(".py", ".yaml"))
