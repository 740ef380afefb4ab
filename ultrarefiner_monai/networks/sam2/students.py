"""The SAMs that UniUltra is made of, by name: LiteMedSAM, SAM 2, and their students."""

import torch

from ultrarefiner_monai.networks.sam import Sam, build_sam
from ultrarefiner_monai.networks.sam2.build import build_sam2
from ultrarefiner_monai.networks.sam2.hiera import HieraEmbedding
from ultrarefiner_monai.networks.sam2.model import Sam2
from ultrarefiner_monai.networks.sam2.variants import IMAGE_SIZE

LITE_MEDSAM = "lite_medsam"  # the one SAM 1 that adapters are known for
MINI, LITE_MINI = "mini", "lite_mini"  # students of SAM 2, and of LiteMedSAM


def build_prompted(
    variant: str, image_size: int | None = None, checkpoint: str | None = None, version: str | None = None
) -> Sam | Sam2:
    """LiteMedSAM, a SAM 2, or a student's SAM by name, see `build_sam` and `build_sam2`.

    `lite_mini` has LiteMedSAM's prompt encoder and mask decoder, and for its image encoder a `HieraEmbedding`.

    Raises:
        ValueError: as these.
        FileNotFoundError: no such checkpoint.
    """
    if variant == LITE_MEDSAM:
        return build_sam(variant, image_size, checkpoint)
    if variant == LITE_MINI:
        sam = build_sam(LITE_MEDSAM, image_size)
        sam.image_encoder, sam.variant = HieraEmbedding(MINI, sam.image_size), variant
        return sam.eval()
    return build_sam2(variant, image_size or IMAGE_SIZE, checkpoint, version)


def student_of(variant: str) -> str:
    """Variant of the student of a teacher of `variant`; of a student itself its own."""
    return LITE_MINI if variant in (LITE_MEDSAM, LITE_MINI) else MINI


def copy_decoder(teacher: Sam | Sam2, student: Sam | Sam2) -> None:
    """Write what is behind a teacher's image encoder, prompt encoder and mask decoder above all, into its student.

    Of SAM 2.0 and 2.1 what both have: their memories differ, which still images do not use.
    """
    encoder = next(f"{name}." for name, module in student.named_modules() if module is student.image_encoder)
    taught = teacher.state_dict()
    with torch.no_grad():
        for name, tensor in student.state_dict().items():
            if name in taught and not name.startswith(encoder):
                tensor.copy_(taught[name])
