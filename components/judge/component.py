"""The judge that scores all systems, as a Kubeflow component. `python components/judge/component.py` compiles it."""

from typing import Any

from kfp import compiler, dsl
from kfp.dsl import Dataset, Input, Metrics, Model, Output


@dsl.component(base_image="registry.example.com/team/bmask:REPLACE_WITH_GIT_SHA", install_kfp_package=False)
def judge(
    dataset: Input[Dataset],
    trained: Output[Model],
    checks: Output[Metrics],
    ingest: dict[str, Any],
    train: dict[str, Any],
    judge: dict[str, Any],
) -> None:
    """Trains the judge, once per dataset, and checks it.

    Args:
        dataset: The output of ingest.
        trained: The judge as safetensors, and its checks.
        checks: The shares of photos called clean, masks at half opacity that were found, and smears called clean.
        ingest: The section `ingest` of the parameter file.
        train: The section `train` of the parameter file, for the size of the pictures.
        judge: The section `judge` of the parameter file.
    """
    from pathlib import Path

    from bmask.kubeflow.inside import log_numbers, one_sentence, params_of
    from bmask.stages.judge import judge as stage

    with one_sentence():
        found = stage(params_of(ingest=ingest, train=train, judge=judge), Path(dataset.path), Path(trained.path))
    log_numbers(checks, found)


if __name__ == "__main__":
    compiler.Compiler().compile(judge, __file__.replace(".py", ".yaml"))
