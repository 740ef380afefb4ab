"""What was run: data, hashes, versions, settings, weights, and how the trainings went."""

from collections.abc import Iterable, Sequence
from typing import Any

from ultrarefiner_monai import __version__
from ultrarefiner_monai.reports.study_files import RunFiles, StudyFiles

DIFFERS = "differs between folds"
CURVES = ("train_loss", "val_coarse_dice", "val_refined_dice", "weight_coarse", "weight_refined")

Facts = dict[str, Any]


def facts(files: StudyFiles) -> Facts:
    """What was run, as plain values."""
    phases = sorted({run.phase for run in files.runs})
    return {
        "dataset": files.study.dataset,
        "manifest": _manifest(files),
        "runs": [_run(run) for run in files.runs],
        "settings": {phase: _common(run.settings for run in files.runs_of(phase)) for phase in phases},
        "architecture": {phase: _common(_architecture(run) for run in files.runs_of(phase)) for phase in phases},
        "starting_weights": _starting_weights(files.runs),
        "versions": _versions(files.runs),
    }


def curves(files: StudyFiles) -> list[Facts]:
    """What was logged of each epoch: `phase`, `fold`, `name`, lists of `steps` and `values`; a repeated epoch counts once."""
    found = []
    for run in files.runs:
        for name in CURVES:
            points = {
                epoch: float(numbers[name])
                for epoch, numbers in run.epochs.items()
                if isinstance(numbers.get(name), int | float)
            }
            if points:
                steps = sorted(points)
                series = {"steps": steps, "values": [points[step] for step in steps]}
                found.append({"phase": run.phase, "fold": run.fold, "name": name, **series})
    return found


def _manifest(files: StudyFiles) -> Facts:
    manifest = files.manifest
    if manifest is None:
        return {}
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
    return {
        "phase": run.phase,
        "fold": run.fold,
        "finished": run.finished,
        "epochs": max(epochs, default=None),
        "best_epoch": run.card.get("epoch"),
        "best": run.card.get("metric") or {},
        "seed": run.config.get("seed"),
        "weights_sha256": run.card.get("sha256"),
        "manifest_sha256": run.card.get("manifest_sha256"),
    }


def _architecture(run: RunFiles) -> Facts:
    """What the model's card says of coarse network and refiner, keys joined by dots."""
    parts = {part: run.card.get(part) for part in ("coarse", "refiner")}
    return {
        f"{part}.{key}": value
        for part, content in parts.items()
        if isinstance(content, dict)
        for key, value in content.items()
    }


def _starting_weights(runs: Sequence[RunFiles]) -> dict[str, list[str]]:
    """Hashes of weights that runs started from and that no run of the study has made, by their parameter's name."""
    own = {run.card.get("sha256") for run in runs}
    found: dict[str, list[str]] = {}
    for run in runs:
        for name, value in run.params.items():
            known = name == "manifest_sha256" or value in own or value in found.get(name, ())
            if name.endswith("_sha256") and not known:
                found.setdefault(name, []).append(value)
    return found


def _versions(runs: Sequence[RunFiles]) -> Facts:
    """Versions of packages; a list where runs differ."""
    reported = _common((_own_versions(run) for run in runs), every=True)
    return {"ultrarefiner_monai (report)": __version__, **reported}


def _own_versions(run: RunFiles) -> Facts:
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
