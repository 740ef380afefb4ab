"""What RFMedSAM 2's choices are worth: one fold of single images, trained from the same U-Net without each of them.

    OMP_NUM_THREADS=1 python benchmarks/rfmedsam2_ablation.py RELEASE OUT [VARIANT ...] --unet runs/BUSBRA/unet/fold0/model.pt
        [--fold 3] [--image_size 128] [--epochs 4]

LiteMedSAM; UNET is a TransUNet `tiny` trained on that fold by the stage `unet`. Validation images alone are scored, asked
with the U-Net's boxes and with true ones. The table goes to OUT/ablation.csv. `positions` and `window` tell nothing here: the
only memory of a single image is its own.
"""

from pathlib import Path
from typing import Any

from ablation import command_line, keys_of, train_and_score, write_table

VARIANTS: dict[str, dict[str, Any]] = {
    "all": {},
    "boxes_only": {"prompt_grad": False},
    "first_box_again": {"second_box": False},
    "no_adapters": {"adapters": "none"},
    "no_jitter": {"box_jitter": 0.0},
    "much_jitter": {"box_jitter": 0.2},
    "ask_without_box": {"missing": "ask"},
}
OUTPUTS = ("unet", "step1", "step2")
COLUMNS = (*(f"{output}_{metric}" for output in OUTPUTS for metric in ("dice", "hd95")), "worse_share", "better_share")


def main() -> None:
    """Do the variants in turn, and write the table of all that are done."""
    parser = command_line(str(__doc__), VARIANTS)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--unet", type=Path, required=True)
    asked = parser.parse_args()
    keys = keys_of(asked) | {"variant": "lite_medsam", "batch_size": 8}
    keys |= {"unet": "transunet", "unet_features": "tiny", "unet_checkpoint": str(asked.unet.resolve())}
    keys |= {"schedule": "cosine", "learning_rate": 3e-4}
    ways: dict[str, dict[str, Any]] = {"U-Net's boxes": {}, "true boxes": {"true_boxes": True}}
    folders = {"U-Net's boxes": "val", "true boxes": "val_truth_box"}
    for variant in asked.variants or VARIANTS:
        train_and_score("joint", variant, {**keys, **VARIANTS[variant]}, asked.out, ways, folders)
    write_table(asked.out, VARIANTS, COLUMNS)


if __name__ == "__main__":
    main()
