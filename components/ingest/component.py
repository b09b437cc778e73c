"""Photos to a dataset, as a Kubeflow component. `python components/ingest/component.py` compiles it."""

from typing import Any, NamedTuple

from kfp import compiler, dsl
from kfp.dsl import HTML, Dataset, Metrics, Output


@dsl.component(base_image="registry.example.com/team/bmask:REPLACE_WITH_GIT_SHA", install_kfp_package=False)
def ingest(
    dataset: Output[Dataset],
    counts: Output[Metrics],
    report: Output[HTML],
    ingest: dict[str, Any],
    s3: dict[str, Any],
) -> NamedTuple("Outputs", digest=str):  # type: ignore[valid-type]  # kfp sends only this function
    """Checks, groups, splits and stores the photos of a folder, an S3 prefix or a DVC revision.

    Args:
        dataset: Training, validation and test photos of both domains as a few large arrays, and a manifest.
        counts: Photos in each split of each domain, and refused ones.
        report: One page with counts, sizes, colours, slices, how the domains differ, and photos unless private.
        ingest: The section `ingest` of the parameter file.
        s3: The section `s3` of the parameter file.

    Returns:
        digest: SHA-256 of everything that trainings and evaluations use of the dataset.
    """
    import shutil
    from pathlib import Path

    from bmask.kubeflow.inside import log_numbers, one_sentence, params_of, result
    from bmask.stages.ingest import ingest as stage
    from bmask.stages.report_ingest import report_ingest

    out = Path(dataset.path)
    with one_sentence():
        params = params_of(ingest=ingest, s3=s3)
        stage(params, out)
        report_ingest(params, out, out / "report")
    summary = result(dataset.path, "summary.json")
    dataset.metadata["digest"] = summary["digest"]
    log_numbers(counts, {**summary["counts"], "rejected": summary["rejected"]})
    shutil.copyfile(out / "report" / "report.html", report.path)
    return (summary["digest"],)


if __name__ == "__main__":
    compiler.Compiler().compile(ingest, __file__.replace(".py", ".yaml"))
