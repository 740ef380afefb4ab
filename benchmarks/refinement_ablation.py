"""What each choice of UltraRefiner's second phase is worth: one fold trained with it on the same coarse maps, a line each.

    OMP_NUM_THREADS=1 python benchmarks/refinement_ablation.py RELEASE OUT COARSE [--variants frozen tuned]

COARSE is the folder of phase 1 of a cross-validation (`phase1`), whose out-of-fold maps are refined. Validation images alone are
scored. The table goes to OUT/ablation.csv, the images' rows to OUT/VARIANT/val/per_image.csv.
"""

import argparse
from pathlib import Path
from typing import Any

from ablation import keys_of, train_and_score, write_table

VARIANTS: dict[str, dict[str, Any]] = {
    "frozen": {},
    "frozen_views": {"views": 8},
    "tuned": {"encoder": "tuned", "encoder_rate": 1e-4, "views": 1000},
    "tuned_without_views": {"encoder": "tuned", "encoder_rate": 1e-4},
    "lora": {"lora_rank": 8, "views": 1000},
}
COLUMNS = (
    *(
        f"{output}_{score}"
        for score in ("dice", "hd95", "boundary_iou", "false_lesions")
        for output in ("coarse", "refined")
    ),
    *("worse_share", "better_share"),
)


def main() -> None:
    """Do the variants in turn, and write the table of all that are done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("release")
    parser.add_argument("out", type=Path)
    parser.add_argument("coarse", type=Path)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=[*VARIANTS])
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--image_size", type=int, default=128)
    asked = parser.parse_args()
    keys = keys_of(asked) | {"variant": "lite_medsam", "batch_size": 8}
    keys |= {"learning_rate": 3e-4, "coarse_predictions": str(asked.coarse.resolve())}
    for variant in asked.variants:
        train_and_score("phase2", variant, {**keys, **VARIANTS[variant]}, asked.out, {"": {}}, {"": "val"})
    write_table(asked.out, VARIANTS, COLUMNS)


if __name__ == "__main__":
    main()
