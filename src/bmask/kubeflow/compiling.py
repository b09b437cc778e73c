"""Compiles pipelines/unmask.py into a file for a cluster."""

from __future__ import annotations

import importlib.util
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from bmask.errors import PipelineError
from bmask.files import write_text
from bmask.params import Params

if TYPE_CHECKING:
    from kfp.dsl.base_component import BaseComponent

SOURCE = Path("pipelines/unmask.py")
HEADER = """\
# The pipeline for Kubeflow, compiled by bmask. Change params.yaml, pipelines/ or components/ and compile again.
# `bmask pipeline submit` names the image itself. To upload this file by hand, compile it with --image NAME:TAG.
"""
TAG = "REPLACE_WITH_GIT_SHA"


def build_pipeline(params: Params, image: str, parallelism: int = 0) -> BaseComponent:
    """The pipeline of the checkout in the working folder. Raises PipelineError if there is none."""
    module = _module(Path.cwd() / SOURCE)
    with ThreadPoolExecutor(1) as thread:  # a short stack: KFP reads the source of all its frames for each setting
        return thread.submit(module.build, params, image, parallelism).result()


def placeholder(params: Params) -> str:
    """The image of a pipeline that is compiled only for reading: the same at any commit, and clearly no real image."""
    return f"{params.cluster.image or 'registry.example.com/team/bmask'}:{TAG}"


def write_pipeline(pipeline: BaseComponent, path: Path) -> None:
    """Compiles to YAML, the same bytes for the same pipeline; drops kfp's header, whose order varies."""
    import yaml
    from kfp import compiler

    with tempfile.TemporaryDirectory() as folder:
        compiled = Path(folder) / "pipeline.yaml"
        compiler.Compiler().compile(pipeline, str(compiled))
        documents = list(yaml.safe_load_all(compiled.read_text(encoding="utf-8")))
    write_text(path, HEADER + yaml.safe_dump_all(documents, sort_keys=True, allow_unicode=True, width=120))


def _module(path: Path) -> ModuleType:
    if not path.is_file():
        raise PipelineError(f"there is no {path}; run in the folder of a bmask checkout")
    specification = importlib.util.spec_from_file_location("bmask_pipeline", path)
    assert specification and specification.loader  # every .py file has them
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module
