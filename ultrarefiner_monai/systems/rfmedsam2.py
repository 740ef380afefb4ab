"""RFMedSAM 2: a U-Net's boxes prompt an adapted Segment Anything model, which asks itself again with a memory."""

from dataclasses import replace

from ultrarefiner_monai.systems.key import Key
from ultrarefiner_monai.systems.sam_keys import CHECKPOINT, CLASSES, IMAGE_SIZE, SAM_VERSION, VARIANT
from ultrarefiner_monai.systems.sequence_keys import KEYS as SEQUENCE_KEYS
from ultrarefiner_monai.systems.sequence_keys import SPACING, WINDOW
from ultrarefiner_monai.systems.system import Stage, System

UNET = {
    "unet": "unet.kind",
    "unet_features": "unet.features",
    "unet_frames": "unet.frames",
    "image_size": "unet.image_size",
    "classes": "unet.classes",
    SPACING.name: f"unet.{SPACING.name}",
}
ASKED = {
    key: f"sam.{key}" for key in ("variant", "adapters", "prompt_grad", "second_box", "positions", "window", "missing")
}
ASKED["sam_version"] = "sam.version"
SEQUENCES = tuple(key.name for key in SEQUENCE_KEYS if key is not WINDOW)  # those that decide no network
LOSS = {"_target_": "ultrarefiner_monai.losses.StepsLoss"}
SMALL = {"image_size": 128, "unet_features": "16+32+64+128", "batch_size": 4}
KEYS = (
    replace(
        VARIANT,
        choices=("large", "base_plus", "small", "tiny", "mini", "lite_medsam"),
        meaning="SAM 2, or LiteMedSAM with a small memory of its own; `mini` has random weights, for tests",
    ),
    replace(
        IMAGE_SIZE,
        meaning="side of the network's input in pixels, which the stages of the U-Net halve; of SAM 2 32 divides it",
    ),
    replace(CHECKPOINT, meaning="official SAM 2 weights (.pt); null: LiteMedSAM's for that variant; `random`: none"),
    SAM_VERSION,
    CLASSES,
    SPACING,
    Key("unet", "choice", "who finds the first boxes", choices=("2d", "3d", "transunet")),
    Key(
        "unet_features",
        "text",
        "channels of the U-Net's stages, such as 16+32+64+128; null: nnU-Net's, 46 million parameters; of `transunet` its "
        "variant, null: r50_vit_b16",
    ),
    Key(
        "unet_frames",
        "whole number",
        "of a U-Net in three dimensions: how many frames its volumes are made for, along which its maps halve as often as that "
        "number allows",
        least=1,
        most=4096,
    ),
    Key(
        "adapters",
        "text",
        "`all`, `none`, or places joined by +: attention, mlp, neck, memory_attention, decoder, upscaling, memory_encoder",
    ),
    Key("prompt_grad", "truth value", "ask with the U-Net's logits, too, through which it learns from the later steps"),
    Key("memory_grad", "truth value", "let gradients flow into the memories of other frames"),
    Key("second_box", "truth value", "ask in step 2 with the box of step 1's own mask; false: with the U-Net's again"),
    Key(
        "positions",
        "choice",
        "memories are told apart by their distance, or as SAM 2 tells prompted frames: not at all",
        choices=("current", "sam2"),
    ),
    *SEQUENCE_KEYS,
    Key("box_jitter", "number", "share of a side by which edges of boxes move in training", least=0, below=0.5),
    Key(
        "missing",
        "choice",
        "what becomes of a label without a box: the U-Net's mask is kept, or SAM is asked without a prompt",
        choices=("keep_unet", "ask"),
    ),
    Key(
        "schedule",
        "choice",
        "SGD with nnU-Net's polynomial decay, or AdamW with half a cosine",
        choices=("poly", "cosine"),
    ),
    Key(
        "true_boxes",
        "truth value",
        "of an evaluation of `joint`: ask step 1 with the boxes of the true masks in place of the U-Net's, the published upper "
        "bound; its scores have a folder of their own",
    ),
    Key("unet_checkpoint", "file", "model of `unet` to start from; null: the same fold's"),
    Key("output_dir", "path", "where the run writes; null: `models_unet/<dataset>/fold<k>` in the bundle", ("unet",)),
)

SYSTEM = System(
    name="rfmedsam2",
    title="RFMedSAM 2",
    reference="Automatic Prompt Refinement for Volumetric Segmentation with SAM 2 (Xie et al., arXiv 2502.02741)",
    labels="any",
    stages=(
        Stage(
            "unet",
            bundle="rfmedsam2",
            configs=("train", "unet"),
            outputs=("unet",),
            scored=False,
            settings=UNET,
            classes="classes",
            completed=("true_boxes", *SEQUENCES),
            short_schedule=6,
            rate=1e-4,
            loss=LOSS,
        ),
        Stage(
            "joint",
            bundle="rfmedsam2",
            outputs=("unet", "step1", "step2"),
            after=(("same", "unet"),),
            starts={"unet_checkpoint": "unet"},
            settings=UNET | ASKED,
            classes="classes",
            weights=("sam_checkpoint",),
            completed=("memory_grad", "box_jitter", "loss_weights", "true_boxes", *SEQUENCES),
            short_schedule=3,
            rate=1e-4,
            loss=LOSS,
        ),
    ),
    quick={
        "unet": {**SMALL, "schedule": "cosine", "epochs": 24, "val_interval": 6},
        "joint": {**SMALL, "schedule": "cosine", "variant": "lite_medsam", "epochs": 3},
    },
    keys=KEYS,
    weights={"LiteMedSAM": "ultrarefiner_monai.networks:lite_medsam_weights"},
    builder="ultrarefiner_monai.networks.rfmedsam2:build",
    describer="ultrarefiner_monai.networks.rfmedsam2:describe",
    resolver="ultrarefiner_monai.bundle.preflight.rfmedsam2:resolve_rfmedsam2",
    exporter="ultrarefiner_monai.networks.rfmedsam2:exported_parts",
    instead={"unet_checkpoint": "the U-Net starts untrained"},
)
