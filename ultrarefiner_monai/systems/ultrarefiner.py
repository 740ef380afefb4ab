"""UltraRefiner: a coarse network proposes a mask, differentiable prompts hand it to Segment Anything, both learn jointly."""

from ultrarefiner_monai.systems.system import Stage, System

PROMPTS = ("positive_points", "negative_points", "box", "mask", "box_margin")  # those that a client may change
REFINER = {
    "variant": "refiner.variant",
    "image_size": "refiner.image_size",
    "points": "refiner.prompt_positive_points",
    "fusion": "refiner.fusion_mode",
    "lora_rank": "refiner.lora_rank",
}
SMALL = {"batch_size": 8, "epochs": 2}

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
        ),
        Stage(
            "phase2",
            bundle="phase2",
            outputs=("coarse", "refined"),
            after=(("all", "phase1"),),
            feeds={"coarse_predictions": "phase1"},
            options=PROMPTS,
            settings=REFINER,
            weights=("sam_checkpoint",),
        ),
        Stage(
            "phase3",
            bundle="phase3",
            outputs=("coarse", "refined"),
            after=(("same", "phase1"), ("same", "phase2")),
            starts={"phase1_checkpoint": "phase1", "phase2_checkpoint": "phase2"},
            options=PROMPTS,
            settings={**REFINER, "coarse_variant": "coarse.variant", "coarse_size": "coarse.size"},
            weights=("sam_checkpoint",),
            short_schedule=6,
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
    builder="ultrarefiner_monai.networks.ultrarefiner:build",
    describer="ultrarefiner_monai.networks.ultrarefiner:describe",
    resolver="ultrarefiner_monai.bundle.preflight.networks:resolve",
    exporter="ultrarefiner_monai.deploy.export.parts:parts_of",
    instead={
        "phase1_checkpoint": "the coarse network starts untrained",
        "phase2_checkpoint": "the refiner starts from SAM's own weights",
        "coarse_predictions": "simulated errors of the true masks",
    },
)
