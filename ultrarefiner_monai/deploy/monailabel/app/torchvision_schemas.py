"""Let PyPI's torchvision be imported beside a CPU build of torch; the .pth file in site-packages imports this at start.

That torchvision is built for CUDA: its library does not load, and its import then fails for want of the schemas of two
operations, which nothing here calls. Where torch and torchvision come from one index this does nothing.
"""

from importlib.metadata import PackageNotFoundError, version

SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


def _builds_differ() -> bool:
    try:
        return version("torch").endswith("+cpu") and not version("torchvision").endswith("+cpu")
    except PackageNotFoundError:
        return False


if _builds_differ():
    from torch.library import Library

    library = Library("torchvision", "DEF")
    for operation in ("nms", "qnms"):
        library.define(operation + SCHEMA)
