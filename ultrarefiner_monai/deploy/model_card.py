"""The card of a trained model, complete: what decides its predictions, where it comes from, how well it did, its limits."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ultrarefiner_monai.data.datasets import parts_of
from ultrarefiner_monai.data.releases.readers import info
from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.files import without_folders
from ultrarefiner_monai.masks import THRESHOLD
from ultrarefiner_monai.metrics.scores_file import PER_IMAGE, Row, read_rows
from ultrarefiner_monai.models.card import read_card, size_of

MARKDOWN = "MODEL_CARD.md"
INTENDED_USE = "Research on lesion segmentation in B-mode breast ultrasound. Not for clinical use."
LIMITS = (
    "Not a medical device: no diagnosis, no measurement for treatment, no screening may rest on it.",
    "Measured only on the images named under Metrics; other scanners, settings, populations and lesion types are untested.",
    "The epoch was chosen on the validation images: expect less on others.",
    "It says where a lesion would be, not whether it is malignant; on pictures without a lesion it may mark one.",
)
PUBLIC_IMAGES = "LiteMedSAM's and MedSAM's training data may hold public breast ultrasound, these images among it."
CODE_LICENCE = "Apache-2.0"
# Published weights that a training may start from, and the licence that their repositories state.
WEIGHTS_LICENCES = {
    "lite_medsam": "LiteMedSAM (github.com/bowang-lab/MedSAM): Apache-2.0",
    "vit_b": "SAM (github.com/facebookresearch/segment-anything) or MedSAM (github.com/bowang-lab/MedSAM): Apache-2.0",
    "vit_l": "SAM (github.com/facebookresearch/segment-anything): Apache-2.0",
    "vit_h": "SAM (github.com/facebookresearch/segment-anything): Apache-2.0",
    "r50_vit_b16": "R50+ViT-B_16.npz (github.com/google-research/vision_transformer), where it was used: Apache-2.0",
}
# Keys of a training's configuration that tell how the weights came about, of those that it has.
TRAINING_KEYS = (
    *("seed", "batch_size", "learning_rate", "coarse_rate", "refiner_rate", "weighting"),
    *("change_penalty", "prompt_gradient_scale", "normal_share", "pretrained", "sam_checkpoint"),
)
# Letterboxd, read_grey and Segmenter in words, for those who feed the network by themselves.
PREPARATION = {
    "grey": "ITU-R BT.601 luma in [0, 1]: 8-bit values / 255, 16-bit values / 65535; alpha dropped, orientation tags ignored",
    "letterbox": "long side to image_size, bilinear with antialiasing, pixel centres at halves; zeros to the right and below",
    "output": "logits; sigmoid, crop the padding, bilinear with antialiasing to the picture's size, then the threshold",
}
TABLES = {"validation": "", "val": "val", "test": "test", "normal": "normal"}  # folders of a run with a per_image.csv
TOLERANCE = 1e-9  # of a mean that was written as text and read back


def describe(model: str | Path) -> dict[str, Any]:
    """The card of a `model.pt` with everything that its folder and this package tell of it; plain values.

    A card that is complete already, that of an exported model, stays as it is.

    Raises:
        DataError: no card beside it, or one of no trained model.
        CheckpointError: as `read_card`.
    """
    path = Path(model)
    card = read_card(path)
    if "prediction" in card:
        return card
    config = _config(path.parent)
    channels = ["coarse"] if card["phase"] == "phase1" else ["coarse", "refined"]
    settings = {"image_size": size_of(card), "amp": config.get("amp")}
    return {
        **card,
        "prediction": {**settings, "threshold": THRESHOLD, "channels": channels, **PREPARATION},
        "data": _data(card.get("dataset", "")),
        "training": {key: without_folders(config[key]) for key in TRAINING_KEYS if key in config},
        "metrics": _metrics(path.parent, card.get("metric") or {}),
        "licences": {"code": CODE_LICENCE, "initial weights": _weights_licences(card)},
        "intended_use": INTENDED_USE,
        "limits": [*LIMITS, *([PUBLIC_IMAGES] if "refiner" in card else [])],
    }


def to_markdown(card: Mapping[str, Any]) -> str:
    """What `describe` returns as a page for people."""
    sections = {
        "Data": [_table({"data set": card.get("dataset"), "fold held out": card.get("fold")} | _manifest(card))]
        + [
            f"- {part['name']}: {part['description']} ({part['reference']}). Licence: {part['licence']}"
            for part in card["data"]
        ],
        "Metrics": [_metrics_table(name, table) for name, table in card["metrics"].items()] or ["None were measured."],
        "What decides a prediction": [_table(card["prediction"])]
        + [f"{part}:\n\n{_table(card[part])}" for part in ("coarse", "refiner") if part in card],
        "Training": [_table(card["training"] | {"best epoch": card.get("epoch")})],
        "Licences": [_table({"code": card["licences"]["code"]})]
        + [f"- initial weights: {line}" for line in card["licences"]["initial weights"]],
        "Limits": [f"- {line}" for line in card["limits"]],
    }
    head = f"# Lesion segmentation in breast ultrasound, {card['phase']}\n\n**{card['intended_use']}**\n\n"
    head += f"Weights SHA-256 `{card.get('sha256')}`, written by ultrarefiner_monai {card.get('version')}.\n"
    return head + "".join(f"\n## {title}\n\n" + _joined(blocks) for title, blocks in sections.items())


def _config(folder: Path) -> dict[str, Any]:
    """The configuration that a training ran with, {} where it is not beside the model."""
    try:
        content = json.loads((folder / "executed_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _data(dataset: str) -> list[dict[str, str]]:
    """Description, reference and licence of each release of a data set."""
    found = {name: info(name) for name in (parts_of(dataset) if dataset else ())}
    return [
        {"name": name, "description": about.description, "reference": about.reference, "licence": about.licence}
        for name, about in found.items()
    ]


def _metrics(folder: Path, best: Mapping[str, float | None]) -> dict[str, dict[str, Any]]:
    """Means over the images of each table of scores in a run's folder that is of the best epoch's weights.

    A training writes its table at each validation: where the last one was not the best, only the best metric is known.
    """
    found: dict[str, dict[str, Any]] = {"validation": {"images": None, "means": dict(best)}} if best else {}
    for name, place in TABLES.items():
        try:
            rows = read_rows(folder / place / PER_IMAGE)
        except DataError:
            continue
        means = _means(rows)
        if name != "validation" or _agree(means, best):
            found[name] = {"images": len(rows), "means": means}
    return found


def _means(rows: Sequence[Row]) -> dict[str, float]:
    """Mean of each stage's scores over the images where it is defined; without those that are defined nowhere."""
    names = [name for name in (rows[0] if rows else ()) if name.startswith(("coarse_", "refined_"))]
    columns = {name: np.array([row[name] for row in rows]) for name in names}
    return {name: float(np.nanmean(column)) for name, column in columns.items() if not np.isnan(column).all()}


def _agree(means: Mapping[Any, float], best: Mapping[str, float | None]) -> bool:
    return bool(best) and all(
        value is not None and abs(means.get(name, math.inf) - value) < TOLERANCE for name, value in best.items()
    )


def _weights_licences(card: Mapping[str, Any]) -> list[str]:
    variants = [card[part].get("variant") for part in ("coarse", "refiner") if part in card]
    return [WEIGHTS_LICENCES[variant] for variant in variants if variant in WEIGHTS_LICENCES]


def _manifest(card: Mapping[str, Any]) -> dict[str, str]:
    return {"manifest SHA-256": f"`{card.get('manifest_sha256')}`"}


def _table(values: Mapping[str, Any]) -> str:
    """A two-column table; a list is shown with commas, None as a dash."""
    shown = {key: ", ".join(map(str, value)) if isinstance(value, list) else value for key, value in values.items()}
    rows = [f"| {key} | {'-' if value is None else value} |" for key, value in shown.items()]
    return "\n".join(["| | |", "| --- | --- |", *rows])


def _metrics_table(name: str, table: Mapping[str, Any]) -> str:
    means = {key: None if value is None else f"{value:.4f}" for key, value in table["means"].items()}
    images = "images not counted" if table["images"] is None else f"{table['images']} images"
    return f"{name} ({images}, means where defined):\n\n{_table(means)}"


def _joined(blocks: list[str]) -> str:
    """Blocks of a page; list items stay together, anything else is set apart by a blank line."""
    text = ""
    for block in blocks:
        gap = "" if not text else "\n" if block.startswith("- ") and text.splitlines()[-1].startswith("- ") else "\n\n"
        text += gap + block
    return text + "\n"
