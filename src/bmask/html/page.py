"""HTML pages in one style; a page is one file that needs only a browser."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any


def page(template: str, **values: Any) -> str:
    """Fills in a template, named by its path below src/bmask; a missing value is an error."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    folder = FileSystemLoader(Path(__file__).parents[1])
    environment = Environment(
        loader=folder, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["percent"] = lambda value: f"{value:.1%}" if math.isfinite(value) else "–"
    return environment.get_template(template).render(**values)


def as_yaml(tree: dict) -> str:
    import yaml

    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)
