"""What Segment Anything is asked with: differentiable prompts of a soft mask; beside them `lesions`, a prompt for each lesion."""

from ultrarefiner_monai.networks.prompts.generator import (
    PromptGenerator,
    Prompts,
    expected_gaps,
    mask_logits,
    scale_gradient,
)

__all__ = ["PromptGenerator", "Prompts", "expected_gaps", "mask_logits", "scale_gradient"]
