"""The table of configuration keys: those of all systems here, a system's own in `System.keys`.

Which of them a stage has, and with what default, its configurations say; the table says what they mean and can be.
`python -m ultrarefiner_monai.systems.keys > docs/reference/keys.md` writes the page of them.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ultrarefiner_monai.errors import SHOWN_PROBLEMS, DataError, did_you_mean, shown
from ultrarefiner_monai.files import read_json
from ultrarefiner_monai.shipped import shipped
from ultrarefiner_monai.systems import SYSTEMS, find_stage, find_system
from ultrarefiner_monai.systems.key import Key
from ultrarefiner_monai.systems.system import Stage, System

COMMON = (
    Key("bundle_root", "path", "the bundle's folder"),
    Key(
        "dataset",
        "text",
        "BUSI, BUSBRA, BUS, BUS_UC, BUS_UCLM, UDIAT, PHANTOM, BTCV, AMOS, NIFTI, a name of your own, or several: BUSI+BUSBRA",
    ),
    Key("dataset_name", "text", "as `dataset`, which is a component there"),
    Key("data_root", "path", "folder of the release, or of all of several; null: `data/<dataset>`, for several `data`"),
    Key("manifest", "path", "manifest file; null: `data_manifests/<dataset>.json`"),
    Key("allow_missing", "truth value", "accept an incomplete release"),
    Key(
        "skip_bad", "truth value", "leave out items with faulty files; they are named, counted, and in `excluded.json`"
    ),
    Key("normal_share", "number", "share of normals (no lesion) among the training images", least=0, below=1),
    Key("strict", "truth value", "refuse substitutions; implied by a data root or a checkpoint"),
    Key("fold", "whole number", "validation fold", least=0),
    Key("epochs", "whole number", "passes over the training images", above=0),
    Key("batch_size", "whole number", "images of a step, of each process", above=0),
    Key(
        "micro_batch",
        "whole number",
        "images of a step in memory at once; null: all, or [what the memory holds](../how-to/train.md#too-little-memory)",
        above=0,
    ),
    Key("learning_rate", "number", "rate at the peak of the schedule", above=0),
    Key("val_interval", "whole number", "epochs from one validation to the next; divides `epochs`", above=0),
    Key("panel_interval", "whole number", "epochs from one set of panels to the next; the last has one", above=0),
    Key("seed", "whole number", "decides every random number", least=0, most=2**32 - 1),  # NumPy takes 32 bits
    Key("amp", "truth value", "bf16 autocast, on GPU and CPU"),
    Key(
        "non_finite",
        "choice",
        "what becomes of a batch whose loss, input or gradient is not finite: the run stops, or the batch is left out",
        choices=("stop", "skip"),
    ),
    Key("workers", "whole number", "processes that load images, beside the main one", least=0),
    Key(
        "islands",
        "number",
        "share of the foremost part's evidence below which a part of a picture's mask is left out "
        "([why](../results/refinement.md#islands)); 0: all stay; null: as the model's card says",
        least=0,
        most=1,
    ),
    Key(
        "weight_average",
        "number",
        "decay of the moving average of the weights over the steps, which is what is validated and saved; 0: none",
        least=0,
        below=1,
    ),
    Key(
        "cache_rate",
        "number",
        "share of the images that is kept in memory; null: all up to 512 pixels, none above",
        least=0,
        most=1,
    ),
    Key("output_dir", "path", "where the run writes; null: `models/<dataset>/fold<k>` in the bundle"),
    Key("resume", "truth value", "go on from the last checkpoint"),
    Key(
        "checkpoint_interval",
        "whole number",
        "steps from one checkpoint to the next within an epoch, for `resume` after a kill; null: after each epoch",
        above=0,
    ),
    Key(
        "overwrite", "truth value", "replace what an earlier run has left: a training, scores or maps of another model"
    ),
    Key("tracking_uri", "text", "MLflow store; null: `MLFLOW_TRACKING_URI`, or `mlruns.db` of the project"),
    Key("parent_run", "text", "MLflow run that this one belongs to"),
    Key("log_model", "truth value", "put the trained model into MLflow when the training ends"),
    Key("mode", "choice", "set by `evaluate.json`", choices=("train", "evaluate")),
    Key(
        "split",
        "choice",
        "images to evaluate (`evaluate.json`: test) or predict; "
        "[normal and external](../how-to/evaluate.md) not in every stage",
        choices=("train", "val", "test", "normal", "external"),
    ),
    Key("checkpoint", "file", "the trained model; null: `model.pt` in `output_dir`"),
    Key("images", "path", "an image or a folder of images, to predict in place of a data set"),
    Key("predictions_dir", "path", "where the maps, or the masks of `images`, go; null: `predictions` in `output_dir`"),
    Key("device", "device", "the first GPU, else the CPU; in a training on several GPUs each process's own"),
)

PROSE = """# Configuration keys

At the top of a stage's `train.json`; `--key value` on the command line overrides them. `evaluate.json` lies on top of
`train.json`, and `inference.json` has those of the keys that a prediction needs. Every other key of these files is a component
(`plan`, `network_def`, `optimizer`, ...), of which single parts can be set: `--optimizer#weight_decay 0.05`.

All keys are checked before a run does anything. `true`, `false`, `yes` and `no` are read in any case; a whole number has no
decimal point; a value whose default is null may be null (`None` on the command line). An expression of MONAI (`$...`, `@...`)
is checked once it has its value.

This page is written by `python -m ultrarefiner_monai.systems.keys > docs/reference/keys.md`.
"""
SHARED = "`ultrarefiner cv` gives a key to all stages that have it, and these to the stages named:"


def configuration(stage: Stage, *names: str, folder: Path | None = None) -> dict[str, Any]:
    """Configuration files of a stage laid over each other, later ones on top; those that it does not have count nothing.

    Args:
        stage: whose bundle.
        names: without `.json`; by default those that train the stage.
        folder: where they are; by default in the bundle that comes with the package.
    """
    folder = folder or shipped("bundles") / stage.bundle / "configs"
    files = [folder / f"{name}.json" for name in names or stage.configs]
    contents = [read_json(file, dict, "name a whole bundle", code=True) for file in files if file.is_file()]
    return {name: value for content in contents for name, value in content.items()}


def keys_of(stage: str, own: Mapping[str, Any]) -> dict[str, Key]:
    """The keys that hold one value in the configuration `own` of a stage; what else it holds are components."""
    table = keys_by_name(find_stage(stage)[0], stage)
    return {name: table[name] for name, value in own.items() if name in table and not isinstance(value, dict)}


def keys_by_name(system: System, stage: str) -> dict[str, Key]:
    """All keys that can be a stage's, by their names."""
    return {key.name: key for key in (*COMMON, *system.keys) if not key.stages or stage in key.stages}


def complaints(stage: str, values: Mapping[str, Any], own: Mapping[str, Any] | None = None) -> list[str]:
    """A line on every key that a stage does not have and on every value that its key cannot have.

    Args:
        stage: its name.
        values: as a user gives them. Expressions of MONAI ("$...", "@...") pass: only a running configuration knows theirs.
        own: the stage's configuration; by default the one that trains it.
    """
    return _checked(stage, values, own)[1]


def read(stage: str, values: Mapping[str, Any], own: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The values as they are meant (`Key.read`), for the arguments of `complaints`.

    Raises:
        DataError: all complaints in one line.
    """
    found, wrong = _checked(stage, values, own)
    if wrong:
        raise DataError(shown(wrong, SHOWN_PROBLEMS, "; "))
    return found


def read_leniently(stage: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values as they are meant, those that cannot be read as they are: such as an earlier version has left them."""
    return _checked(stage, values)[0]


def is_expression(value: Any) -> bool:
    """Whether MONAI puts something else in the value's place."""
    return isinstance(value, str) and value.startswith(("$", "@", "%"))


def _checked(
    stage: str, values: Mapping[str, Any], own: Mapping[str, Any] | None = None
) -> tuple[dict[str, Any], list[str]]:
    """The values as they are meant, those that can be read, and what is wrong with the others."""
    own = configuration(find_stage(stage)[1]) if own is None else own
    keys, found, wrong = keys_of(stage, own), dict(values), []
    for name, value in values.items():
        if name not in own:
            wrong.append(f"unknown configuration key '{name}': {did_you_mean(name, keys)}")
        elif is_expression(value) or (value is None and own[name] is None):
            continue
        elif name in keys:
            try:
                found[name] = keys[name].read(value)
            except DataError as error:
                wrong.append(str(error))
        elif (isinstance(own[name], dict | list) or is_expression(own[name])) and not isinstance(value, dict | list):
            hint = f"; did you mean '{name}_name'?" if f"{name}_name" in own else ""
            wrong.append(f"{name}: a component of this configuration, found {value!r}{hint}")
    return found, wrong


def stage_values(
    system: System,
    shared: Mapping[str, Any],
    settings: Mapping[str, Mapping[str, Any]],
    taken: Mapping[str, str] | None = None,
) -> dict[str, dict[str, Any]]:
    """The keys that each stage of a cross-validation is given, as they are meant.

    Args:
        system: its system.
        shared: keys for all stages: each goes to those that have it, one of `System.shared_keys` to those named there.
        settings: further keys by stage, which win.
        taken: keys that the cross-validation sets itself, and what to use in their place; those that lead from one stage
            to another are known.

    Raises:
        DataError: all complaints in one line.
    """
    own = {stage.name: configuration(stage) for stage in system.stages}
    links = [key for stage in system.stages for key in (*stage.starts, *stage.feeds)]
    taken = dict.fromkeys(links, "nothing: it is the cross-validation's own") | dict(taken or {})
    meant = {key: targets for key, targets in _shared_keys(system, own).items() if key not in taken}
    values: dict[str, dict[str, Any]] = {stage: {} for stage in own}
    wrong = [f"unknown stage '{stage}': {did_you_mean(stage, own)}" for stage in settings if stage not in own]
    wrong += [
        f"{stage}: expected an object of keys, found {keys!r}"
        for stage, keys in settings.items()
        if not isinstance(keys, Mapping)
    ]
    settings = {stage: keys for stage, keys in settings.items() if isinstance(keys, Mapping)}
    given = [key for keys in (shared, *settings.values()) for key in keys]
    wrong += [f"'{key}' is set by the cross-validation; use {taken[key]}" for key in given if key in taken]
    wrong += [_unknown_shared(key, system, meant) for key in shared if key not in {**meant, **taken}]
    for key, value in shared.items():
        for stage, target in meant.get(key, {}).items():
            found, problems = _checked(stage, {target: value}, own[stage])
            values[stage] |= found
            wrong += [f"{key}{line.removeprefix(target)}" for line in problems]
    for stage in own:
        free = {key: value for key, value in settings.get(stage, {}).items() if key not in taken}
        found, problems = _checked(stage, free, own[stage])
        values[stage] |= found
        wrong += [f"{stage}: {line}" for line in problems]
    if wrong:
        raise DataError(shown(dict.fromkeys(wrong), SHOWN_PROBLEMS, "; "))
    return values


def _shared_keys(system: System, own: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, str]]:
    """Keys that a whole cross-validation may be given -> stage -> the key that is meant; `own` are the configurations.

    A key that stands for different things in the stages has a name for each in `System.shared_keys`, and is none itself.
    """
    ambiguous = {target for targets in system.shared_keys.values() for target in targets.values()}
    keys = {stage: [key for key in keys_of(stage, config) if key not in ambiguous] for stage, config in own.items()}
    every = dict.fromkeys(key for names in keys.values() for key in names)
    return {key: {stage: key for stage in keys if key in keys[stage]} for key in every} | dict(system.shared_keys)


def _unknown_shared(key: str, system: System, meant: Mapping[str, Any]) -> str:
    """What is wrong with a key that a whole cross-validation cannot be given."""
    if precise := [f"--{name}" for name, targets in system.shared_keys.items() if key in targets.values()]:
        return f"'{key}' is not the same thing in every stage; use {' or '.join(precise)}"
    return f"unknown configuration key '{key}': {did_you_mean(key, meant)}"


def keys_page() -> str:
    """docs/reference/keys.md: a table of each stage's keys."""
    lines = [PROSE]
    for system in map(find_system, SYSTEMS):
        lines += [f"## {system.title}", "", SHARED, "", "| key | of |", "| --- | --- |"]
        for name, targets in system.shared_keys.items():
            lines.append(f"| `{name}` | {', '.join(f'`{key}` of {stage}' for stage, key in targets.items())} |")
        for stage in system.stages:
            lines += ["", f"### {stage.name}", "", "| key | value | default | meaning |", "| --- | --- | --- | --- |"]
            lines += _rows(stage)
    return "\n".join([*lines, ""])


def _rows(stage: Stage) -> list[str]:
    """A row for each key of a stage; of those that do not train it, with the files that have them."""
    found: dict[str, tuple[Key, Any, list[str]]] = {}
    for names in (stage.configs, ("evaluate",), ("inference",)):
        own = configuration(stage, *names)
        for name, key in keys_of(stage.name, own).items():
            found.setdefault(name, (key, own[name], []))[2].append(names[0])
    rows = []
    for name, (key, default, places) in found.items():
        where = "" if stage.configs[0] in places else f" ({', '.join(places)})"
        text = default if isinstance(default, str) else json.dumps(default)
        rows.append(f"| `{name}`{where} | {key.expected.removeprefix('a ')} | `{text}` | {key.meaning} |")
    return rows


if __name__ == "__main__":
    sys.stdout.write(keys_page())
