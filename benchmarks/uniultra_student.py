"""What distillation is worth: UniUltra's student taught by its teacher's features, by masks, or by both, on one fold.

    OMP_NUM_THREADS=1 python benchmarks/uniultra_student.py RELEASE OUT [VARIANT ...] --teacher runs/uniultra/all/model.pt
        [--fold 3] [--image_size 128] [--epochs 14]

The teacher is an adapted LiteMedSAM of that fold. Validation images alone are scored, asked about with true boxes and moved
ones; the teacher's own scores stand in the table of `uniultra_ablation.py`. The table goes to OUT/ablation.csv.
"""

from pathlib import Path
from typing import Any

from ablation import command_line, keys_of, train_and_score, write_table

ALONE = 1e6  # weight beside which features' terms count nothing; Adam does not see the scale of a loss
VARIANTS: dict[str, dict[str, Any]] = {
    "features": {},
    "masks": {"task_weight": ALONE},
    "features_and_masks": {"task_weight": 1.0},
    "features_averaged": {"weight_average": 0.995},  # over the last two epochs of 114 steps
    "features_then_decoder": {"epochs": 18, "finetune_epochs": 4},  # 14 epochs of "features" first
}
TRUE = ("truth_box", "truth_box_10")
COLUMNS = ("mask_dice", "mask_hd95", "ellipse")


def main() -> None:
    """Do the variants in turn, and write the table of all that are done."""
    parser = command_line(str(__doc__), VARIANTS)
    parser.add_argument("--epochs", type=int, default=14)
    parser.add_argument("--teacher", type=Path, required=True)
    asked = parser.parse_args()
    keys = keys_of(asked) | {"batch_size": 4, "teacher_checkpoint": str(asked.teacher.resolve())}
    alone: dict[str, Any] = {"teacher_checkpoint": None}  # an evaluation is of the student, which needs no teacher
    ways = {source: alone | {"prompt_source": source} for source in TRUE}
    for variant in asked.variants or VARIANTS:
        train_and_score(
            "distill", variant, {**keys, **VARIANTS[variant]}, asked.out, ways, {way: f"val_{way}" for way in TRUE}
        )
    write_table(asked.out, VARIANTS, COLUMNS)


if __name__ == "__main__":
    main()
