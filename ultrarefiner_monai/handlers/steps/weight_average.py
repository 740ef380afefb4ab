"""A moving average of the weights, which is what a training validates and saves."""

from typing import Any

from ignite.engine import Engine, Events
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import get_ema_multi_avg_fn

RUNNING = ("running_mean", "running_var")  # statistics of a normalisation, by the end of their names


class WeightAverage:
    """Exponential moving average of a network's weights over the steps; validation and the saved model see the average.

    After step n the average a becomes d a + (1 - d) w, with d = min(decay, (1 + n) / (10 + n)), so that where the training
    began is soon forgotten (Polyak and Juditsky 1992; Tarvainen and Valpola, arXiv 1703.01780). Averaged is what the optimizer
    holds, and the running statistics of normalisations; all else does not move.

    Attach it after the handler that validates and before the one that saves checkpoints. During a validation the weights are
    exchanged without a copy, so that whoever holds the tensors of before still holds the weights of the training.

    Args:
        network: what is trained, bare.
        optimizer: of the training.
        decay: the largest d, in (0, 1).
    """

    def __init__(self, network: nn.Module, optimizer: Optimizer, decay: float) -> None:
        moved = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
        learning = [(name, value) for name, value in network.named_parameters() if id(value) in moved]
        statistics = [(name, value) for name, value in network.named_buffers() if name.endswith(RUNNING)]
        self.decay = decay
        self.steps = 0
        self.live: dict[str, Tensor] = dict([*learning, *statistics])
        self.average = {name: value.detach().clone() for name, value in self.live.items()}
        self._exchanged = False

    def state_dict(self) -> dict[str, Any]:
        """Number of steps, and the average by name."""
        return {"steps": self.steps, "average": dict(self.average)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint.

        Raises:
            RuntimeError: the average of another network.
        """
        found = state["average"]
        shapes, expected = ({name: value.shape for name, value in one.items()} for one in (found, self.average))
        if shapes != expected:
            raise RuntimeError("an average of other weights than those that learn here")
        self.steps = state["steps"]
        for name, value in self.average.items():
            value.copy_(found[name])

    def attach(self, trainer: Engine, evaluator: Engine) -> None:
        """Follow a trainer; `evaluator` is the one that its handlers validate with."""
        trainer.add_event_handler(Events.ITERATION_COMPLETED, self._update)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda _: self._exchange(False))
        evaluator.add_event_handler(Events.STARTED, lambda _: self._exchange(True))

    def _update(self, _: Engine) -> None:
        self.steps += 1
        add = get_ema_multi_avg_fn(min(self.decay, (1 + self.steps) / (10 + self.steps)))
        add(list(self.average.values()), [value.detach() for value in self.live.values()], self.steps)

    def _exchange(self, wanted: bool) -> None:
        """Let the network have the average, or have its own weights back."""
        if wanted is self._exchanged:
            return
        for name, value in self.live.items():
            value.data, self.average[name] = self.average[name], value.data
        self._exchanged = wanted
