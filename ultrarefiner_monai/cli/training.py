"""Verbs that train: the demonstration and the cross-validation."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from ultrarefiner_monai.cli.command_line import UsageError
from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.files import read_json
from ultrarefiner_monai.systems import DEFAULT, System, find_system
from ultrarefiner_monai.systems.keys import stage_values


def quickstart(out: str = "runs/quickstart", system: str = DEFAULT) -> None:
    """Run all stages and the test evaluation on the embedded synthetic data.

    Args:
        out: folder of the results.
        system: the method, see `ultrarefiner systems`.
    """
    method = find_system(system)
    settings = {stage: dict(keys) for stage, keys in method.quick.items()}
    for found in method.find_weights().values():
        if isinstance(found, str):
            print(f"{found}\nuntil then the demonstration uses an untrained SAM, which knows nothing of images")
            for keys in settings.values():
                keys |= {key: "tiny" for key, value in keys.items() if value == "lite_medsam"}
    _conduct(method, {"PHANTOM": Path(out)}, None, folds=[0], settings=settings, shared={})
    print(f"pictures: {Path(out) / method.stages[-1].name / 'fold0' / 'panels'}")
    print("the phantom is synthetic: these figures say nothing about patients")


def cv(
    dataset: Sequence[str],
    data_root: str,
    out: str | None = None,
    folds: Sequence[int] | None = None,
    phases: Sequence[str] | None = None,
    only_folds: Sequence[int] | None = None,
    settings: Mapping[str, Mapping[str, Any]] | str | None = None,
    engine: Literal["local", "ray"] = "local",
    address: str | None = None,
    num_cpus: int | None = None,
    system: str = DEFAULT,
    **shared: Any,
) -> None:
    """Cross-validate a data set, or several, through all stages; run it again to go on where it stopped.

    Args:
        dataset: name of the data set, such as BUSBRA; of several, separated by commas, each has its own.
        data_root: folder of its release; of several data sets the folder that holds them all.
        out: folder of the results, runs/<dataset> by default; of several data sets each has its folder in it.
        folds: folds to train; all by default. A stage whose maps another one learns from trains all.
        phases: stages to run; all by default.
        only_folds: leave the other folds of every stage to another process that shares the folder.
        settings: configuration keys by stage, as a dictionary or a JSON file: {"phase1": {"epochs": 50}, ...}.
        engine: "local" runs one fold after the other, "ray" many at a time on a Ray cluster (docs/how-to/cluster.md).
        address: of the Ray cluster to join, host:port or auto; by default one of this machine is started.
        num_cpus: cores a fold gets of the Ray cluster; 1 by default.
        system: the method, see `ultrarefiner systems`.
        shared: configuration keys, each for all stages that have it, such as --allow_missing true, --seed 1 or --sam_variant
            lite_medsam (docs/reference/keys.md).
    """
    _conduct(
        find_system(system),
        _folders(list(dict.fromkeys(dataset)), out),
        data_root,
        folds=folds,
        settings=_read_settings(settings) if isinstance(settings, str) else settings or {},
        shared=shared,
        stages=phases,
        only_folds=only_folds,
        engine={"name": engine, "address": address, "num_cpus": num_cpus},
    )


def _folders(names: list[str], out: str | None) -> dict[str, Path]:
    """Where each data set's results go."""
    if len(names) == 1:
        return {names[0]: Path(out or f"runs/{names[0]}")}
    return {name: Path(out or "runs") / name for name in names}


def _read_settings(path: str) -> dict[str, dict[str, Any]]:
    return read_json(path, dict, '--settings names a file such as {"phase1": {"epochs": 50}}')


def _conduct(
    system: System,
    folders: dict[str, Path],
    data_root: str | None,
    folds: Sequence[int] | None,
    settings: Mapping[str, Mapping[str, Any]],
    shared: dict[str, Any],
    stages: Sequence[str] | None = None,
    only_folds: Sequence[int] | None = None,
    engine: dict[str, Any] | None = None,
) -> None:
    """Cross-validate each data set in its folder and print its table."""
    try:
        stage_values(system, shared, settings)  # a mistake is told in a moment, before torch is loaded
    except DataError as error:
        raise UsageError(str(error)) from None
    names = list(stages or (stage.name for stage in system.stages))
    if sys.stderr.isatty():
        print("loading PyTorch and MONAI takes some seconds", file=sys.stderr)
    from ultrarefiner_monai.cross_validation.conduct import conduct, make_engine
    from ultrarefiner_monai.cross_validation.tasks import CrossValidation
    from ultrarefiner_monai.cross_validation.terminal import log_to_terminal, short_table

    log_to_terminal()
    chosen = make_engine(**(engine or {"name": "local"}))
    cvs = [
        CrossValidation(name, data_root, out, folds, shared, settings, system=system) for name, out in folders.items()
    ]
    for cv, lines in zip(cvs, conduct(cvs, names, only_folds, chosen), strict=True):
        if lines:
            store = f" --tracking_uri {uri}" if (uri := shared.get("tracking_uri")) else ""
            print(f"{cv.dataset}\n{short_table(lines)}\nall scores: {cv.out}/summary.md and {cv.out}/per_image.csv")
            print(f"compare the trainings: ultrarefiner ui {cv.dataset}{store}")
            print(f"a report: ultrarefiner report {cv.out}")
