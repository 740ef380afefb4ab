"""A training whose first epochs are of the class prompts alone."""

from typing import TYPE_CHECKING

from ignite.engine import Engine, Events
from monai.engines import Evaluator
from monai.handlers import ValidationHandler

if TYPE_CHECKING:
    from ultrarefiner_monai.networks import AutoMedSam


class PromptsFirst(ValidationHandler):
    """Lets the class prompts learn alone, without SAM's decoder, in a training's first epochs, and validates after those.

    Args:
        network: what is trained, bare.
        epochs: number of the first epochs; they follow from the trainer's own count, so that a resumed training goes on right.
        validator: scores the network after the others.
        interval: epochs from one validation to the next, counted from the training's beginning.
    """

    def __init__(self, network: "AutoMedSam", epochs: int, validator: Evaluator, interval: int) -> None:
        super().__init__(interval, validator)
        self.network = network
        self.epochs = epochs

    def attach(self, engine: Engine) -> None:
        """Follow a trainer."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._choose)
        due = Events.EPOCH_COMPLETED(event_filter=lambda _, epoch: epoch > self.epochs and epoch % self.interval == 0)
        engine.add_event_handler(due, self)

    def _choose(self, engine: Engine) -> None:
        self.network.prompts_alone = engine.state.epoch <= self.epochs
