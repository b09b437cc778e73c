"""One training, as a Kubeflow component. `python components/train/component.py` compiles it."""

from typing import Any

from kfp import compiler, dsl
from kfp.dsl import Dataset, Input, Metrics, Model, Output


@dsl.component(base_image="registry.example.com/team/bmask:REPLACE_WITH_GIT_SHA", install_kfp_package=False)
def train(
    dataset: Input[Dataset],
    augmented: Input[Dataset],
    masks: Input[Dataset],
    trained: Output[Model],
    losses: Output[Metrics],
    model: dict[str, Any],
    ingest: dict[str, Any],
    train: dict[str, Any],
    s3: dict[str, Any],
) -> None:
    """Trains one translation system. A retried task goes on from its last checkpoint and its MLflow run.

    With GPUs (the environment variable BMASK_GPUS holds the number requested), one process per GPU trains, each with
    its share of every batch.

    Args:
        dataset: The output of ingest.
        augmented: The output of augment.
        masks: The output of masks.
        trained: Generators and discriminators as safetensors, losses, samples, and how they were made.
        losses: The last logged value of every loss.
        model: One entry of `models` in the parameter file: `name`, `network` and `schedule`.
        ingest: The section `ingest` of the parameter file.
        train: The section `train` of the parameter file.
        s3: The section `s3` of the parameter file, for checkpoints in object storage.
    """
    from pathlib import Path

    from bmask.kubeflow.inside import last_losses, log_numbers, on_gpus, one_sentence, params_of, result
    from bmask.stages.train import train as stage

    with one_sentence():
        params = params_of([model], ingest=ingest, train=on_gpus(train), s3=s3)
        stage(params, model["name"], Path(dataset.path), Path(augmented.path), Path(masks.path), Path(trained.path))
    trained.metadata.update(result(trained.path, "run.json", "model", "fingerprint", "data_digest"))
    log_numbers(losses, last_losses(trained.path))


if __name__ == "__main__":
    compiler.Compiler().compile(train, __file__.replace(".py", ".yaml"))
