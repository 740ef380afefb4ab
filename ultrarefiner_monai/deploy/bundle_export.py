"""A trained model as a MONAI bundle that stands alone: configurations, weights and the package itself in one folder."""

import importlib.metadata
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ultrarefiner_monai.bundle.paths import BUNDLES
from ultrarefiner_monai.data.errors import DataError
from ultrarefiner_monai.data.manifest import shipped_manifest
from ultrarefiner_monai.data.names import parts_of
from ultrarefiner_monai.data.readers import info
from ultrarefiner_monai.deploy.segmenter import load_segmenter, lora_rank, read_card
from ultrarefiner_monai.shipped import PACKAGE

CONFIGS = ("train", "multi_gpu_train", "evaluate", "inference")
NETWORK_KEYS = ("variant", "image_size", "coarse_variant", "coarse_size", "points")  # a plan may complete these
WEIGHTS = "$@bundle_root + '/models/model.pt'"
MEASURED = {"monai_version": "monai", "pytorch_version": "torch", "numpy_version": "numpy"}
TOLD = ("dataset", "fold", "manifest_sha256", "epoch", "metric", "sha256")  # of the card, for the page about the model


def export_bundle(model: Path, out: Path, zip: bool = False) -> Path:
    """Write the bundle of a trained model, which runs where MONAI is installed and this package is not.

    Its `train.json` and `inference.json` are complete in themselves and set to the model's data set, fold and networks;
    `models/` holds the weights, unchanged, with their card.

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
    _check_free(out, zip)
    network = load_segmenter(model, device="cpu").network
    card = read_card(model.with_suffix(".json"))
    if missing := [key for key in TOLD if key not in card]:
        raise DataError(
            f"card {model.with_suffix('.json')}: no {', '.join(missing)}; export the model.pt of a training"
        )
    unfinished = out.with_name(f".{out.name}.partial")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        _write_bundle(unfinished, model, card, lora_rank(network.state_dict()))
        unfinished.replace(out)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return Path(shutil.make_archive(str(out), "zip", out.parent, out.name)) if zip else out


def _check_free(out: Path, zip: bool) -> None:
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise DataError(f"{out}: expected an absent or empty folder; name another or remove it")
    if zip and (archive := out.with_name(f"{out.name}.zip")).exists():
        raise DataError(f"{archive}: already there; name another folder or remove it")


def _write_bundle(folder: Path, model: Path, card: Mapping[str, Any], rank: int) -> None:
    source = BUNDLES / card["phase"]
    for name in ("configs", "docs", "models"):
        (folder / name).mkdir(parents=True)
    shutil.copyfile(model, folder / "models" / "model.pt")
    shutil.copyfile(model.with_suffix(".json"), folder / "models" / "model.json")
    shutil.copyfile(source / "LICENSE", folder / "LICENSE")
    shutil.copyfile(source / "configs" / "logging.conf", folder / "configs" / "logging.conf")
    read = {name: _read(source / "configs" / f"{name}.json") for name in (*CONFIGS, "metadata")}
    metadata = _metadata(read.pop("metadata"), card)
    for name, config in {**_stand_alone(read, card, rank), "metadata": metadata}.items():
        text = json.dumps(config, indent=4, ensure_ascii=False)
        (folder / "configs" / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    (folder / "docs" / "README.md").write_text(_page(metadata, card), encoding="utf-8")
    _copy_package(folder, card["dataset"])


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def _stand_alone(configs: Mapping[str, dict[str, Any]], card: Mapping[str, Any], rank: int) -> dict[str, dict]:
    """The bundle's configurations, set to the model and with their `initialize` at the head of `run`.

    MONAI puts a bundle's folder on Python's path before `run` and not before `initialize`, which needs the package too.
    """
    made = {}
    for name, config in configs.items():
        run = config.get("run", configs["train"]["run"])
        changed = _settings(card, rank) | {"dataset": card["dataset"], "dataset_name": card["dataset"]}
        if name == "inference":
            config, changed = _without_plan(config), changed | {"checkpoint": WEIGHTS}
            del changed["dataset"]  # which is a component there
        if name == "evaluate":
            changed = {"checkpoint": WEIGHTS}
        known = {key: value for key, value in changed.items() if key in config}
        made[name] = {**config, **known, "run": [*config["initialize"], *run]}
        del made[name]["initialize"]
    return made


def _settings(card: Mapping[str, Any], rank: int) -> dict[str, Any]:
    """Top-level keys that build the network of `card`, by their names in the configurations of its phase."""
    coarse, refiner = card.get("coarse"), card.get("refiner")
    settings: dict[str, Any] = {"fold": card["fold"]}
    if refiner is not None:
        settings |= {"variant": refiner["variant"], "image_size": refiner["image_size"], "lora_rank": rank}
        settings |= {"points": refiner["prompt_positive_points"], "fusion": refiner["fusion_mode"]}
    if coarse is not None:
        names = ("variant", "image_size") if refiner is None else ("coarse_variant", "coarse_size")
        settings |= dict(zip(names, (coarse["variant"], coarse["size"]), strict=True))
    return settings


def _without_plan(config: dict[str, Any]) -> dict[str, Any]:
    """`config` whose components take the network's keys as they are, not as a plan completes them.

    Nothing is left to complete, and tools that build only the network or the transforms name no data for a plan to check.
    """
    text = json.dumps({name: part for name, part in config.items() if name != "plan"})
    for key in NETWORK_KEYS:
        if key in config["plan"]:
            text = text.replace(f'"$@plan.{key}"', f'"{config["plan"][key]}"')
    changed = json.loads(text)
    return {name: changed.get(name, part) for name, part in config.items()}


def _metadata(metadata: dict[str, Any], card: Mapping[str, Any]) -> dict[str, Any]:
    """`metadata.json` with the model's sizes and figures, and the versions that it was exported with."""
    size = card["coarse"]["size"] if card["phase"] == "phase1" else card["refiner"]["image_size"]
    data_format = metadata["network_data_format"]
    for part in (*data_format["inputs"].values(), *data_format["outputs"].values()):
        part["spatial_shape"] = [size, size]
    versions = {key: _version(name) for key, name in MEASURED.items()}
    required = {name: _version(name) for name in metadata["required_packages_version"]}
    measured_on = f"{card['dataset']} fold {card['fold']} validation"
    scores = {f"{name} ({measured_on})": value for name, value in card["metric"].items()}
    return {**metadata, **versions, "required_packages_version": required, "eval_metrics": scores}


def _version(package: str) -> str:
    """Version of an installed package without the build's own label ("+cpu")."""
    return importlib.metadata.version(package).partition("+")[0]


def _copy_package(folder: Path, dataset: str) -> None:
    """Copy this package with the manifests that a training of the bundle takes where none is named."""
    unwanted = shutil.ignore_patterns("__pycache__", "_shipped", "*.partial")
    shutil.copytree(PACKAGE, folder / PACKAGE.name, ignore=unwanted)
    manifests = folder / PACKAGE.name / "_shipped" / "data_manifests"
    manifests.mkdir(parents=True)
    for name in (dataset, "PHANTOM"):
        try:
            shutil.copy(shipped_manifest(name), manifests)
        except DataError:  # the model was trained with a manifest of the user's own
            continue


def _page(metadata: Mapping[str, Any], card: Mapping[str, Any]) -> str:
    """The model's card for people, in Markdown."""
    licences = "; ".join(f"{part}: {info(part).licence}" for part in parts_of(card["dataset"]))
    scores = ", ".join(f"{name} {value:.4f}" for name, value in card["metric"].items())
    networks = {part: card[part] for part in ("coarse", "refiner") if part in card}
    settings = "\n".join(f"| {part} | {_listed(values)} |" for part, values in networks.items())
    return PAGE.format(
        **metadata | dict(card), scores=scores, licences=licences, settings=settings, command=COMMANDS[card["phase"]]
    )


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items())


PICTURES = "--images FOLDER --predictions_dir masks"
COMMANDS = {
    "phase1": PICTURES,
    "phase2": "--data_root FOLDER --coarse_predictions FOLDER",
    "phase3": PICTURES,
}
PAGE = """# {name}

{description} Research software, **not for clinical use**.

| | |
| --- | --- |
| trained on | {dataset}, all folds but {fold}; manifest SHA-256 `{manifest_sha256}` |
| best epoch | {epoch} |
| validation | fold {fold}: {scores} |
{settings}
| weights | `models/model.pt`, SHA-256 `{sha256}` |
| written by | ultrarefiner_monai {version} |

The epoch was chosen on the images that the figure was measured on: expect less on others.

## Use

```
python -m monai.bundle run --config_file configs/inference.json {command}
```

from this folder, or from any other with the path to the file. Python needs MONAI and the packages in `configs/metadata.json`, but not
`ultrarefiner_monai`, which is in this folder. `train.json` trains a new model of the same kind, `train.json` with `evaluate.json` scores
this one on the test set.

## Limits

Trained on pictures of {dataset} alone. Pictures of other scanners, with marks burnt in, without a lesion or with several may be segmented
wrongly, and nothing in the output says so.

## Licences

Code and configurations: Apache-2.0 (`LICENSE`). The pictures that the model was trained on are not in here and have terms of their own, which
you may have to keep: {licences}.
"""
