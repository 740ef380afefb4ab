"""A joint training's coarse network: at rest at first, anchored, what reaches it by which path, and whether it gets worse."""

import logging
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from ignite.engine import Engine, Events
from monai.engines import SupervisedTrainer
from monai.engines.utils import IterationEvents
from torch import Tensor, nn
from torch.optim import Optimizer

from ultrarefiner_monai.models.card import card_or_empty
from ultrarefiner_monai.tracking.tracker import Tracker

if TYPE_CHECKING:
    from ultrarefiner_monai.networks import UltraRefiner

logger = logging.getLogger(__name__)

FALLEN = 0.02  # Dice; the change of an image's Dice that all our tables call worse


class CoarseRests:
    """Lets the refiner learn alone in a training's first epochs; the coarse network is in eval mode and gets no gradient.

    Args:
        network: what is trained, bare.
        epochs: number of the first epochs; they follow from the trainer's own count, so that a resumed training goes on right.
    """

    def __init__(self, network: "UltraRefiner", epochs: int) -> None:
        self.network = network
        self.epochs = epochs

    def attach(self, engine: Engine) -> None:
        """Follow a trainer."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._choose)

    def _choose(self, engine: Engine) -> None:
        self.network.coarse_rests = engine.state.epoch <= self.epochs


class Anchor:
    """Pulls a network back to where it was: adds the gradient of weight / 2 * |w - w0|^2 to that of each weight w before a step.

    w0 is what w is when this is made (L2-SP, Li, Grandvalet and Davoine, ICML 2018). Weights without a gradient stay free. The
    term is none of the loss: DistributedDataParallel takes gradients of what a forward pass has used alone.

    Args:
        network: whose trainable weights are pulled, on its device by now.
        optimizer: whose steps move them.
        weight: see above; 0: nothing is pulled.
    """

    def __init__(self, network: nn.Module, optimizer: Optimizer, weight: float) -> None:
        self.optimizer = optimizer
        self.weight = weight
        held = (value for value in network.parameters() if value.requires_grad and weight)
        self.held = [(value, value.detach().clone()) for value in held]

    def attach(self, _: Engine) -> None:
        """Follow the optimizer of a trainer."""
        self.optimizer.register_step_pre_hook(self._pull)

    def _pull(self, *_: Any) -> None:
        for value, first in self.held:
            if value.grad is not None:
                value.grad.add_(value.detach() - first, alpha=self.weight)


class GradientPaths:
    """Logs by which path the losses reach the coarse network: norms of their gradients at its logits.

    `gradient_coarse` is that of the coarse loss; that of the refined loss comes by the prompts (`gradient_points`,
    `gradient_box`, `gradient_mask`) and, where both masks become one, directly (`gradient_fusion`). Losses are not weighted
    yet. One batch tells it, or the first piece of it: the last of each epoch, so that a training that goes on within an epoch
    logs what one without a break does.

    Args:
        tracker: where the numbers go.
    """

    def __init__(self, tracker: Tracker) -> None:
        self.tracker = tracker
        self._norms: dict[str, float] = {}

    def attach(self, engine: Engine) -> None:
        """Follow a trainer whose network gives a Refinement and whose loss is a JointLoss."""
        engine.add_event_handler(Events.EPOCH_STARTED, lambda _: self._norms.clear())
        engine.add_event_handler(IterationEvents.LOSS_COMPLETED, self._measure)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._log)

    def _measure(self, engine: SupervisedTrainer) -> None:
        output: Any = engine.state.output
        logits = output["pred"].coarse_logits
        last = engine.state.iteration == engine.state.epoch * (engine.state.epoch_length or 0)
        if not last or self._norms or not logits.requires_grad:
            return
        loss: Any = engine.loss_function
        refined = loss.refined_loss(output["pred"], output["label"])
        prompts = output["pred"].prompts
        whole = _gradient(refined, logits)
        found = {"coarse": _gradient(loss.coarse_loss(logits, output["label"]), logits)}
        for name, prompt in (("points", prompts.points), ("box", prompts.boxes), ("mask", prompts.masks)):
            if prompt is not None:
                found[name] = _gradient(prompt, logits, _gradient(refined, prompt))
        found["fusion"] = whole - sum(value for name, value in found.items() if name != "coarse")
        self._norms = {f"gradient_{name}": float(value.norm()) for name, value in found.items()}

    def _log(self, engine: Engine) -> None:
        if self._norms and all(map(math.isfinite, self._norms.values())):  # a batch that was left out tells nothing
            self.tracker.log_metrics({f"train_{name}": norm for name, norm in self._norms.items()}, engine.state.epoch)


def _gradient(output: Tensor, source: Tensor, incoming: Tensor | None = None) -> Tensor:
    """Gradient of `output` with regard to `source`, zero where it does not depend on it; the graph stays."""
    found = torch.autograd.grad(output, source, incoming, retain_graph=True, allow_unused=True, materialize_grads=True)
    return found[0].detach().float()


class CoarseFalls:
    """Warns when a validation finds the coarse masks worse, by more than 0.02 Dice, than its weights gave them at first.

    Args:
        validator: the evaluator that the training validates with.
        checkpoint: model of phase 1 that the coarse network began with, whose card tells its Dice; None: nothing is compared.
    """

    def __init__(self, validator: Engine, checkpoint: str | None) -> None:
        self.validator = validator
        card = card_or_empty(Path(checkpoint).with_suffix(".json")) if checkpoint else {}
        before = (card.get("metric") or {}).get("coarse_dice")
        self.before: float = -math.inf if before is None else before

    def attach(self, _: Engine) -> None:
        """Follow the validations of a trainer."""
        self.validator.add_event_handler(Events.COMPLETED, self._look)

    def _look(self, engine: Engine) -> None:
        now = engine.state.metrics.get("coarse_dice")
        if now is not None and now < self.before - FALLEN:
            logger.warning(
                "the coarse masks have a Dice of %.4f, and had %.4f before the joint training: lower coarse_rate, raise anchor, "
                "or let the coarse network rest for more epochs (frozen_epochs)",
                now,
                self.before,
            )
