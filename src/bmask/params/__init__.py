"""params.yaml as typed, frozen, strict sections."""

from bmask.params.loading import Params, load_params, parse_params

__all__ = ["Params", "load_params", "parse_params"]
