"""A toy system: a pixel is lesion where the image is darker than a grey value, which is learnt."""

import json
from pathlib import Path

import torch

from ultrarefiner_monai.bundle.preflight.request import Networks
from ultrarefiner_monai.shipped import BUNDLES
from ultrarefiner_monai.systems import Stage, System

SIZE = 64


class Threshold(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.level = torch.nn.Parameter(torch.tensor(0.2))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return 40 * (self.level - image)


def build(network):
    return Threshold()


def resolve(request, demonstration, substitutions, starts=None):
    return Networks({}, SIZE)


SYSTEM = System(
    name="toy",
    title="Toy",
    reference="none",
    stages=(Stage("threshold", bundle="toy", outputs=("mask",)),),
    quick={"threshold": {"epochs": 1}},
    builder="toy_system:build",
    resolver="toy_system:resolve",
)


def write_bundle(folder: Path) -> None:
    """Phase 1's configurations with another network and optimizer."""
    for source in (BUNDLES / "phase1").rglob("*[!s]"):
        text = source.read_text(encoding="utf-8").replace("network['image_size']", "networks.image_size")
        target = folder / source.relative_to(BUNDLES / "phase1")
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.stem in ("train", "inference"):
            config = json.loads(text)
            for key in {"variant", "image_size", "pretrained", "learning_rate", "optimizers"} & config.keys():
                del config[key]
            config.get("tracker", {}).pop("learning_rate", None)
            config["plan"]["stage"] = "threshold"
            config["network_def"] = {"_target_": "toy_system.Threshold"}
            config["network"] = "$@network_def.to(@device)"
            if source.stem == "train":
                config["optimizer"] = {"_target_": "torch.optim.SGD", "params": "$@network.parameters()", "lr": 0.1}
            text = json.dumps(config).replace("bundle_root('phase1')", f"bundle_root({str(folder)!r})")
        target.write_text(text, encoding="utf-8")
