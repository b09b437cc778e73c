"""The pipeline for Kubeflow: the stages of dvc.yaml as tasks, with their nodes and resources.

`python pipelines/unmask.py` compiles pipelines/unmask.yaml from params.yaml, as `bmask pipeline compile` does.
"""

import sys
from pathlib import Path
from typing import Any

from kfp import dsl, kubernetes
from kfp.dsl.base_component import BaseComponent

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from components.augment.component import augment as augment_task  # noqa: E402
from components.evaluate.component import evaluate as evaluate_task  # noqa: E402
from components.ingest.component import ingest as ingest_task  # noqa: E402
from components.judge.component import judge as judge_task  # noqa: E402
from components.masks.component import masks as masks_task  # noqa: E402
from components.register.component import register as register_task  # noqa: E402
from components.train.component import train as train_task  # noqa: E402

from bmask.kubeflow.inside import GPUS  # noqa: E402
from bmask.params import Params, load_params  # noqa: E402
from bmask.params.sections import Cluster  # noqa: E402

SETTINGS = ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_S3_ENDPOINT_URL", "AWS_ENDPOINT_URL", "AWS_REGION")
CREDENTIALS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")


def build(params: Params, image: str, parallelism: int = 0) -> BaseComponent:
    """The pipeline, with the sections of `params`, except `cluster`, as the defaults of its parameters.

    Nodes and resources are constants: Kubeflow 2.17 gives no GPU if their number is a parameter, and every parameter is
    part of its cache key.

    Args:
        image: The image of all tasks, with its tag. Kubeflow's cache key includes it: give each commit its own tag.
        parallelism: How many trainings run side by side; 0: all of them.
    """
    tree = params.model_dump(mode="json", by_alias=True)
    cluster = params.cluster

    @dsl.pipeline(name="unmask", description="Two folders of photos to a registered model that takes face masks off.")
    def unmask(
        ingest: dict[str, Any] = tree["ingest"],
        s3: dict[str, Any] = tree["s3"],
        augment: dict[str, Any] = tree["augment"],
        masks: dict[str, Any] = tree["masks"],
        train: dict[str, Any] = tree["train"],
        models: list[dict[str, Any]] = [{"name": name, **model} for name, model in tree["models"].items()],  # noqa: B006
        judge: dict[str, Any] = tree["judge"],
        evaluate: dict[str, Any] = tree["evaluate"],
        register: dict[str, Any] = tree["register"],
    ) -> dsl.Artifact:
        """Takes masks off: ingest, augment, masks, one training for each model, judge, evaluate, register.

        Args:
            ingest: The section `ingest` of the parameter file.
            s3: The section `s3`.
            augment: The section `augment`.
            masks: The section `masks`.
            train: The section `train`.
            models: The entries of `models`, each with its `name`: one more entry is one more training.
            judge: The section `judge`.
            evaluate: The section `evaluate`.
            register: The section `register`.

        Returns:
            The evaluation: scores.json, leaderboard.csv, report/.
        """
        ingested = _stage(ingest_task(ingest=ingest, s3=s3), cluster, image)
        if not params.ingest.is_fixed:
            ingested.set_caching_options(False)  # the source can change
        dataset = ingested.outputs["dataset"]
        augmented = _stage(augment_task(dataset=dataset, augment=augment), cluster, image).outputs["augmented"]
        finding = masks_task(dataset=dataset, augmented=augmented, masks=masks, ingest=ingest, train=train)
        pasting = _stage(finding, cluster, image)
        judged = _stage(judge_task(dataset=dataset, ingest=ingest, train=train, judge=judge), cluster, image)
        with dsl.ParallelFor(models, name="trainings", parallelism=parallelism or None) as model:
            inputs = {"dataset": dataset, "augmented": augmented, "masks": pasting.outputs["pasting"], "model": model}
            training = _training(train_task(**inputs, ingest=ingest, train=train, s3=s3), cluster, image)
        sections = {"ingest": ingest, "augment": augment, "train": train, "models": models, "judging": judge}
        sections |= {"evaluate": evaluate, "register": register}
        results: dict[str, Any] = {"dataset": dataset, "judge": judged.outputs["trained"], **sections}
        results |= {"masks": pasting.outputs["pasting"]}
        collected = [dsl.Collected(training.outputs["trained"]) for _ in range(2)]  # each serves only one task
        scores = _stage(evaluate_task(trainings=collected[0], **results), cluster, image).outputs["evaluation"]
        registered = register_task(trainings=collected[1], evaluation=scores, **results)
        _stage(registered, cluster, image)
        registered.set_caching_options(False)  # Kubeflow cannot see the registry; the stage is safe to repeat
        return scores

    return unmask


def _stage(task: dsl.PipelineTask, cluster: Cluster, image: str) -> dsl.PipelineTask:
    """A task that does not train: a CPU node is enough."""
    return _common(task, cluster, image, cluster.stage_hours, cluster.stage_cpu, cluster.stage_memory)


def _training(task: dsl.PipelineTask, cluster: Cluster, image: str) -> dsl.PipelineTask:
    """A training: runs on GPU nodes, knows how many GPUs were requested, and has shared memory."""
    _common(task, cluster, image, cluster.hours, cluster.cpu, cluster.memory)
    if cluster.gpus:
        task.set_accelerator_type(cluster.gpu).set_accelerator_limit(cluster.gpus)
        task.set_env_variable(GPUS, str(cluster.gpus))
    for label, value in cluster.node_selector.items():
        kubernetes.add_node_selector(task, label, value)
    for toleration in cluster.tolerations:
        kubernetes.add_toleration(task, **{key: value for key, value in toleration.model_dump().items() if value})
    kubernetes.empty_dir_mount(task, "shared-memory", "/dev/shm", "Memory", cluster.shared_memory)
    return task


def _common(
    task: dsl.PipelineTask, cluster: Cluster, image: str, hours: int, cpu: str, memory: str
) -> dsl.PipelineTask:
    task.set_container_image(image)
    task.set_cpu_request(cpu).set_cpu_limit(cpu).set_memory_request(memory).set_memory_limit(memory)
    if cluster.retries:
        task.set_retry(cluster.retries, backoff_duration="60s", backoff_factor=2, backoff_max_duration="900s")
    kubernetes.set_timeout(task, hours * 3600)
    kubernetes.set_image_pull_policy(task, "IfNotPresent")
    kubernetes.set_security_context(task, run_as_non_root=True)
    kubernetes.use_field_path_as_env(task, "KFP_RUN_ID", "metadata.labels['pipeline/runid']")
    kubernetes.use_config_map_as_env(task, cluster.config_map, {name: name for name in SETTINGS}, optional=True)
    kubernetes.use_secret_as_env(task, cluster.secret, {name: name for name in CREDENTIALS}, optional=True)
    if cluster.claim:
        kubernetes.mount_pvc(task, cluster.claim, cluster.mount)
    return task


if __name__ == "__main__":
    from bmask.kubeflow.compiling import placeholder, write_pipeline

    chosen = load_params(ROOT / "params.yaml")
    write_pipeline(build(chosen, placeholder(chosen)), Path(__file__).with_suffix(".yaml"))
