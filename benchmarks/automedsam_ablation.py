"""What each choice of AutoMedSAM is worth: one fold trained without it, a line of the table each.

    OMP_NUM_THREADS=1 python benchmarks/automedsam_ablation.py RELEASE OUT [VARIANT ...] [--fold 3] [--image_size 128]

"all" is the system as it is. "random_class" asks each image in training for one class at random, with an empty mask as the
answer where it is the wrong one. Validation images alone are scored. The table goes to OUT/ablation.csv.
"""

from typing import Any

import torch
from ablation import command_line, keys_of, train_and_score, write_table
from torch import Tensor

from ultrarefiner_monai.losses import ClassMaskLoss
from ultrarefiner_monai.networks import AutoMedSam
from ultrarefiner_monai.networks.automedsam import ClassMasks

WITH_DECODER, EPOCHS = 4, 12  # the first 8 are of the prompts alone
VARIANTS: dict[str, dict[str, Any]] = {
    "all": {},
    "one_class": {"classes": "lesion"},
    "no_residual": {"residual": False},
    "no_transfer": {"transfer": 0.0},
    "no_image_class": {"image_class": 0.0},
    "no_class_head": {"class_head": False},
    "fixed_weights": {"weighting": "fixed"},
    "kendall": {"weighting": "kendall"},
    "scalar_class": {"class_mode": "scalar"},
    "no_noise": {"steps": 0},
    "published_drift": {"steps": 100, "drift": "sum"},
    "frozen_decoder": {"train_decoder": False},
    "no_prompts_first": {"prompt_share": 0.0, "epochs": WITH_DECODER},
    "stride_2": {"stride": 2},
    "one_view": {"views": 1},
    "tuned_encoder": {"encoder": "tuned", "prompt_share": 0.0, "epochs": WITH_DECODER, "views": 1000},
    "random_class": {
        "network_def#_target_": "automedsam_ablation.RandomClass",
        "loss#_target_": "automedsam_ablation.RandomClassLoss",
        "image_class": 0.0,
        "class_head": False,
    },
}
COLUMNS = ("mask_dice", "mask_hd95", "mask_dice_benign", "mask_dice_malignant", "mask_accuracy", "mask_auc")


class RandomClass(AutoMedSam):
    """In training each image is asked for one class, drawn at random; its number travels with the parts to the loss."""

    def forward(
        self, image: Tensor, embedding: Tensor | None = None, return_parts: bool = False
    ) -> Tensor | ClassMasks:
        """As AutoMedSam, but with logits (B, 1, S, S) of the class drawn, plus its number in `iou` (B, 2), in training."""
        parts = super().forward(image, embedding, return_parts)
        if not self.training or not isinstance(parts, ClassMasks):
            return parts
        drawn = torch.randint(parts.logits.shape[1], (len(image),))
        rows = torch.arange(len(image))
        one = [part[rows, drawn][:, None] for part in (parts.logits, parts.iou, parts.sparse, parts.dense)]
        return ClassMasks(one[0], torch.cat([one[1], 1.0 + drawn[:, None]], 1), one[2], one[3])


class RandomClassLoss(ClassMaskLoss):
    """The loss of a network of one class, against the mask of the class that was drawn."""

    def forward(self, parts: ClassMasks, target: Tensor) -> Tensor:
        """See `ClassMaskLoss`; `parts` are those of `RandomClass`."""
        return super().forward(parts, (target == parts.iou[:, 1].view(-1, 1, 1, 1)).float())


def main() -> None:
    """Do the variants in turn, and write the table of all that are done."""
    parser = command_line(str(__doc__), VARIANTS)
    asked = parser.parse_args()
    keys = keys_of(asked) | {"classes": "benign+malignant", "variant": "lite_medsam", "batch_size": 8, "views": 10}
    keys |= {"epochs": EPOCHS, "prompt_share": 1 - WITH_DECODER / EPOCHS}
    for variant in asked.variants or VARIANTS:
        train_and_score("automedsam", variant, {**keys, **VARIANTS[variant]}, asked.out, {"": {}}, {"": "val"})
    write_table(asked.out, VARIANTS, COLUMNS)


if __name__ == "__main__":
    main()
