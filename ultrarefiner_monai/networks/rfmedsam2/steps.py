"""What RFMedSAM 2 says of N frames: a mask a step and label."""

from typing import NamedTuple

from torch import Tensor

from ultrarefiner_monai.networks.label_logits import any_label, each_label


class Steps(NamedTuple):
    """Masks of N frames, from the first step to the last.

    `masks`: step -> logits l_1..l_K (N, K, S, S) of the labels against a background of zero; `heads`: the U-Net's further
    heads for deep supervision, the finest first, (N, K, s, s) each; `names` of the labels, none where there is but one.
    """

    masks: dict[str, Tensor]
    heads: tuple[Tensor, ...] = ()
    names: tuple[str, ...] = ()

    @property
    def outputs(self) -> dict[str, Tensor]:
        """The mask of each step by name: logits (N, 1, S, S) of any label."""
        return {name: any_label(logits) for name, logits in self.masks.items()}

    @property
    def last(self) -> Tensor:
        """Logits (N, K, S, S) of the last step."""
        return list(self.masks.values())[-1]

    @property
    def classes(self) -> dict[str, Tensor]:
        """The probability of each label by name as a logit (N, 1, S, S) of its own, from the last step."""
        return dict(zip(self.names, each_label(self.last).split(1, 1), strict=False))
