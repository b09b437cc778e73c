"""From pipelines/unmask.py to the file that a cluster is given."""

from __future__ import annotations

import importlib.util
import tempfile
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
    """The pipeline of the checkout in the working folder. Raises PipelineError where there is none."""
    return _module(Path.cwd() / SOURCE).build(params, image, parallelism)


def placeholder(params: Params) -> str:
    """The image of a pipeline that is compiled to be read: the same at any commit, and obviously none to be pulled."""
    return f"{params.cluster.image or 'registry.example.com/team/bmask'}:{TAG}"


def write_pipeline(pipeline: BaseComponent, path: Path) -> None:
    """Compiles to YAML, the same bytes for the same pipeline: kfp's own header is in no fixed order, so it goes."""
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
    assert specification and specification.loader  # as there are of every .py
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module
