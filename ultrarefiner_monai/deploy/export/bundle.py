"""A trained model as a MONAI bundle that stands alone: configurations, weights and the code that they need in one folder."""

import importlib.metadata
import json
import re
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from ultrarefiner_monai.data.datasets import parts_of
from ultrarefiner_monai.data.manifests.manifest import shipped_manifest
from ultrarefiner_monai.deploy.export.closure import closure, copy_files, names_in, names_of
from ultrarefiner_monai.deploy.model_card import describe, to_markdown
from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.files import atomic_folder, atomic_write, is_free, read_json, write_json
from ultrarefiner_monai.models.card import value_at
from ultrarefiner_monai.models.segmenter import load_segmenter
from ultrarefiner_monai.schemas import as_data
from ultrarefiner_monai.shipped import BUNDLES, PACKAGE
from ultrarefiner_monai.systems import Stage, System, find_stage
from ultrarefiner_monai.systems.system import PROMPT_MAPS, PROMPT_SOURCE

CONFIGS = ("train", "multi_gpu_train", "evaluate", "inference")
WEIGHTS = "$@bundle_root + '/models/model.pt'"
VERSIONS = {"monai_version": "monai", "pytorch_version": "torch", "numpy_version": "numpy"}
TOLD = ("dataset", "fold", "sha256")  # of the card
# What only a demonstration on the embedded data set needs.
DEMONSTRATION = tuple(f"{PACKAGE.name}.{name}" for name in ("data.phantom", "bundle.preflight.simulated_predictions"))
IMAGES = "--images FOLDER --predictions_dir masks"
USE = """
## Use

```
python -m monai.bundle run --config_file configs/inference.json {command}
```

from this folder, or from any other with the path to the file. Python needs MONAI and the packages named in
`configs/metadata.json`, but not `ultrarefiner_monai`, which is in this folder. `train.json` trains a new model of the same
kind, `train.json` with `evaluate.json` scores this one on the test set.
"""


def export_bundle(model: Path, out: Path, zip: bool = False) -> Path:
    """Write the bundle of a trained model, which runs where MONAI is installed and this package is not.

    Its `train.json` and `inference.json` are complete in themselves and set to the model's data set, fold and networks;
    `models/` holds the weights, unchanged, with their complete card; `docs/README.md` is the card as a page.

    Args:
        model: `model.pt` with its card beside it.
        out: folder to write; absent or empty.
        zip: write `<out>.zip` too.

    Returns:
        The folder, or the archive where one was asked for.

    Raises:
        DataError: `out` or its archive is in the way, or the card does not say what the model was trained on.
        CheckpointError: the weights are absent, damaged or of another network than the card's.
    """
    if not is_free(out):
        raise DataError(f"{out}: expected an absent or empty folder; name another or remove it")
    archive = out.with_name(f"{out.name}.zip")
    if zip and archive.exists():
        raise DataError(f"{archive}: already there; name another folder or remove it")
    load_segmenter(model, device="cpu")  # what does not load here would load nowhere
    card = describe(model)
    if missing := [key for key in TOLD if key not in card]:
        raise DataError(
            f"card {model.with_suffix('.json')}: no {', '.join(missing)}; export the model.pt of a training"
        )
    with atomic_folder(out) as unfinished:
        _write_bundle(unfinished, model, card)
        if zip:
            _pack(unfinished, archive)
    return archive if zip else out


def _pack(folder: Path, target: Path) -> None:
    """Write an archive with the folder, under the archive's name, in it."""
    with atomic_write(target) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, Path(target.stem, path.relative_to(folder)))


def _write_bundle(folder: Path, model: Path, card: Mapping[str, Any]) -> None:
    system, stage = find_stage(card["stage"])
    source = BUNDLES / stage.bundle
    found = {
        path.stem: read_json(path, dict, "install the package anew", code=True)
        for path in source.glob("configs/*.json")
    }
    found["train"] = ConfigParser.load_config_files([source / "configs" / f"{name}.json" for name in stage.configs])
    configs = _stand_alone({name: found[name] for name in CONFIGS if name in found}, stage, card)
    metadata = _metadata(found["metadata"], card, stage.classes_of(card["network"]))
    for name, config in {**configs, "metadata": metadata}.items():
        write_json(folder / "configs" / f"{name}.json", config, indent=4)
    write_json(folder / "models" / "model.json", card, indent=4)
    shutil.copyfile(model, folder / "models" / "model.pt")
    for name in ("LICENSE", "configs/logging.conf"):
        shutil.copyfile(source / name, folder / name)
    (folder / "docs").mkdir()
    maps = (f"--{PROMPT_SOURCE} auto", f"--{PROMPT_MAPS} FOLDER") if stage.prompted else ()
    feeds = (*(f"--{key} FOLDER" for key in stage.feeds), *maps)
    command = " ".join(("--data_root FOLDER", *feeds)) if feeds else IMAGES
    (folder / "docs" / "README.md").write_text(to_markdown(card) + USE.format(command=command), encoding="utf-8")
    _copy_package(folder, configs, system, card["dataset"])


def _stand_alone(configs: Mapping[str, dict[str, Any]], stage: Stage, card: Mapping[str, Any]) -> dict[str, dict]:
    """The bundle's configurations, set to the model and with their `initialize` at the head of `run`.

    MONAI puts a bundle's folder on Python's path before `run` and not before `initialize`, which needs the package too.
    """
    settings = {key: value_at(card["network"], path) for key, path in stage.settings.items()}
    own = as_data({**settings, "fold": card["fold"], "dataset": card["dataset"]}, "card")
    name = own.pop("dataset")
    is_phantom = "PHANTOM" in parts_of(name)
    changes = {
        "train": own | {"dataset": name, "strict": not is_phantom, "islands": card.get("islands", 0)},
        "evaluate": {"checkpoint": WEIGHTS},
        "inference": own | {"dataset_name": name, "checkpoint": WEIGHTS},
    }
    made = {name: config | changes.get(name, {}) for name, config in configs.items()}
    made["inference"]["plan"] |= {"stage": stage.name}
    # Its components take the keys as they are, not as a plan completes them: nothing is left to complete, and tools that
    # build only the network or the transforms name no data for a plan to check.
    text = re.sub(r"\"\$@plan\.network\['(\w+)'\]\"", r'"@\1"', json.dumps(made["inference"]))
    made["inference"] = json.loads(text.replace('"$@plan.classes"', f'"$bundle.told_apart(@{stage.classes})"'))
    for config in made.values():
        config["run"] = [*config.pop("initialize", []), *config.get("run", configs["train"]["run"])]
    return made


def _metadata(metadata: dict[str, Any], card: Mapping[str, Any], classes: Sequence[str]) -> dict[str, Any]:
    """`metadata.json` with the model's sizes, classes and figures, and the versions that it was exported with."""
    size = as_data(card["image_size"], "image_size")
    data_format = metadata["network_data_format"]
    for part in (*data_format["inputs"].values(), *data_format["outputs"].values()):
        part["spatial_shape"] = [size, size]
    versions = {key: _version(name) for key, name in VERSIONS.items()}
    required = {name: _version(name) for name in metadata["required_packages_version"]}
    ((dataset, tables),) = as_data({card["dataset"]: card["metrics"]}, "metrics").items()
    scores = {f"{dataset}, fold {as_data(card['fold'], 'fold')}, {name}": table for name, table in tables.items()}
    told = {"required_packages_version": required, "eval_metrics": scores}
    return {**metadata, **versions, **told, **(_channels(data_format, classes) if classes else {})}


def _channels(data_format: dict[str, Any], classes: Sequence[str]) -> dict[str, Any]:
    """What `metadata.json` says of the channels of a network that tells classes apart."""
    channels = {str(number): name for number, name in enumerate(("background", *classes))}
    for output in data_format["outputs"].values():
        output |= {"num_channels": len(channels), "channel_def": channels}
    named = ", ".join(f"{number} is {name}" for number, name in channels.items())
    return {
        "network_data_format": data_format,
        "label_classes": f"one channel, {named}",
        "pred_classes": f"{len(channels)} channels of logits, for a softmax: {named}",
    }


def _version(package: str) -> str:
    """Version of an installed package without the build's own label ("+cpu")."""
    return importlib.metadata.version(package).partition("+")[0]


def _copy_package(folder: Path, configs: Mapping[str, dict[str, Any]], system: System, dataset: str) -> None:
    """Copy what the configurations need of this package, and the manifests that a training takes where none is named."""
    names = names_in(json.dumps(configs)) | names_of(system, "builder", "describer", "resolver")
    copy_files(closure(names, without=() if "PHANTOM" in parts_of(dataset) else DEMONSTRATION), folder)
    manifests = folder / PACKAGE.name / "_shipped" / "data_manifests"
    manifests.mkdir(parents=True)
    try:
        shutil.copy(shipped_manifest(dataset), manifests)
    except DataError:  # the model was trained with a manifest of the user's own
        return
