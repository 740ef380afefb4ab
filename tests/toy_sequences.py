"""A toy system that sees sequences: a pixel is lesion where the mean of it and of earlier frames of its sequence is dark.

What an earlier frame adds is its own, weighted by its distance, as in networks whose memories come from a first step.
"""

import json
from pathlib import Path
from typing import NamedTuple

import torch
import toy_system

from ultrarefiner_monai.bundle.preflight.request import Networks
from ultrarefiner_monai.systems import Stage, System
from ultrarefiner_monai.systems.sequence_keys import KEYS

SIZE = toy_system.SIZE
WINDOW = 6


class Parts(NamedTuple):
    outputs: dict[str, torch.Tensor]


class Remembering(torch.nn.Module):
    def __init__(self, window: int = WINDOW) -> None:
        super().__init__()
        self.window = window
        self.level = torch.nn.Parameter(torch.tensor(0.2))
        self.memory = torch.nn.Parameter(torch.full((WINDOW,), 0.1))
        self.most = 0  # frames at once, for tests

    def forward(self, image, sequence=None, position=None, return_parts=False):
        count = image.shape[0]
        self.most = max(self.most, count)
        if sequence is None:
            sequence, position = torch.arange(count, device=image.device), image.new_zeros(count, dtype=torch.int64)
        distance = position[:, None] - position[None]
        near = (sequence[:, None] == sequence[None]) & (distance > 0) & (distance <= self.window)
        weights = torch.where(near, self.memory[(distance - 1).clamp(0, WINDOW - 1)], 0.0) + torch.eye(count).to(image)
        weights = weights / weights.sum(1, keepdim=True)
        logits = 40 * (self.level - torch.einsum("nm,mchw->nchw", weights.float(), image.float()))
        return Parts({"mask": logits}) if return_parts else logits


def build(network):
    return Remembering()


def resolve(request, demonstration, substitutions, starts=None):
    return Networks(dict(request.own), SIZE)


SYSTEM = System(
    name="toy_sequences",
    title="Toy of sequences",
    reference="none",
    stages=(
        Stage("remembering", bundle="toy_sequences", outputs=("mask",), completed=tuple(key.name for key in KEYS)),
    ),
    quick={"remembering": {"epochs": 1}},
    builder="toy_sequences:build",
    resolver="toy_sequences:resolve",
    keys=KEYS,
)
OWN = {"sequence": "patient", "frames": 2, "normals": "in_sequence", "window": WINDOW}
DEAL = {"process": "$torch.distributed.get_rank()", "processes": "$torch.distributed.get_world_size()"}
BUNDLE = "ultrarefiner_monai.bundle"


def sampler(items: str, frames: str | None = None) -> dict:
    return {"_target_": f"{BUNDLE}.SequenceSampler", "items": items, "batch_size": "@batch_size", "frames": frames}


def write_bundle(folder: Path) -> None:
    """The toy's configurations with sampler, prepare_batch and inferer for sequences."""
    toy_system.write_bundle(folder)
    for name in ("train", "inference", "multi_gpu_train"):
        path = folder / "configs" / f"{name}.json"
        config = json.loads(path.read_text(encoding="utf-8"))
        if name == "multi_gpu_train":
            config = {key: value for key, value in config.items() if "sampler" not in key and "shuffle" not in key}
            config |= {f"{part}#sampler#{key}": value for part in ("train", "validate") for key, value in DEAL.items()}
            config["initialize"] = [line for line in config["initialize"] if "shuffle_each_epoch" not in line]
            config["network"] = "$bundle.distributed(@network_def.to(@device))"
            path.write_text(json.dumps(config), encoding="utf-8")
            continue
        config |= OWN
        config["plan"]["stage"] = "remembering"
        config["network_def"] = {"_target_": "toy_sequences.Remembering", "window": "@window"}
        inferer = {"_target_": f"{BUNDLE}.SequenceInferer", "window": "@window", "frames": "@frames", "amp": "@amp"}
        prepare = {"_target_": f"{BUNDLE}.PrepareSequences"}
        if name == "train":
            config["optimizer"]["lr"] = 1e-4
            config["train"] |= {"sampler": sampler("$@train#dataset.data", "@frames"), "prepare_batch": prepare}
            config["validate"] |= {"sampler": sampler("$@validate#dataset.data"), "inferer": inferer}
            config["validate"]["evaluator"]["prepare_batch"] = "@train#prepare_batch"
            loaders = [(config["train"]["dataloader"], "@train"), (config["validate"]["dataloader"], "@validate")]
            config["train"]["dataset"]["data"] = "$@plan.training_items()"
            config["train"]["trainer"]["prepare_batch"] = "@train#prepare_batch"
        else:
            config |= {"sampler": sampler("$@dataset.data"), "inferer": inferer, "prepare_batch": prepare}
            config["evaluator"]["prepare_batch"] = "@prepare_batch"
            loaders = [(config["dataloader"], "@")]
        for loader, part in loaders:
            for key in ("batch_size", "shuffle", "drop_last"):
                loader.pop(key, None)
            loader["batch_sampler"] = f"{part}#sampler" if part != "@" else "@sampler"
        path.write_text(json.dumps(config), encoding="utf-8")
