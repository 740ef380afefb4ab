"""Breast-ultrasound lesion segmentation: TransUNet, differentiable prompts and Segment Anything as MONAI bundles."""

import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

__version__ = "0.1.0"


def _hand_over() -> None:
    """Give way to the copy of this package that the running bundle has, whichever one Python has found first.

    A configuration imports the package while a workflow of MONAI's runs, which knows the folder of the configuration's files.
    An exported bundle has the package beside that folder. A package may put another one in its place while it is imported.
    """
    frame = sys._getframe().f_back
    while frame is not None:
        folder = getattr(frame.f_locals.get("self"), "__dict__", {}).get("config_root_path")
        if folder is not None and (bundle := Path(folder).resolve().parent).joinpath(__name__, "__init__.py").is_file():
            if bundle != Path(__file__).resolve().parents[1]:
                sys.path.insert(0, str(bundle))
                del sys.modules[__name__]
                import_module(__name__)
            return
        frame = frame.f_back


_hand_over()

from ultrarefiner_monai.lazy import lazily  # noqa: E402 - of the copy that has the place now
from ultrarefiner_monai.texts import guard_logs  # noqa: E402

if TYPE_CHECKING:
    from ultrarefiner_monai.deploy.python import load as load

guard_logs(__name__)
__getattr__ = lazily(__name__, {"load": "deploy.python"})
