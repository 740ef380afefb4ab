"""A training of a student: beside its teacher, and with its decoder last."""

from typing import TYPE_CHECKING, Any

import torch
from ignite.engine import Engine, Events
from torch import Tensor, nn

from ultrarefiner_monai.losses import StudentParts
from ultrarefiner_monai.models.inferers import AutocastInferer
from ultrarefiner_monai.models.weights import bare

if TYPE_CHECKING:
    from ultrarefiner_monai.networks.uniultra import UniUltra


class StudentInferer(AutocastInferer):
    """Ask a student, and its teacher where the student's image encoder learns, what the loss needs: `StudentParts`.

    Args:
        teacher: which learns nothing.
        task: whether masks are wanted beside features.
        amp: bf16 autocast.
    """

    def __init__(self, teacher: "UniUltra", task: bool, amp: bool = False) -> None:
        super().__init__(amp)
        self.teacher = teacher
        self.task = task

    def _whole(self, inputs: Tensor, network: nn.Module, prompts: Any, **kwargs: Any) -> StudentParts:  # type: ignore[override]
        bare_network: Any = bare(network)
        encoder = bare_network.sam.image_encoder
        if not any(parameter.requires_grad for parameter in encoder.parameters()):
            return StudentParts(logits=super()._whole(inputs, network, prompts, **kwargs))
        student, logits = super()._whole(inputs, network, prompts if self.task else None, compare=True, **kwargs)
        with torch.no_grad():
            teacher, _ = super()._whole(inputs, self.teacher.encode)
        return StudentParts(student, teacher, logits)


class DecoderLast:
    """Lets a student's image encoder learn alone, and in a training's last epochs what is behind the encoder alone.

    Args:
        network: a UniUltra, bare; what is trainable in it when this is made is what learns.
        epochs: number of the first epochs; they follow from the trainer's own count, so that a resumed training goes on right.
    """

    def __init__(self, network: "UniUltra", epochs: int) -> None:
        sam: Any = network.sam
        inside = set(sam.image_encoder.parameters())
        learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
        self.encoder = [parameter for parameter in learning if parameter in inside]
        self.decoder = [parameter for parameter in learning if parameter not in inside]
        self.epochs = epochs

    def attach(self, engine: Engine) -> None:
        """Follow a trainer."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._choose)

    def _choose(self, engine: Engine) -> None:
        last = engine.state.epoch > self.epochs
        for parameters, learn in ((self.encoder, not last), (self.decoder, last)):
            for parameter in parameters:
                parameter.requires_grad_(learn)
                parameter.grad = None  # an optimizer moves what has a gradient, be it zero
