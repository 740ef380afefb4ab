"""Verbs that train: the demonstration and the cross-validation."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ultrarefiner_monai.data.errors import DataError

PHASES = ("phase1", "phase2", "phase3")


def quickstart(out: str = "runs/quickstart") -> None:
    """Run all three phases and the test evaluation on the embedded synthetic data.

    Args:
        out: folder of the results.
    """
    from ultrarefiner_monai.networks import lite_medsam_weights

    try:
        lite_medsam_weights()
        variant = "lite_medsam"
    except FileNotFoundError as error:
        print(f"{error}\nuntil then the demonstration uses an untrained SAM, which can refine nothing")
        variant = "tiny"
    _study("PHANTOM", None, out, folds=[0], settings=_quick_settings(variant), shared={})
    print(f"pictures: {Path(out) / 'phase3' / 'fold0' / 'panels'}")
    print("the phantom is synthetic: these figures say nothing about patients")


def _quick_settings(variant: str) -> dict[str, dict[str, Any]]:
    """Settings by phase for two cores without a GPU: about five minutes from images to the test table."""
    small = {"batch_size": 8, "epochs": 2}
    return {
        "phase1": {**small, "variant": "tiny", "epochs": 12, "val_interval": 12},
        "phase2": {**small, "variant": variant},
        "phase3": {**small, "variant": variant, "coarse_variant": "tiny", "coarse_rate": 2e-5, "refiner_rate": 2e-5},
    }


def cv(
    dataset: str,
    data_root: str,
    out: str = "",
    folds: Sequence[int] | int | None = None,
    phases: Sequence[str] | str = PHASES,
    only_folds: Sequence[int] | int | None = None,
    settings: dict[str, dict[str, Any]] | str = "",
    **shared: Any,
) -> None:
    """Cross-validate a data set through all phases; run it again to go on where it stopped.

    Args:
        dataset: name of the data set, such as BUSBRA.
        data_root: folder of its release.
        out: folder of the results; runs/<dataset> by default.
        folds: folds that phases 2 and 3 train; all by default.
        phases: phases to run.
        only_folds: leave the other folds of every phase to another process that shares the study.
        settings: configuration keys by phase, as a dictionary or a JSON file: {"phase1": {"epochs": 50}, ...}.
        shared: configuration keys of every phase, such as --allow_missing true or --seed 1.
    """
    by_phase = _read_settings(settings) if isinstance(settings, str) and settings else settings
    _study(
        dataset,
        str(data_root),
        out or f"runs/{dataset}",
        folds=_listed(folds),
        settings=by_phase or {},
        shared=shared,
        phases=(phases,) if isinstance(phases, str) else tuple(phases),
        only_folds=_listed(only_folds),
    )


def _read_settings(path: str) -> dict[str, dict[str, Any]]:
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"settings {path}: {error}; expected a JSON file with the keys {', '.join(PHASES)}") from error
    if not isinstance(found, dict) or not all(isinstance(keys, dict) for keys in found.values()):
        raise DataError(f"settings {path}: expected an object of keys for each of {', '.join(PHASES)}")
    return found


def _listed(value: Sequence[int] | int | None) -> list[int] | None:
    return None if value is None else [value] if isinstance(value, int) else list(value)


def _study(
    dataset: str,
    data_root: str | None,
    out: str,
    folds: list[int] | None,
    settings: dict[str, dict[str, Any]],
    shared: dict[str, Any],
    phases: Sequence[str] = PHASES,
    only_folds: list[int] | None = None,
) -> None:
    from ultrarefiner_monai.bundle.study import Study
    from ultrarefiner_monai.reports.cross_validation import conduct

    study = Study(dataset, data_root, Path(out), folds, shared, settings)
    table = conduct(study, phases, only_folds)
    if table:
        print(table)
