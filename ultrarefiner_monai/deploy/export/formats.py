"""A trained model in other files: safetensors, and TorchScript and ONNX, which are compared with the network before they stay."""

import importlib.util
import inspect
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from ultrarefiner_monai.deploy.model_card import MARKDOWN, describe, to_markdown
from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.files import file_sha256, write_json
from ultrarefiner_monai.models.segmenter import Segmenter, load_segmenter
from ultrarefiner_monai.models.weights import read_torch
from ultrarefiner_monai.networks.export_parts import Part

CARD = "model.json"  # name under which an exported file holds the model's card
ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
OPSET = 20  # the first with Gelu as one operator; antialiased Resize came with 18
PARITY = 1e-4  # largest difference of a probability; of an embedding, as a share of its largest value
BATCHES = (1, 3)  # sizes that are compared; the example that the exporters see has two

Runner = Callable[..., Tensor | Sequence[Tensor]]
Writer = Callable[[Part, Path, str], None]
Loader = Callable[[Path], Runner]


def export_torchscript(model: str | Path, out: str | Path, overwrite: bool = False) -> list[Path]:
    """Write `model.ts`, and where SAM refines `encoder.ts` and `decoder.ts`, for `torch.jit.load` on a CPU.

    Args:
        model: `model.pt` with its card beside it.
        out: folder to write; `torchscript.json` and MODEL_CARD.md tell what is in it.
        overwrite: replace files of an earlier export.

    Returns:
        The files written.

    Raises:
        DataError: files are in the way or cannot be written, or a file's predictions differ from the network's.
        CheckpointError: the weights are absent, damaged or of another network than the card's.
    """
    return _export(Path(model), Path(out), "torchscript", ".ts", _write_torchscript, load_torchscript, overwrite)


def export_onnx(model: str | Path, out: str | Path, overwrite: bool = False) -> list[Path]:
    """The same as `export_torchscript` for ONNX: `model.onnx`, ..., of any batch, and `onnx.json`.

    Raises:
        DataError: also where a package of ONNX is not installed.
    """
    if missing := [name for name in ONNX_PACKAGES if importlib.util.find_spec(name) is None]:
        raise DataError(f"export to ONNX needs {', '.join(missing)}; run 'pip install {' '.join(missing)}'")
    return _export(Path(model), Path(out), "onnx", ".onnx", _write_onnx, load_onnx, overwrite)


def export_safetensors(model: str | Path, out: str | Path, overwrite: bool = False) -> list[Path]:
    """Write the tensors of a `model.pt`, unchanged, as `model.safetensors` with their card `model.json` beside it.

    `load_segmenter` reads both files; the card is in the metadata of the tensors' file, too.

    Raises:
        DataError: files are in the way, or `out` holds a `model.pt`, whose card would be replaced.
        CheckpointError: the weights are absent or damaged.
    """
    model, out = Path(model), Path(out)
    card = describe(model)
    if (out / "model.pt").exists():
        raise DataError(f"{out} holds a model.pt, which needs its own {CARD}; name another folder")
    _check_free([out / "model.safetensors", out / CARD], overwrite)
    tensors = {name: tensor.clone().contiguous() for name, tensor in read_torch(model).items()}  # none shares memory
    with _folder_beside(out) as folder:
        weights = folder / "model.safetensors"
        weights.write_bytes(save(tensors, {"format": "pt", CARD: json.dumps(card)}))
        write_json(folder / CARD, {**card, "sha256": file_sha256(weights)}, indent=2)
        return _publish(folder, out, card)


def load_torchscript(path: Path) -> Runner:
    """A function from the tensors that an exported file takes to what it gives, one or several."""
    return torch.jit.load(str(path), map_location="cpu").eval()


def load_onnx(path: Path) -> Runner:
    """The same through ONNX Runtime, with as many threads as torch has."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [node.name for node in session.get_inputs()]

    def run(*inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        values = {name: value.numpy() for name, value in zip(names, inputs, strict=True)}
        found = tuple(map(torch.from_numpy, session.run(None, values)))
        return found if len(found) > 1 else found[0]

    return run


@torch.no_grad()
def difference(part: Part, run: Runner, inputs: tuple[Tensor, ...]) -> float:
    """Largest difference between what `run` and the network make of a batch.

    Of logits it is that of their probabilities, of an embedding a share of its largest absolute value.
    """
    differences = []
    for name, expected, found in zip(
        part.outputs, _several(part.network(*inputs)), _several(run(*inputs)), strict=True
    ):
        if name == "logits":
            differences.append((expected.sigmoid() - found.sigmoid()).abs().max().item())
        else:
            differences.append(((expected - found).abs().max() / expected.abs().max()).item())
    return max(differences)


def _several(result: Tensor | Sequence[Tensor]) -> Sequence[Tensor]:
    return (result,) if isinstance(result, Tensor) else result


def largest_differences(part: Part, run: Runner, samples: tuple[Tensor, ...]) -> dict[str, float]:
    """Largest `difference` over the samples by size of the batch; their number is a multiple of each size."""

    def groups(batch: int) -> Iterator[tuple[Tensor, ...]]:
        return zip(*(sample.split(batch) for sample in samples), strict=True)

    return {str(batch): max(difference(part, run, group) for group in groups(batch)) for batch in BATCHES}


def parts_of(segmenter: Segmenter) -> dict[str, Part]:
    """The networks to export of a model on the CPU, as its system takes it apart."""
    return segmenter.system.function("exporter")(segmenter.network.requires_grad_(False), segmenter.size)


def _export(model: Path, out: Path, kind: str, suffix: str, write: Writer, load: Loader, overwrite: bool) -> list[Path]:
    segmenter = load_segmenter(model, amp=False, device="cpu")
    parts = parts_of(segmenter)
    card = describe(model)
    _check_free([out / f"{name}{suffix}" for name in parts], overwrite)
    with _folder_beside(out) as folder:
        files = {}
        for name, part in parts.items():
            path = folder / f"{name}{suffix}"
            write(part, path, json.dumps(card))
            files[path.name] = _entry(part, path, _parity(part, load(path), path.name))
        index = {"format": kind, "torch": torch.__version__, "image_size": segmenter.size, "files": files, "card": card}
        write_json(folder / f"{kind}.json", index, indent=2)
        return _publish(folder, out, card)


def _write_torchscript(part: Part, path: Path, card: str) -> None:
    with _quiet(), torch.no_grad():
        traced = torch.jit.trace(part.network, _example(part), check_trace=False)
        buffer = BytesIO()  # torch aborts the process where it cannot write a file
        torch.jit.save(traced, buffer, _extra_files={CARD: card})
    path.write_bytes(buffer.getbuffer())


def _write_onnx(part: Part, path: Path, card: str) -> None:
    batch = torch.export.Dim("batch")
    shapes: tuple[Any, ...] = tuple({0: batch} for _ in part.inputs)
    parameters = inspect.signature(part.network.forward).parameters.values()
    if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters):
        shapes = (shapes,)  # one argument for torch, however many they are
    with _quiet(), torch.no_grad():
        program: Any = torch.onnx.export(
            part.network,
            _example(part),
            dynamo=True,
            verbose=False,
            opset_version=OPSET,
            input_names=part.inputs,
            output_names=part.outputs,
            dynamic_shapes=shapes,
        )
    program.model.metadata_props[CARD] = card
    program.save(path)  # networks above 2 GiB, protobuf's limit, leave their weights in a file beside it


def _example(part: Part) -> tuple[Tensor, ...]:
    """Two samples: torch takes sizes 0 and 1 for constants."""
    return tuple(sample[:2] for sample in part.samples)


def _parity(part: Part, run: Runner, name: str) -> dict[str, float]:
    """Largest difference by size of the batch.

    Raises:
        DataError: one is above the limit, or no number.
    """
    found = largest_differences(part, run, part.samples)
    if not all(value <= PARITY for value in found.values()):
        raise DataError(
            f"{name}: expected the network's own predictions within {PARITY}, found differences of {found} by size of "
            "batch; try another version of torch"
        )
    return found


def _entry(part: Part, path: Path, parity: dict[str, float]) -> dict[str, Any]:
    """What the index says of a file: its arguments and result with their shapes, and how it was compared."""
    with torch.no_grad():
        results = _several(part.network(*_example(part)))
    shapes = {name: ["batch", *sample.shape[1:]] for name, sample in zip(part.inputs, part.samples, strict=True)}
    weights = path.with_name(f"{path.name}.data")  # those of an ONNX file above 2 GiB
    return {
        **_size_and_hash(path),
        **({"data": {"file": weights.name, **_size_and_hash(weights)}} if weights.exists() else {}),
        "inputs": shapes,
        "output": {name: ["batch", *result.shape[1:]] for name, result in zip(part.outputs, results, strict=True)},
        "largest_difference": parity,
        "limit": PARITY,
    }


def _size_and_hash(path: Path) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "sha256": file_sha256(path)}


def _publish(folder: Path, out: Path, card: dict[str, Any]) -> list[Path]:
    """Move what is finished from `folder` to `out`, with the card for people."""
    (folder / MARKDOWN).write_text(to_markdown(card), encoding="utf-8")
    return [path.replace(out / path.name) for path in sorted(folder.iterdir())]


def _check_free(paths: list[Path], overwrite: bool) -> None:
    if taken := [path for path in paths if path.exists() and not overwrite]:
        raise DataError(f"{taken[0]} exists; name another folder or allow overwriting")


@contextmanager
def _folder_beside(out: Path) -> Iterator[Path]:
    """A folder inside `out` for what is unfinished; a refusal of the disk is a DataError."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=out, prefix=".export-") as folder:
            yield Path(folder)
    except OSError as error:
        raise DataError(f"cannot write to {out} ({error}); free disk space or name another folder") from None


@contextmanager
def _quiet() -> Iterator[None]:
    """No warnings of the exporters: our checks of shapes are constants of a trace, which is right since S is fixed."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
