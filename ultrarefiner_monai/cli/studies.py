"""Verbs that train: the demonstration and the cross-validation."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ultrarefiner_monai.data.datasets import PHASES
from ultrarefiner_monai.errors import DataError


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
    _conduct({"PHANTOM": Path(out)}, None, folds=[0], settings=_quick_settings(variant), shared={})
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
    dataset: str | Sequence[str],
    data_root: str,
    out: str = "",
    folds: Sequence[int] | int | None = None,
    phases: Sequence[str] | str = PHASES,
    only_folds: Sequence[int] | int | None = None,
    settings: dict[str, dict[str, Any]] | str = "",
    engine: str = "local",
    address: str | None = None,
    num_cpus: int | None = None,
    **shared: Any,
) -> None:
    """Cross-validate a data set, or several, through all phases; run it again to go on where it stopped.

    Args:
        dataset: name of the data set, such as BUSBRA; of several, separated by commas, each is a study of its own.
        data_root: folder of its release; of several data sets the folder that holds them all.
        out: folder of the results, runs/<dataset> by default; of several data sets each has its folder in it.
        folds: folds that phases 2 and 3 train; all by default.
        phases: phases to run.
        only_folds: leave the other folds of every phase to another process that shares the study.
        settings: configuration keys by phase, as a dictionary or a JSON file: {"phase1": {"epochs": 50}, ...}.
        engine: "local" runs one fold after the other, "ray" many at a time on a Ray cluster (docs/how-to/cluster.md).
        address: of the Ray cluster to join, host:port or auto; by default one of this machine is started.
        num_cpus: cores a fold gets of the Ray cluster; 1 by default.
        shared: configuration keys of every phase, such as --allow_missing true or --seed 1.
    """
    by_phase = _read_settings(settings) if isinstance(settings, str) and settings else settings
    _conduct(
        _folders(_names(dataset), out),
        str(data_root),
        folds=_listed(folds),
        settings=by_phase or {},
        shared=shared,
        phases=(phases,) if isinstance(phases, str) else tuple(phases),
        only_folds=_listed(only_folds),
        engine={"name": engine, "address": address, "num_cpus": num_cpus},
    )


def _names(dataset: str | Sequence[str]) -> list[str]:
    """Names of data sets, as a sequence or as text: BUSI,BUSBRA or [BUSI,BUSBRA]."""
    names = dataset.strip("[]").split(",") if isinstance(dataset, str) else dataset
    return list(dict.fromkeys(str(name).strip() for name in names))


def _folders(names: list[str], out: str) -> dict[str, Path]:
    """Where each data set's study goes."""
    if len(names) == 1:
        return {names[0]: Path(out or f"runs/{names[0]}")}
    return {name: Path(out or "runs") / name for name in names}


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


def _conduct(
    folders: dict[str, Path],
    data_root: str | None,
    folds: list[int] | None,
    settings: dict[str, dict[str, Any]],
    shared: dict[str, Any],
    phases: Sequence[str] = PHASES,
    only_folds: list[int] | None = None,
    engine: dict[str, Any] | None = None,
) -> None:
    """Conduct the study of each data set in its folder and print its table."""
    from ultrarefiner_monai.cross_validation.conduct import conduct, make_engine
    from ultrarefiner_monai.cross_validation.tasks import Study

    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("ultrarefiner_monai").setLevel(logging.INFO)
    chosen = make_engine(**(engine or {"name": "local"}))
    studies = [Study(name, data_root, out, folds, shared, settings) for name, out in folders.items()]
    for study, table in zip(studies, conduct(studies, phases, only_folds, chosen), strict=True):
        if table:
            print(f"{study.dataset}\n{table}")
