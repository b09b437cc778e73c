"""Masks to paste and cut-outs, as a Kubeflow component. `python components/masks/component.py` compiles it."""

from typing import Any

from kfp import compiler, dsl
from kfp.dsl import Dataset, Input, Output


@dsl.component(base_image="registry.example.com/team/bmask:REPLACE_WITH_GIT_SHA", install_kfp_package=False)
def masks(
    dataset: Input[Dataset],
    augmented: Input[Dataset],
    pasting: Output[Dataset],
    masks: dict[str, Any],
    ingest: dict[str, Any],
    train: dict[str, Any],
) -> None:
    """Makes what systems need to learn from pasted masks.

    Args:
        dataset: The output of ingest.
        augmented: The output of augment.
        pasting: Masks to paste, cut-outs of the masked photos, the mask finder and the features of faces.
        masks: The section `masks` of the parameter file.
        ingest: The section `ingest` of the parameter file.
        train: The section `train` of the parameter file.
    """
    from pathlib import Path

    from bmask.kubeflow.inside import on_any_node, one_sentence, params_of, result
    from bmask.stages.masks import masks as stage

    with one_sentence():
        params = params_of(masks=masks, ingest=ingest, train=on_any_node(train))
        stage(params, Path(dataset.path), Path(augmented.path), Path(pasting.path))
    pasting.metadata["digest"] = result(pasting.path, "summary.json")["digest"]


if __name__ == "__main__":
    compiler.Compiler().compile(masks, __file__.replace(".py", ".yaml"))
