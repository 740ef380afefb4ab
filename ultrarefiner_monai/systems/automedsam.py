"""AutoMedSAM: Segment Anything asked with a class alone."""

from ultrarefiner_monai.systems.key import Key
from ultrarefiner_monai.systems.sam_keys import CHECKPOINT, CLASSES, ENCODER, IMAGE_SIZE, LORA_RANK, VARIANT, VIEWS
from ultrarefiner_monai.systems.system import Stage, System

KEYS = (
    VARIANT,
    IMAGE_SIZE,
    CHECKPOINT,
    LORA_RANK,
    ENCODER,
    CLASSES,
    Key(
        "class_mode",
        "choice",
        "a plane for each class, or (as published) of its number",
        choices=("embedding", "scalar"),
    ),
    Key(
        "stride",
        "whole number",
        "cells of the embedding along a side that prompts are made of at once; null: as leaves 32 along the image",
        above=0,
        most=64,
    ),
    Key("steps", "whole number", "T of the noise in training; 0: none", least=0, most=1000),
    Key("drift", "choice", "the class's plane is added once, or (as published) T times", choices=("mean", "sum")),
    Key("residual", "truth value", "add to SAM's own prompts of the whole image; false: as published"),
    Key("class_head", "truth value", "tell classes by the image's embedding over the lesion, too; false: as published"),
    Key("prompt_rate", "number", "learning rate of the class prompt encoder; null: 0.001, for a ViT 0.0001", above=0),
    Key("decoder_rate", "number", "learning rate of SAM's mask decoder and of LoRA", least=0),
    Key("train_decoder", "truth value", "train SAM's mask decoder, too"),
    Key(
        "prompt_share",
        "number",
        "share of the epochs, the first ones, in which the class prompts learn alone, without SAM's decoder",
        least=0,
        below=1,
    ),
    Key("weighting", "choice", "of the loss's terms, see UncertaintyLoss", choices=("log1p", "kendall", "fixed")),
    Key("transfer", "number", "weight of what SAM's own prompt encoder teaches; 0: off", least=0),
    Key(
        "image_class",
        "number",
        "weight of the image's class in the loss, where classes are told apart; 0: off",
        least=0,
    ),
    Key("cache_embeddings", "truth value", "compute the embedding of each image, and of each of its views, once"),
    VIEWS,
)

SYSTEM = System(
    name="automedsam",
    title="AutoMedSAM",
    reference="Diffusion-empowered AutoPrompt MedSAM (Huang et al., arXiv 2502.06817)",
    labels="classes",
    stages=(
        Stage(
            "automedsam",
            bundle="automedsam",
            outputs=("mask",),
            settings={
                key: f"sam.{key}"
                for key in (
                    "variant",
                    "image_size",
                    "lora_rank",
                    "classes",
                    "stride",
                    "class_mode",
                    "steps",
                    "drift",
                    "class_head",
                    "residual",
                )
            },
            classes="classes",
            completed=("encoder",),
            weights=("sam_checkpoint",),
            short_schedule=4,
            rate=1e-4,
            loss={"_target_": "ultrarefiner_monai.losses.ClassMaskLoss", "weighting": "fixed"},
        ),
    ),
    quick={
        "automedsam": {
            "variant": "lite_medsam",
            "image_size": 128,
            "classes": "benign+malignant",
            "batch_size": 8,
            "epochs": 4,
        },
    },
    keys=KEYS,
    weights={"LiteMedSAM": "ultrarefiner_monai.networks:lite_medsam_weights"},
    builder="ultrarefiner_monai.networks.automedsam:build",
    describer="ultrarefiner_monai.networks.automedsam:describe",
    resolver="ultrarefiner_monai.bundle.preflight.networks:resolve_automedsam",
    exporter="ultrarefiner_monai.networks.automedsam:exported_parts",
)
