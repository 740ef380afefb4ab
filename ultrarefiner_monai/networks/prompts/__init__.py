"""What Segment Anything is asked with: differentiable prompts of a soft mask, and a prompt for each lesion of a mask."""

from ultrarefiner_monai.networks.prompts.components import (
    component_boxes,
    component_points,
    ellipse_dice,
    inscribed_ellipses,
    jittered,
)
from ultrarefiner_monai.networks.prompts.generator import (
    PromptGenerator,
    Prompts,
    expected_gaps,
    mask_logits,
    scale_gradient,
)
from ultrarefiner_monai.networks.prompts.lesions import (
    EMPTY_LOGIT,
    LesionPrompts,
    PromptKind,
    lesion_prompts,
    merge_masks,
    mixed_prompts,
)

__all__ = [
    "EMPTY_LOGIT",
    "LesionPrompts",
    "PromptGenerator",
    "PromptKind",
    "Prompts",
    "component_boxes",
    "component_points",
    "ellipse_dice",
    "expected_gaps",
    "inscribed_ellipses",
    "jittered",
    "lesion_prompts",
    "mask_logits",
    "merge_masks",
    "mixed_prompts",
    "scale_gradient",
]
