"""What was run: data, hashes, versions, settings, weights, and how the trainings went."""

from collections.abc import Iterable, Sequence
from typing import Any, TypedDict

from ultrarefiner_monai import __version__
from ultrarefiner_monai.data.manifests.manifest import Manifest
from ultrarefiner_monai.metrics.scores import outputs_of, scores_of_classes
from ultrarefiner_monai.reports.result_files import ResultFiles, RunFiles

DIFFERS = "differs between folds"

Facts = dict[str, Any]


class Curve(TypedDict):
    """A number that a run has logged, by epoch."""

    phase: str
    fold: int
    name: str
    steps: list[int]
    values: list[float]


def facts(files: ResultFiles) -> Facts:
    """What was run, as plain values."""
    stages = list(dict.fromkeys(run.stage for run in files.runs))
    versions = _common((_versions(run) for run in files.runs), every=True)
    return {
        "dataset": files.cv.dataset,
        "manifest": {} if files.manifest is None else _manifest(files.manifest),
        "runs": [_run(run) for run in files.runs],
        "settings": {stage: _common(run.settings for run in files.runs_of(stage)) for stage in stages},
        "architecture": {stage: _common(map(_architecture, files.runs_of(stage))) for stage in stages},
        "starting_weights": _starting_weights(files.runs),
        "versions": {"ultrarefiner_monai (report)": __version__, **versions},
    }


def curves(files: ResultFiles) -> list[Curve]:
    """Loss, validation Dice of each output and learned weights of the losses of each run; a repeated epoch counts once."""
    found = []
    for run in files.runs:
        logged = dict.fromkeys(name for numbers in run.epochs.values() for name in numbers)
        outputs = outputs_of(name.removeprefix("val_") for name in logged if name.startswith("val_"))
        weights = [name for name in logged if name.startswith("weight_")]
        for name in ("train_loss", *(f"val_{output}_dice" for output in outputs), *weights):
            points = {
                epoch: float(numbers[name])
                for epoch, numbers in sorted(run.epochs.items())
                if isinstance(numbers.get(name), int | float)
            }
            if points:
                of_run = Curve(phase=run.stage, fold=run.fold, name=name, steps=[*points], values=[*points.values()])
                found.append(of_run)
    return found


def _manifest(manifest: Manifest) -> Facts:
    told = ("description", "reference", "licence", "split", "test_fraction", "grouping")
    return {
        "sha256": manifest.sha256,
        "folds": manifest.num_folds,
        "seed": manifest.seed,
        "training": len(manifest.training),
        "test": len(manifest.testing),
        "normal": len(manifest.normal),
        "patients": len({item["patient"] for item in manifest.items()}),
        "excluded": len(manifest.excluded),
        **{key: manifest.header[key] for key in told if key in manifest.header},
    }


def _run(run: RunFiles) -> Facts:
    epochs = [epoch for epoch, numbers in run.epochs.items() if "train_loss" in numbers]
    classes = scores_of_classes(run.epochs.get(run.card.get("epoch", -1), {}))
    return {
        "phase": run.stage,
        "fold": run.fold,
        "finished": run.finished,
        "epochs": max(epochs, default=None),
        "best_epoch": run.card.get("epoch"),
        "best": run.card.get("metric") or {},
        **({"classes": classes} if classes else {}),  # of the best epoch
        "seed": run.config.get("seed"),
        "weights_sha256": run.card.get("sha256"),
        "manifest_sha256": run.card.get("manifest_sha256"),
    }


def _architecture(run: RunFiles) -> Facts:
    """What the model's card says of its network, keys joined by dots."""
    found: Facts = {}
    for part, content in run.card.get("network", {}).items():
        found |= (
            {f"{part}.{key}": value for key, value in content.items()} if isinstance(content, dict) else {part: content}
        )
    return found


def _starting_weights(runs: Sequence[RunFiles]) -> dict[str, list[str]]:
    """Hashes of weights that runs started from and that no run of the cross-validation has made, by their parameter's name."""
    own = {run.card.get("sha256") for run in runs}
    found: dict[str, list[str]] = {}
    for run in runs:
        for name, value in run.params.items():
            known = name == "manifest_sha256" or value in own or value in found.get(name, ())
            if name.endswith("_sha256") and not known:
                found.setdefault(name, []).append(value)
    return found


def _versions(run: RunFiles) -> Facts:
    """Versions of packages that a run names."""
    meta = run.config.get("_meta_")
    meta = meta if isinstance(meta, dict) else {}
    named = {"monai": "monai_version", "torch": "pytorch_version", "numpy": "numpy_version"}
    required = meta.get("required_packages_version")
    return {
        "ultrarefiner_monai (runs)": run.card.get("version"),
        **{package: meta[key] for package, key in named.items() if key in meta},
        **(required if isinstance(required, dict) else {}),
    }


def _common(many: Iterable[Facts], every: bool = False) -> Facts:
    """Values that all agree on; where they differ a word that says so, or (`every`) all of them."""
    values: dict[str, list[Any]] = {}
    for one in many:
        for key, value in one.items():
            if value is not None and value not in values.setdefault(key, []):
                values[key].append(value)
    differing = {key: found if every else DIFFERS for key, found in values.items()}
    return {key: found[0] if len(found) == 1 else differing[key] for key, found in values.items() if found}
