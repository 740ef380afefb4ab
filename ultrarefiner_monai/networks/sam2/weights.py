"""Published SAM 2 weights: strict loading under the official names; a wrong file is told by its list of tensors."""

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor

from ultrarefiner_monai.networks.sam.weights import differences
from ultrarefiner_monai.networks.sam2.model import Sam2
from ultrarefiner_monai.networks.sam2.official_names import official_state

LISTINGS = {  # `listing` of the published files; SAM 1's with the tables of positions of its published input
    "8c72b410ecae2386": "SAM 2.0 tiny",
    "6d26ae98da64211e": "SAM 2.0 small",
    "2149e8bdd14f969f": "SAM 2.0 base_plus",
    "115eaf8ad046ea22": "SAM 2.0 large",
    "92851900c625bcac": "SAM 2.1 tiny",
    "8f26084b6d65b102": "SAM 2.1 small",
    "e0f9b2a6fc5a507e": "SAM 2.1 base_plus",
    "3cc8e105a872c709": "SAM 2.1 large",
    "bb128e85b063b285": "SAM vit_b",
    "8a3371fa0127d1c2": "SAM vit_l",
    "bb8cf271c47a6f99": "SAM vit_h",
    "8cc946232ed2c778": "SAM lite_medsam",
}


def listing(state: Mapping[str, Tensor]) -> str:
    """Digest of the names and shapes of a checkpoint's tensors: equal for all weights of one network."""
    lines = sorted(f"{name} {','.join(map(str, tensor.shape))}\n" for name, tensor in state.items())
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:16]


def version_of(state: Mapping[str, Tensor]) -> str:
    """SAM 2's version that made an official checkpoint: only 2.1 marks the frames in which an object is hidden."""
    return "2.1" if "no_obj_embed_spatial" in state else "2.0"


def load_official(sam: Sam2, state: Mapping[str, Tensor], path: str) -> None:
    """Write a checkpoint's tensors, named as in the published files, into `sam`; every one must match by name and shape.

    With a network on the meta device, which holds no values, they are compared alone. `path` is for the message.

    Raises:
        ValueError: the tensors are another network's; the message names it where it is a published one.
    """
    own = official_state(sam.network)
    different = differences(state, own)
    if different:
        network = f"SAM {sam.version} {sam.variant}"
        held = LISTINGS.get(listing(state))
        found = (
            f"it holds {held}; choose that, or a file of {network}" if held else f"{different}; choose its own variant"
        )
        raise ValueError(f"{path} does not fit {network}: {found}")
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(state[name])
