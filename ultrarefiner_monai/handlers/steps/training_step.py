"""One step of a training: gradients of a batch, in pieces where memory is short, and an update where all is finite."""

import logging
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any, Literal

import torch
import torch.distributed as dist
from monai.engines import SupervisedTrainer
from monai.engines.utils import IterationEvents
from torch import Tensor

from ultrarefiner_monai.devices import gather, largest, out_of_memory
from ultrarefiner_monai.errors import DataError, shown
from ultrarefiner_monai.handlers.random_states import capture_random_states, restore_random_states
from ultrarefiner_monai.handlers.steps.micro_batches import pieces, weighted
from ultrarefiner_monai.models.inferers import OutOfMemoryError, halved
from ultrarefiner_monai.models.weights import bare

logger = logging.getLogger(__name__)

SHOWN = 10  # ids of a batch that one line can name
ADVICE = (
    "the last checkpoint is intact (--resume true); correct the images, begin anew with a lower learning rate, or leave such "
    "batches out by --non_finite skip"
)


class NonFiniteError(DataError):
    """A loss, an input or a gradient is NaN or infinite, and nothing was learnt from it."""


class TrainingStep:
    """MONAI's supervised step (an `iteration_update`) that neither learns from NaN nor ends where a batch needs too much memory.

    Where memory runs out the batch is taken again in pieces of half the size, for the rest of the run, down to one image.
    The gradients of the pieces, weighted by their images, add up to those of the batch for every loss that is a mean over
    images, as all of this package are; batch normalisation sees the pieces alone.

    An update that is not finite is not made. `engine.state.output` has `loss`, and `skipped` where the update was left out;
    `image`, `label` and `pred` are those of the last piece. A gradient scaler leaves out infinite gradients by itself, as it
    must while it looks for its scale: with one, only inputs and the loss are looked at.

    Several processes decide together, in one scalar a step, which `engine.state.stop` shares: the largest
    `engine.state.asked` of them, the number of the signal that asks for an end.

    Args:
        non_finite: "stop" ends the run; "skip" leaves the batch out, its effect on batch normalisation included, and ends the
            run when every batch of an epoch's length was left out. The schedule counts a batch that was left out.
        micro_batch: images that are in memory at once; None is the whole batch.
    """

    def __init__(self, non_finite: Literal["stop", "skip"] = "stop", micro_batch: int | None = None) -> None:
        self.non_finite = non_finite
        self.micro_batch = micro_batch
        self.skipped = 0  # batches of the whole training
        self._in_a_row = 0

    def state_dict(self) -> dict[str, Any]:
        """What a resumed training needs."""
        return {"micro_batch": self.micro_batch, "skipped": self.skipped, "in_a_row": self._in_a_row}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on; of two sizes the smaller one is known to fit."""
        sizes = [size for size in (self.micro_batch, state["micro_batch"]) if size]
        self.micro_batch = min(sizes, default=None)
        self.skipped, self._in_a_row = state["skipped"], state["in_a_row"]

    def __call__(self, engine: SupervisedTrainer, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Learn from one batch."""
        engine.network.train()
        buffers = [(buffer, buffer.clone()) for buffer in bare(engine.network).buffers()]
        finite = self._gradients(engine, batch, buffers)
        engine.fire_event(IterationEvents.BACKWARD_COMPLETED)
        faulty, stop = largest(float(not finite), float(getattr(engine.state, "asked", 0)))
        engine.state.stop = int(stop)
        if faulty:
            self._leave_out(engine, batch)
            _put_back(buffers)
            engine.state.output["skipped"] = True
        else:
            self._in_a_row = 0
            _update(engine)
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return engine.state.output

    def _gradients(self, engine: SupervisedTrainer, batch: Mapping[str, Any], buffers: list) -> bool:
        """Compute them, in smaller pieces if need be; whether all is finite."""
        random, images = capture_random_states(), len(batch["image"])
        while True:
            size = min(self.micro_batch or images, images)
            try:
                return _accumulate(engine, pieces(batch, size))
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                del error
            # Out of the handler, which would keep alive what the failed attempt holds.
            self.micro_batch = _smaller(size, engine.state.device)
            _put_back(buffers)
            restore_random_states(random)

    def _leave_out(self, engine: SupervisedTrainer, batch: Mapping[str, Any]) -> None:
        """Say which images it was, and end the run unless such batches are left out."""
        found = gather(_what_is_wrong(engine, batch))
        what = min((name for name, _ in found if name), key=_CULPRITS.index)
        names = shown([name for kind, names in found if kind == what for name in names], SHOWN)
        length = engine.state.epoch_length or 0
        step = (engine.state.iteration - 1) % length + 1 if length else engine.state.iteration
        line = f"epoch {engine.state.epoch}, step {step}: {what} not finite, images {names}"
        self.skipped, self._in_a_row = self.skipped + 1, self._in_a_row + 1
        if self.non_finite == "stop":
            raise NonFiniteError(f"{line}; {ADVICE}")
        if self._in_a_row >= length:
            raise NonFiniteError(f"{line}; the last {self._in_a_row} batches, a whole epoch, were left out; {ADVICE}")
        logger.warning("%s; the batch is left out (%d so far)", line, self.skipped)


def _smaller(size: int, device: torch.device) -> int:
    """How many images to try after `size` did not fit."""
    if size > 1 and dist.is_available() and dist.is_initialized():  # the others wait for this one's gradients
        raise OutOfMemoryError(
            f"out of memory on {device} with {size} images at once, which several processes cannot change while they run; "
            f"set --micro_batch {size // 2}"
        )
    return halved(size, device)


def _accumulate(engine: SupervisedTrainer, batches: list[tuple[Mapping[str, Any], float]]) -> bool:
    """Fill the gradients from pieces and their shares of the batch; whether inputs, loss and gradients are finite."""
    engine.optimizer.zero_grad(set_to_none=engine.optim_set_to_none)
    scaler = getattr(engine, "scaler", None)
    finite, losses, parts = [], [], []
    for number, (piece, share) in enumerate(batches, 1):
        # Processes exchange gradients once, with the last piece.
        quiet = getattr(engine.network, "no_sync", nullcontext) if number < len(batches) else nullcontext
        with quiet():
            loss = _forward(engine, piece)
            (loss * share if scaler is None else scaler.scale(loss * share)).backward()
        finite += [torch.isfinite(part.as_subclass(Tensor)).all() for part in (loss, *_inputs(engine))]
        losses.append((loss.detach(), share))
        parts.append((getattr(engine.loss_function, "components", {}), share))
    if len(batches) > 1:
        engine.state.output["loss"] = sum(loss * share for loss, share in losses)
        vars(engine.loss_function)["components"] = weighted(parts)
    if scaler is None:
        finite.append(torch.isfinite(_largest_gradient(engine.optimizer)))
    return bool(torch.stack(finite).all())


def _forward(engine: SupervisedTrainer, piece: Mapping[str, Any]) -> Tensor:
    """The loss of a piece, which `engine.state.output` has too."""
    inputs, target, *more = engine.prepare_batch(piece, engine.state.device, engine.non_blocking, **engine.to_kwargs)
    args, kwargs = more or ((), {})
    engine.state.output = output = {"image": inputs, "label": target}
    with torch.autocast("cuda", **engine.amp_kwargs) if getattr(engine, "scaler", None) else nullcontext():
        output["pred"] = engine.inferer(inputs, engine.network, *args, **kwargs)
        engine.fire_event(IterationEvents.FORWARD_COMPLETED)
        output["loss"] = engine.loss_function(output["pred"], target).mean()
        engine.fire_event(IterationEvents.LOSS_COMPLETED)
    return output["loss"]


def _inputs(engine: SupervisedTrainer) -> list[Tensor]:
    """What the network and the loss were given."""
    output: Any = engine.state.output
    return [output["image"], output["label"]]


def _largest_gradient(optimizer: torch.optim.Optimizer) -> Tensor:
    """Largest magnitude among the gradients; NaN where there is one."""
    parameters = (parameter for group in optimizer.param_groups for parameter in group["params"])
    return torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None], norm_type=torch.inf)


def _update(engine: SupervisedTrainer) -> None:
    if scaler := getattr(engine, "scaler", None):
        scaler.step(engine.optimizer)
        scaler.update()
    else:
        engine.optimizer.step()


def _put_back(buffers: list[tuple[Tensor, Tensor]]) -> None:
    """Undo what a forward pass did to the running statistics."""
    for buffer, before in buffers:
        buffer.copy_(before)


_CULPRITS = ("the input is", "the loss is", "the gradients are", "nothing is")


def _what_is_wrong(engine: SupervisedTrainer, batch: Mapping[str, Any]) -> tuple[str, list[str]]:
    """What is not finite in this process, the cause before its effects, and the ids of the images."""
    names = [str(name) for name in batch.get("id", range(len(batch["image"])))]
    tensors = [value.as_subclass(Tensor).float() for value in batch.values() if isinstance(value, Tensor)]
    images = [value.flatten(1).isfinite().all(1) for value in tensors if value.ndim > 1 and len(value) == len(names)]
    if faulty := [name for name, good in zip(names, torch.stack(images).all(0).tolist(), strict=True) if not good]:
        return "the input is", faulty
    if not torch.isfinite(engine.state.output["loss"]).all():  # type: ignore[index]
        return "the loss is", names
    finite = torch.isfinite(_largest_gradient(engine.optimizer))
    return ("nothing is", []) if finite else ("the gradients are", names)
