"""What UniUltra's adapters are worth: one fold trained without them, with parts of them and with all.

    OMP_NUM_THREADS=1 python benchmarks/uniultra_ablation.py RELEASE OUT [VARIANT ...] [--fold 3] [--image_size 128] [--epochs 4]
        [--prompt_maps MAPS ...]

LiteMedSAM; validation images alone are scored, asked about with true boxes, moved ones and points, beside the ellipse line, and
with each folder of MAPS that is named (the folder of a cross-validation's stage). The table goes to OUT/ablation.csv.
"""

from pathlib import Path
from typing import Any

from ablation import command_line, keys_of, train_and_score, write_table

VARIANTS: dict[str, dict[str, Any]] = {
    "all": {},
    "decoder_only": {"adapter_ratio": 0},
    "context_only": {"edge": "none"},
    "magnitude": {"edge": "magnitude"},
}
TRUE = ("truth_box", "truth_box_10", "truth_point")
COLUMNS = ("mask_dice", "mask_hd95", "ellipse")


def main() -> None:
    """Do the variants in turn, and write the table of all that are done."""
    parser = command_line(str(__doc__), VARIANTS)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--prompt_maps", type=Path, nargs="*", default=[])
    asked = parser.parse_args()
    keys = keys_of(asked) | {"variant": "lite_medsam", "batch_size": 4}
    ways: dict[str, dict[str, Any]] = {source: {"prompt_source": source} for source in TRUE}
    automatic = {f"auto {maps.name}": {"prompt_source": "auto", "prompt_maps": str(maps)} for maps in asked.prompt_maps}
    ways |= automatic
    folders = {way: f"val_{more['prompt_source']}" for way, more in ways.items()}
    for variant in asked.variants or VARIANTS:
        train_and_score("adapt", variant, {**keys, **VARIANTS[variant]}, asked.out, ways, folders)
    write_table(asked.out, VARIANTS, COLUMNS)


if __name__ == "__main__":
    main()
