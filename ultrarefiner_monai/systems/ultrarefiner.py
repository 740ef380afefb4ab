"""UltraRefiner: a coarse network proposes a mask, differentiable prompts hand it to Segment Anything, both learn jointly."""

from dataclasses import replace

from ultrarefiner_monai.systems.key import Key
from ultrarefiner_monai.systems.sam_keys import (
    CHECKPOINT,
    ENCODER,
    IMAGE_SIZE,
    LARGEST,
    LORA_RANK,
    SIZE,
    VARIANT,
    VIEWS,
)
from ultrarefiner_monai.systems.system import Stage, System

PROMPTS = {  # those that a client may change
    name: f"refiner.prompt_{name}" for name in ("positive_points", "negative_points", "box", "mask", "box_margin")
}
REFINER = {
    "variant": "refiner.variant",
    "image_size": "refiner.image_size",
    "points": "refiner.prompt_positive_points",
    "fusion": "refiner.fusion_mode",
    "lora_rank": "refiner.lora_rank",
}
SMALL = {"batch_size": 8, "epochs": 2}
TRANSUNETS = ("r50_vit_b16", "tiny")
TRANSUNET = "TransUNet: as published (105 M parameters) or 1.5 M"
REFINED = ("phase2", "phase3")
KEYS = (
    Key("variant", "choice", TRANSUNET, ("phase1",), TRANSUNETS),
    replace(VARIANT, stages=REFINED),
    IMAGE_SIZE,
    Key(
        "learning_rate",
        "number",
        "at the peak of the schedule; null: 0.01 (SGD) for `r50_vit_b16`, 0.002 (AdamW) for `tiny`",
        ("phase1",),
        above=0,
    ),
    Key("coarse_variant", "choice", TRANSUNET, choices=TRANSUNETS),
    Key("coarse_size", "whole number", f"{SIZE} (of TransUNet)", above=0, most=LARGEST),
    Key("pretrained", "file", "Google's npz for the encoder"),
    CHECKPOINT,
    LORA_RANK,
    replace(
        ENCODER,
        meaning="SAM's image encoder: as it is (or with LoRA), or tuned, at `encoder_rate`, of `phase3` at `refiner_rate`, its "
        "embeddings not cached",
    ),
    Key(
        "encoder_rate",
        "number",
        "learning rate of SAM's image encoder, where it is tuned or has LoRA; null: `learning_rate`",
        ("phase2",),
        above=0,
    ),
    VIEWS,
    Key(
        "points",
        "whole number",
        "positive, and negative, points among the prompts; null: 1, 0 for LiteMedSAM",
        least=0,
        most=100,
    ),
    Key(
        "fusion",
        "choice",
        "how coarse and refined probability become one",
        choices=("none", "mean", "uncertainty", "learned", "hybrid"),
    ),
    Key("coarse_predictions", "path", "folder with `fold*/predictions` of phase 1"),
    Key("real_ratio", "number", "share of real coarse maps in training, the rest are simulated", least=0, most=1),
    Key("change_penalty", "number", "weight of the penalty for changing what was right", least=0),
    Key("cache_embeddings", "truth value", "compute each image's embedding once"),
    Key(
        "phase1_checkpoint",
        "file",
        "model to start from; null: the same fold's. With evaluate.json both name a [cascade](../how-to/evaluate.md)",
    ),
    Key("phase2_checkpoint", "file", "model to start from; null: the same fold's"),
    Key("weighting", "choice", "of the losses of both masks", choices=("learned", "fixed")),
    Key(
        "prompt_gradient_scale", "number", "factor on the gradient that reaches TransUNet through the prompts", least=0
    ),
    Key(
        "frozen_epochs",
        "whole number",
        "first epochs in which the refiner learns alone, and TransUNet rests",
        least=0,
    ),
    Key(
        "anchor",
        "number",
        "weight of the squared distance of TransUNet's weights from those of phase 1; 0: none",
        least=0,
    ),
    Key("coarse_rate", "number", "learning rate of TransUNet", least=0),
    Key("refiner_rate", "number", "learning rate of the refiner", least=0),
)

SYSTEM = System(
    name="ultrarefiner",
    title="UltraRefiner",
    reference="TransUNet (Chen et al., arXiv 2102.04306) refined by Segment Anything (Kirillov et al., arXiv 2304.02643)",
    stages=(
        Stage(
            "phase1",
            bundle="phase1",
            outputs=("coarse",),
            all_folds=True,
            scored=False,
            settings={"variant": "coarse.variant", "image_size": "coarse.size"},
            weights=("pretrained",),
            short_schedule=12,
            rate=1e-4,  # ten times that of a network with SAM in it
        ),
        Stage(
            "phase2",
            bundle="phase2",
            outputs=("coarse", "refined"),
            after=(("all", "phase1"),),
            feeds={"coarse_predictions": "phase1"},
            options=PROMPTS,
            corrected=True,
            settings=REFINER,
            weights=("sam_checkpoint",),
            completed=("encoder",),
            loss={"_target_": "ultrarefiner_monai.losses.RefinedLoss"},
        ),
        Stage(
            "phase3",
            bundle="phase3",
            outputs=("coarse", "refined"),
            after=(("same", "phase1"), ("same", "phase2")),
            starts={"phase1_checkpoint": "phase1", "phase2_checkpoint": "phase2"},
            options=PROMPTS,
            corrected=True,
            settings={**REFINER, "coarse_variant": "coarse.variant", "coarse_size": "coarse.size"},
            weights=("sam_checkpoint",),
            completed=("encoder",),
            short_schedule=6,
            loss={"_target_": "ultrarefiner_monai.losses.JointLoss", "weighting": "fixed"},
        ),
    ),
    quick={
        "phase1": {**SMALL, "variant": "tiny", "epochs": 12, "val_interval": 12},
        "phase2": {**SMALL, "variant": "lite_medsam"},
        "phase3": {
            **SMALL,
            "variant": "lite_medsam",
            "coarse_variant": "tiny",
            "coarse_rate": 2e-5,
            "refiner_rate": 2e-5,
        },
    },
    keys=KEYS,
    shared_keys={
        "coarse_variant": {"phase1": "variant", "phase3": "coarse_variant"},
        "coarse_size": {"phase1": "image_size", "phase3": "coarse_size"},
        "sam_variant": {"phase2": "variant", "phase3": "variant"},
        "sam_size": {"phase2": "image_size", "phase3": "image_size"},
    },
    weights={"LiteMedSAM": "ultrarefiner_monai.networks:lite_medsam_weights"},
    builder="ultrarefiner_monai.networks.ultrarefiner:build",
    describer="ultrarefiner_monai.networks.ultrarefiner:describe",
    adjuster="ultrarefiner_monai.networks.ultrarefiner:with_prompts",
    resolver="ultrarefiner_monai.bundle.preflight.networks:resolve",
    exporter="ultrarefiner_monai.networks.export_parts:ultrarefiner_parts",
    instead={
        "phase1_checkpoint": "the coarse network starts untrained",
        "phase2_checkpoint": "the refiner starts from SAM's own weights",
        "coarse_predictions": "simulated errors of the true masks",
    },
)
