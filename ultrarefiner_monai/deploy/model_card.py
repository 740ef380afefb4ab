"""The card of a trained model, complete: what decides its predictions, where it comes from, how well it did, its limits."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ultrarefiner_monai.data.datasets import parts_of
from ultrarefiner_monai.data.releases.readers import info
from ultrarefiner_monai.errors import DataError, raise_problems
from ultrarefiner_monai.files import json_or_empty, without_folders
from ultrarefiner_monai.masks import THRESHOLD
from ultrarefiner_monai.metrics.classes import row_columns, summarise_classes
from ultrarefiner_monai.metrics.scores import over_same_images
from ultrarefiner_monai.metrics.scores_file import PER_IMAGE, read_rows
from ultrarefiner_monai.models.card import read_card, spacing_of
from ultrarefiner_monai.models.card_schema import COMPLETE
from ultrarefiner_monai.schemas import without_code
from ultrarefiner_monai.systems import Stage, find_system
from ultrarefiner_monai.texts import markdown_cell

MARKDOWN = "MODEL_CARD.md"
INTENDED_USE = "Research on lesion segmentation in B-mode breast ultrasound. Not for clinical use."
LIMITS = (
    "Not a medical device: no diagnosis, no measurement for treatment, no screening may rest on it.",
    "Measured only on the images named under Metrics; other scanners, settings, populations and lesion types are untested.",
    "The epoch was chosen on the validation images: expect less on others.",
)
WITHOUT_CLASSES = (
    "It says where a lesion would be, not whether it is malignant; on images without a lesion it may mark one."
)
OF_CLASSES = "What it calls {} is no diagnosis; it knows no other classes; on images without a lesion it may mark one."
PUBLIC_IMAGES = "LiteMedSAM's and MedSAM's training data may hold public breast ultrasound, these images among it."
CODE_LICENCE = "Apache-2.0"
MEDSAM = ("lite_medsam", "vit_b")  # variants whose weights may be LiteMedSAM's or MedSAM's
# Published weights that a training may start from, and the licence that their repositories state.
WEIGHTS_LICENCES = {
    "lite_medsam": "LiteMedSAM (github.com/bowang-lab/MedSAM): Apache-2.0",
    "vit_b": "SAM (github.com/facebookresearch/segment-anything) or MedSAM (github.com/bowang-lab/MedSAM): Apache-2.0",
    "vit_l": "SAM (github.com/facebookresearch/segment-anything): Apache-2.0",
    "vit_h": "SAM (github.com/facebookresearch/segment-anything): Apache-2.0",
    **dict.fromkeys(
        ("large", "base_plus", "small"), "SAM 2 (github.com/facebookresearch/sam2), where it was used: Apache-2.0"
    ),
    "r50_vit_b16": "R50+ViT-B_16.npz (github.com/google-research/vision_transformer), where it was used: Apache-2.0",
}
# Keys of a training's configuration that tell how the weights came about, of those that it has, beside its stage's weights.
TRAINING_KEYS = (
    *("seed", "batch_size", "learning_rate", "coarse_rate", "refiner_rate", "weighting"),
    *("change_penalty", "prompt_gradient_scale", "normal_share", "weight_average"),
    *("prompt_rate", "decoder_rate", "train_decoder", "transfer", "encoder"),
    *("prompt_source", "prompt_mix", "trainable", "rate_decay", "balance", "levels", "task_weight", "finetune_epochs"),
)
# Letterboxd, read_grey and Segmenter in words, for those who feed the network by themselves.
PREPARATION = {
    "grey": "ITU-R BT.601 luma in [0, 1]: values / the largest of 8, 12 or 16 bits that hold them; no alpha; turned as EXIF says",
    "letterbox": "long side to image_size, bilinear with antialiasing, pixel centres at halves; zeros to the right and below",
    "output": "logits; sigmoid, crop the padding, bilinear with antialiasing to the image's size, then the threshold",
}
AT_SPACING = (
    "each axis to {:g} mm a pixel, sides rounded to whole pixels, none above image_size; bilinear with antialiasing, pixel "
    "centres at halves; zeros to the right and below"
)
OUTPUT_OF_CLASSES = (
    "logits; softmax over the channels, crop the padding, bilinear with antialiasing to the image's size; lesion where "
    "1 - background reaches the threshold, each pixel of its likeliest class"
)
ISLANDS_IN_WORDS = (
    "leave out parts of the mask (8-connected) of which the sum of p - threshold over the pixels is below {:g} % of that of the "
    "foremost part"
)
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
        raise_problems(str(path.with_suffix(".json")), (f"{key}: missing" for key in COMPLETE if key not in card))
        return card
    config = without_code(json_or_empty(path.parent / "executed_config.json", dict, code=True))
    system = find_system(card["system"])
    stage = system.stage(card["stage"])
    classes = stage.classes_of(card["network"])
    parts = [card["network"], *(part for part in card["network"].values() if isinstance(part, Mapping))]
    variants = [part["variant"] for part in parts if "variant" in part]
    settings = {"image_size": card["image_size"], "amp": config.get("amp"), "threshold": THRESHOLD}
    settings |= {"islands": ISLANDS_IN_WORDS.format(100 * card["islands"])} if card.get("islands") else {}
    spaced = {} if (spacing := spacing_of(card)) is None else {"letterbox": AT_SPACING.format(spacing)}
    told = [key for key in (*TRAINING_KEYS, *stage.weights) if key in config]
    releases = {name: info(name) for name in (parts_of(card["dataset"]) if card.get("dataset") else ())}
    return {
        **card,
        "prediction": {**settings, **_channels(stage, classes), **spaced},
        "data": [
            {"name": name, "description": about.description, "reference": about.reference, "licence": about.licence}
            for name, about in releases.items()
        ],
        "training": {key: without_folders(config[key]) for key in told},
        "metrics": _metrics(path.parent, stage, card.get("metric") or {}),
        "licences": {
            "code": CODE_LICENCE,
            "initial weights": [WEIGHTS_LICENCES[name] for name in variants if name in WEIGHTS_LICENCES],
        },
        "intended_use": INTENDED_USE,
        "limits": [
            *LIMITS,
            OF_CLASSES.format(" or ".join(classes)) if classes else WITHOUT_CLASSES,
            *([PUBLIC_IMAGES] if any(name in MEDSAM for name in variants) else []),
        ],
    }


def _channels(stage: Stage, classes: Sequence[str]) -> dict[str, Any]:
    """What the channels of the network's logits are, and the way from an image to them and on to a mask."""
    if not classes:
        return {"channels": list(stage.outputs), **PREPARATION}
    return {"channels": ["background", *classes], **PREPARATION, "output": OUTPUT_OF_CLASSES}


def to_markdown(card: Mapping[str, Any]) -> str:
    """What `describe` returns as a page for people."""
    data = {key: card.get(name) for key, name in (("data set", "dataset"), ("fold held out", "fold"))}
    network = {name: part for name, part in card["network"].items() if isinstance(part, Mapping)}
    plain = {name: value for name, value in card["network"].items() if name not in network}
    metrics = []
    for name, table in card["metrics"].items():
        counts = table.get("n", {})
        means = {
            key: None if value is None else f"{value:.4f}" + (f" (n {counts[key]})" if key in counts else "")
            for key, value in table["means"].items()
        }
        images = "images not counted" if table["images"] is None else f"{table['images']} images"
        metrics.append(f"{name} ({images}, means over the n where every output is defined):\n\n{_table(means)}")
    sections = {
        "Data": [_table(data | {"manifest SHA-256": f"`{card.get('manifest_sha256')}`"})]
        + [
            f"- {part['name']}: {part['description']} ({part['reference']}). Licence: {part['licence']}"
            for part in card["data"]
        ],
        "Metrics": metrics or ["None were measured."],
        "What decides a prediction": [_table(card["prediction"] | plain)]
        + [f"{name}:\n\n{_table(part)}" for name, part in network.items()],
        "Training": [_table(card["training"] | {"best epoch": card.get("epoch")})],
        "Licences": [_table({"code": card["licences"]["code"]})]
        + [f"- initial weights: {line}" for line in card["licences"]["initial weights"]],
        "Limits": [f"- {line}" for line in card["limits"]],
    }
    head = f"# Lesion segmentation in breast ultrasound, {card['stage']}\n\n**{card['intended_use']}**\n\n"
    head += f"Weights SHA-256 `{card.get('sha256')}`, written by ultrarefiner_monai {card.get('version')}.\n"
    return head + "".join(f"\n## {title}\n\n" + _joined(blocks) for title, blocks in sections.items())


def _metrics(folder: Path, stage: Stage, best: Mapping[str, float | None]) -> dict[str, dict[str, Any]]:
    """Means, over the `n` images where every output has them, of each table of scores of the best weights in a run's folder.

    A training writes its table at each validation: where the last one was not the best, only the best metric is known.
    """
    found: dict[str, dict[str, Any]] = {"validation": {"images": None, "means": dict(best)}} if best else {}
    prefixes = tuple(f"{output}_" for output in stage.outputs)
    asked = {found.name: found.name for found in sorted(folder.glob("*_*")) if stage.prompted and found.is_dir()}
    for name, split in (TABLES | asked).items():  # each prompt source has scores of its own
        try:
            rows = read_rows(folder / split / PER_IMAGE)
        except DataError:
            continue
        names = rows[0] if rows else ()
        others = row_columns(names)  # of which means say nothing, or are not over the same images
        scores = [key for key in names if key.startswith(prefixes) and key not in others]
        columns = _over_same_images({key: np.array([row[key] for row in rows]) for key in scores}, stage.outputs)
        means = {key: float(np.nanmean(column)) for key, column in columns.items() if not np.isnan(column).all()}
        counts = {key: int(np.isfinite(columns[key]).sum()) for key in means}
        if "ellipse" in names:  # the line that scores with true prompts stand beside
            means["ellipse"] = float(np.nanmean([row["ellipse"] for row in rows]))
            counts["ellipse"] = sum(math.isfinite(row["ellipse"]) for row in rows)
        of_classes = summarise_classes(rows)
        means |= {key: one for key, one in of_classes.items() if not key.startswith("n_") and not math.isnan(one)}
        counts |= {key: int(of_classes[f"n_{key.removeprefix(prefixes[-1])}"]) for key in means if key in of_classes}
        differences = [
            abs(means.get(key, math.inf) - (math.inf if value is None else value)) for key, value in best.items()
        ]
        if name != "validation" or (best and all(one < TOLERANCE for one in differences)):
            found[name] = {"images": len(rows), "means": means, "n": counts}
    return found


def _over_same_images(columns: Mapping[str, np.ndarray], outputs: Sequence[str]) -> dict[str, np.ndarray]:
    """The columns in their order, each with NaN where the same score of another output is undefined."""
    by_score: dict[str, dict[str, np.ndarray]] = {}
    for output in outputs:
        for key in (key for key in columns if key.startswith(f"{output}_")):
            by_score.setdefault(key.removeprefix(f"{output}_"), {})[key] = columns[key]
    shared = {key: column for same in by_score.values() for key, column in over_same_images(same).items()}
    return {key: shared[key] for key in columns}


def _table(values: Mapping[str, Any]) -> str:
    """A two-column table; a list is shown with commas, None as a dash."""
    shown = {key: ", ".join(map(str, value)) if isinstance(value, list) else value for key, value in values.items()}
    rows = [
        f"| {markdown_cell(key)} | {'-' if value is None else markdown_cell(value)} |" for key, value in shown.items()
    ]
    return "\n".join(["| | |", "| --- | --- |", *rows])


def _joined(blocks: list[str]) -> str:
    """Blocks of a page; list items stay together, anything else is set apart by a blank line."""
    text = ""
    for block in blocks:
        gap = "" if not text else "\n" if block.startswith("- ") and text.splitlines()[-1].startswith("- ") else "\n\n"
        text += gap + block
    return text + "\n"
