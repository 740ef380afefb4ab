"""UniUltra: adapters teach the frozen image encoder of Segment Anything ultrasound, prompts say which lesions are meant."""

from dataclasses import replace

from ultrarefiner_monai.systems.key import Key
from ultrarefiner_monai.systems.sam_keys import CHECKPOINT, IMAGE_SIZE, SAM_VERSION, VARIANT
from ultrarefiner_monai.systems.system import PROMPT_MAPS, PROMPT_SOURCE, TEACHER, Stage, System

SAMS = ("large", "base_plus", "small", "tiny", "mini", "lite_medsam")
NETWORK = {key: f"sam.{key}" for key in ("variant", "image_size", "adapter_ratio", "adapter_scale", "edge")}
NETWORK["sam_version"] = "sam.version"
KEYS = (
    replace(
        VARIANT, choices=SAMS, stages=("adapt",), meaning="SAM 2, or LiteMedSAM; `mini` has random weights, for tests"
    ),
    replace(
        VARIANT,
        choices=(*SAMS, "lite_mini"),
        stages=("distill",),
        meaning="the teacher's, or its student's own: `lite_mini` of LiteMedSAM, else `mini`; null: as the teacher's card says",
    ),
    replace(IMAGE_SIZE, stages=("adapt",)),
    replace(IMAGE_SIZE, stages=("distill",), meaning="side of the network's input in pixels; null: the teacher's"),
    Key(
        "output_dir",
        "path",
        "where the run writes; null: `models_distill/<dataset>/fold<k>` in the bundle",
        ("distill",),
    ),
    replace(
        CHECKPOINT,
        meaning="official SAM 2 weights (.pt); null: LiteMedSAM's for that variant; `random`: none. A student has its teacher's",
    ),
    SAM_VERSION,
    Key("adapter_ratio", "number", "width of an adapter as a share of its block's; 0: no adapters", least=0, most=4),
    Key("adapter_scale", "number", "factor of what an adapter adds", least=0),
    Key(
        "edge",
        "choice",
        "edges that adapters see: four directions, the published code's magnitudes, or none",
        choices=("directions", "magnitude", "none"),
    ),
    Key(
        "trainable",
        "choice",
        "outside of the image encoder (of a student in its last epochs): what masks depend on, or all",
        choices=("used", "all_outside"),
    ),
    Key(
        PROMPT_SOURCE,
        "choice",
        "lesions that are asked about in validation and test: the true ones by a box, a box moved by up to 10 % of its side, or "
        "a point; those of `prompt_maps`, by a box",
        choices=("truth_box", "truth_box_10", "truth_point", "auto"),
    ),
    Key(
        PROMPT_MAPS,
        "path",
        "for `auto`: any model's maps of the same data set, as a cross-validation leaves them in the folder of a stage",
    ),
    Key(
        "balance",
        "choice",
        "of a combined data set an epoch has each image once, or each data set equally often",
        choices=("image", "dataset"),
    ),
    Key(TEACHER, "file", "model of `adapt` that the student learns from; null: the same fold's"),
    Key(
        "levels",
        "choice",
        "features that student and teacher are compared by: nine maps of three stages, those of the neck, or the decoder's "
        "input, which is all that a LiteMedSAM teacher has; null: the first that the teacher allows",
        choices=("deep", "fpn", "embedding"),
    ),
    Key("task_weight", "number", "weight of the mask loss beside the features'; 0: as published", least=0),
    Key(
        "finetune_epochs",
        "whole number",
        "last epochs, in which the decoder learns masks in the encoder's place",
        least=0,
    ),
    Key("learning_rate", "number", "Adam's, of the first epoch", above=0),
    Key(
        "decoder_rate",
        "number",
        "learning rate of what learns in a student's last epochs, in the first of them",
        above=0,
    ),
    Key("rate_decay", "number", "factor of the learning rate from one epoch to the next", above=0, most=1),
)

SYSTEM = System(
    name="uniultra",
    title="UniUltra",
    reference="Interactive Parameter-Efficient SAM2 for Universal Ultrasound (Li et al., arXiv 2511.15771)",
    prompts="required",
    stages=(
        Stage(
            "adapt",
            bundle="uniultra",
            outputs=("mask",),
            settings=NETWORK,
            prompted=True,
            completed=("prompt_mix",),
            weights=("sam_checkpoint",),
            short_schedule=3,
            rate=1e-5,
            loss={"_target_": "ultrarefiner_monai.losses.UltrasoundMaskLoss"},
        ),
        Stage(
            "distill",
            bundle="uniultra",
            configs=("train", "distill"),
            outputs=("mask",),
            after=(("same", "adapt"),),
            starts={TEACHER: "adapt"},
            settings=NETWORK,
            prompted=True,
            completed=("levels", "finetune_epochs", "prompt_mix", "sam_checkpoint"),
            short_schedule=12,
            rate=1e-5,
            loss={"_target_": "ultrarefiner_monai.losses.UltrasoundMaskLoss"},
        ),
    ),
    quick={
        "adapt": {"variant": "lite_medsam", "image_size": 128, "batch_size": 4, "epochs": 3},
        "distill": {"variant": "lite_medsam", "image_size": 128, "batch_size": 4, "epochs": 12, "val_interval": 12},
    },
    keys=KEYS,
    weights={"LiteMedSAM": "ultrarefiner_monai.networks:lite_medsam_weights"},
    builder="ultrarefiner_monai.networks.uniultra:build",
    describer="ultrarefiner_monai.networks.uniultra:describe",
    resolver="ultrarefiner_monai.bundle.preflight.networks:resolve_uniultra",
    exporter="ultrarefiner_monai.networks.uniultra:exported_parts",
)
