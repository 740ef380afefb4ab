"""Import segment-anything with or without torchvision.

`import segment_anything` imports torchvision, which the package does not declare, only for its predictor and its
automatic mask generator. Where torchvision is absent or was built for another torch, a bare package module that carries
the real search path stands in, so that the network modules, which need torch alone, still import.
"""

import sys
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

PACKAGE = "segment_anything"


def import_segment_anything(submodule: str) -> ModuleType:
    """Return `segment_anything.<submodule>`, for example `"modeling.transformer"`.

    Raises:
        ImportError: segment-anything is not installed.
    """
    try:
        import_module(PACKAGE)
    except (ImportError, RuntimeError):  # RuntimeError: torchvision's operators do not match this torch
        _register_bare_package()
    return import_module(f"{PACKAGE}.{submodule}")


def _register_bare_package() -> None:
    """Put an empty `segment_anything` with the package's own search path into `sys.modules`."""
    spec = find_spec(PACKAGE)
    if spec is None or spec.submodule_search_locations is None:
        raise ImportError("segment-anything is not installed; run: pip install segment-anything")
    package = ModuleType(PACKAGE)
    package.__path__ = list(spec.submodule_search_locations)
    package.__spec__ = spec
    sys.modules[PACKAGE] = package
