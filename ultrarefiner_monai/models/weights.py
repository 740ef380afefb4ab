"""Reading and writing weights: atomic, checked, and never executing what a file says."""

import json
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn

from ultrarefiner_monai.errors import CodeError, DataError, one_line
from ultrarefiner_monai.files import atomic_write, check_claims, file_sha256, json_text, read_json
from ultrarefiner_monai.models.card_schema import check_card
from ultrarefiner_monai.models.old_cards import converted
from ultrarefiner_monai.models.seal import Sealed, has_broken_seal

MISSING = object()
# Cards of older trainings lack these; a network that differs in them refuses the weights by itself.
LATER = frozenset({"network.refiner.lora_rank", "seed"})


class CheckpointError(DataError):
    """A file of weights that cannot be used or written; the message is one line with the path and the next step."""


def save_model(network: nn.Module, path: str | Path, card: Mapping[str, Any]) -> Path:
    """Write `network`'s flat state dict to `path` (model.pt) and its card, with a SHA-256, beside it (model.json).

    Args:
        network: a module, bare or wrapped for distributed training or `torch.compile`.
        path: file to write; the card takes the same name with the suffix `.json`.
        card: plain values that decide a prediction or tell where the weights come from.

    Raises:
        CheckpointError: the disk refuses, or a weight is not finite; whatever was there before is intact.
    """
    path = Path(path)
    state = bare(network).state_dict()
    if name := not_finite(state):
        raise CheckpointError(f"{path}: not written, since {name} is not finite; lower the learning rate")
    with atomic_write(path.with_suffix(".json")) as file:
        file.write(
            _card_text(card, "0" * 64)
        )  # its space comes first: new weights beside an old card would be of no use
        file.flush()
        write_torch(state, path)
        file.seek(0)
        file.write(_card_text(card, file_sha256(path)))
    return path


def _card_text(card: Mapping[str, Any], sha256: str) -> bytes:
    return json_text({**card, "sha256": sha256}, indent=2).encode()


def load_model(network: nn.Module, path: str | Path, expect: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Load a model.pt strictly into `network` and return its card, in the present form ({} where there is none).

    Args:
        network: the module to fill, on any device.
        path: a flat state dict as `save_model` writes it.
        expect: settings the card must hold with these very values; None compares nothing.

    Raises:
        CheckpointError: absent, damaged, not a plain state dict, other settings, weights of another architecture, or NaN.
    """
    path = Path(path)
    card = _card_of(path)
    if expect is not None and path.is_file():  # an absent model has no card to find fault with
        compare_card(path, card, expect)
    state = read_torch(path)
    if name := not_finite(state):
        raise CheckpointError(f"{path}: {name} is not finite, so that it predicts nothing; train it again")
    load_strictly(bare(network), state, path)
    return card


def compare_card(path: Path, card: Mapping[str, Any], expect: Mapping[str, Any]) -> None:
    """Raise CheckpointError on the first key of `expect` (nested: dotted) that the card lacks or holds otherwise.

    A card of an older training is converted before.
    """
    found = dict(_flatten(json.loads(json.dumps(converted(card)))))
    for key, expected in _flatten(json.loads(json.dumps(expect))):
        value = found.get(key, MISSING)
        if value is MISSING and key in LATER:
            continue
        if value is MISSING:
            raise CheckpointError(
                f"{path}: its card has no {key!r} (expected {expected!r}); use a model saved by this stage"
            )
        if value != expected:
            raise CheckpointError(
                f"{path}: made with {key} = {value!r}, expected {expected!r}; "
                "change the setting or use another checkpoint"
            )


def load_strictly(target: Any, state: Mapping[str, Any], path: Path) -> None:
    """`target.load_state_dict(state)`, with any disagreement as a one-line CheckpointError."""
    try:
        target.load_state_dict(state)
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        kind = type(target).__name__
        raise CheckpointError(f"{path} does not fit this {kind}: {one_line(error)}; check variant and sizes") from error


def write_torch(value: Any, path: Path) -> None:
    """`torch.save`, atomically; a refusal of the disk becomes a CheckpointError that says how much space is needed."""
    try:
        with atomic_write(path) as file:
            sealed = Sealed(file)
            torch.save(value, cast(IO[bytes], sealed))
            sealed.seal()
    except (OSError, RuntimeError) as error:
        need = sum(tensor.nbytes for _, tensor in _tensors(value)) / 2**20
        raise CheckpointError(
            f"cannot write {path} ({need:.1f} MiB needed): {one_line(error)}; "
            "free disk space or choose another output_dir (what was saved before is intact)"
        ) from error


def read_torch(path: Path) -> Any:
    """`torch.load` of plain data onto the CPU, every byte checked.

    torch does not verify the CRC-32 that its zip files carry, so a flipped bit would load in silence: zipfile does it, and a
    file's seal covers what has no CRC-32.
    A `.safetensors` file, which carries none, is as sure as its card's SHA-256.

    Raises:
        CheckpointError: absent, truncated, altered, or holding anything but tensors and plain values.
    """
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist; train the stage that writes it or correct the path")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        check_claims(path)
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is None and has_broken_seal(path):
            raise zipfile.BadZipFile("its SHA-256 differs from the one at its end")
        if damaged is not None:
            raise zipfile.BadZipFile(f"checksum of {damaged} differs")
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file may fail in any way at all
        raise CheckpointError(
            f"{path} is damaged or no plain checkpoint: {one_line(error)}; restore or retrain it"
        ) from error


def plain(value: Any) -> Any:
    """The same value without NumPy types, which `weights_only=True` refuses."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)([plain(item) for item in value])
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value)
    return value


def bare(network: nn.Module) -> nn.Module:
    """The module inside DistributedDataParallel and `torch.compile` wrappers, whose names would prefix every key."""
    while True:
        inner = getattr(network, "_orig_mod", None)
        if isinstance(network, nn.parallel.DistributedDataParallel | nn.DataParallel):
            inner = network.module
        if inner is None:
            return network
        network = inner


def _card_of(path: Path) -> dict[str, Any]:
    card_path = path.with_suffix(".json")
    if not path.is_file() or not card_path.is_file():
        return {}
    try:
        card = read_json(card_path, dict, f"restore it together with {path.name}")
    except CodeError:
        raise
    except DataError as error:
        raise CheckpointError(str(error)) from None
    if card.get("sha256") != file_sha256(path):
        raise CheckpointError(
            f"{path} is not the file its card {card_path.name} describes (SHA-256); restore both or resume"
        )
    check_card(card_path, card := converted(card))
    return card


def _flatten(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _flatten(item, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, value


def not_finite(value: Any) -> str:
    """Dotted name of the first tensor in nested plain values that holds NaN or infinity; empty where there is none."""
    named = [(name, tensor) for name, tensor in _tensors(value) if tensor.is_floating_point()]
    if not named:
        return ""
    finite = torch.stack([tensor.isfinite().all().cpu() for _, tensor in named])  # most are on one device
    return "" if finite.all() else named[int(finite.int().argmin())][0]


def _tensors(value: Any, prefix: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """Every tensor of nested plain values, with its dotted name."""
    if isinstance(value, torch.Tensor):
        yield prefix, value
    elif isinstance(value, Mapping | list | tuple):
        pairs = value.items() if isinstance(value, Mapping) else enumerate(value)
        for key, item in pairs:
            yield from _tensors(item, f"{prefix}.{key}" if prefix else str(key))
