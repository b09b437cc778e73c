"""Training arrays from the dataset, as a Kubeflow component. `python components/augment/component.py` compiles it."""

from typing import Any

from kfp import compiler, dsl
from kfp.dsl import Dataset, Input, Output


@dsl.component(base_image="registry.example.com/team/bmask:REPLACE_WITH_GIT_SHA", install_kfp_package=False)
def augment(dataset: Input[Dataset], augmented: Output[Dataset], augment: dict[str, Any]) -> None:
    """Stores every training photo and its altered copies.

    Args:
        dataset: The output of ingest.
        augmented: One array for each domain, uint8 (copies, photos, side, side, 3), copy 0 the photo itself.
        augment: The section `augment` of the parameter file.
    """
    from pathlib import Path

    from bmask.kubeflow.inside import one_sentence, params_of, result
    from bmask.stages.augment import augment as stage

    with one_sentence():
        stage(params_of(augment=augment), Path(dataset.path), Path(augmented.path))
    augmented.metadata["digest"] = result(augmented.path, "summary.json")["digest"]


if __name__ == "__main__":
    compiler.Compiler().compile(augment, __file__.replace(".py", ".yaml"))
