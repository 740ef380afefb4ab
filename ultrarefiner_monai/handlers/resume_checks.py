"""Whether a training may go on from a checkpoint: what has changed since, and what that means."""

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from ultrarefiner_monai.models.weights import CheckpointError, not_finite, read_torch

logger = logging.getLogger(__name__)


def read_finite(path: Path) -> dict[str, Any]:
    """The content of a checkpoint, none of whose numbers is NaN or infinite.

    Raises:
        CheckpointError: damaged, or an earlier version has saved such numbers.
    """
    found = read_torch(path)
    if name := not_finite({key: found[key] for key in ("network", "state")}):
        raise CheckpointError(f"{path}: {name} is not finite, so that nothing can be learnt from there; begin anew")
    return found


def compare_validation(path: Path, before: int | None, now: int | None) -> None:
    """Refuse another number of validation images: the best metric so far means nothing on others."""
    if before is not None and now is not None and before != now:
        raise CheckpointError(
            f"{path} was validated on {before} images, expected {now}: the best epoch of both cannot be told; "
            "start anew or restore the list of items"
        )


def compare_optimizers(path: Path, objects: Mapping[str, Any], saved: Mapping[str, Any]) -> None:
    """Refuse other options of an optimizer, such as its rate at the peak of the schedule: the saved ones would win in silence."""
    for name, optimizer in objects.items():
        if isinstance(optimizer, Optimizer):
            for option, before, now in _changed(optimizer.param_groups, saved[name].get("param_groups", ())):
                raise CheckpointError(
                    f"{path}: made with {option} = {before!r} of {name}, expected {now!r}; change it back, or begin anew "
                    "(--overwrite true)"
                )


def _changed(groups: Any, saved: Any) -> Iterator[tuple[str, Any, Any]]:
    """Options that differ: name, before, now. The rate itself moves with a schedule, whose peak is `initial_lr`."""
    for group, earlier in zip(groups, saved, strict=False):
        moved = {"params", "lr"} if "initial_lr" in group else {"params"}
        for option in (group.keys() & earlier.keys()) - moved:
            if group[option] != earlier[option]:
                name = "learning rate" if option in ("initial_lr", "lr") else option
                of = f" of group {group['name']}" if "name" in group else ""
                yield f"{name}{of}", earlier[option], group[option]


def compare_threads(path: Path, before: int | None) -> None:
    """Say that results depend on the number of threads: sums are taken in another order."""
    now = torch.get_num_threads()
    if before is not None and before != now:
        logger.warning(
            "%s: made with %d threads, going on with %d: the results differ in the last digits (OMP_NUM_THREADS=%d keeps them)",
            *(path, before, now, before),
        )


def keep_schedules(path: Path, objects: Mapping[str, Any], found: Mapping[str, Any], now: int | None) -> None:
    """Let schedules of iterations go on at the epoch, though it has now `now` iterations: other batches, processes or items.

    An epoch that was in progress is begun again then: its order of images is another one.
    """
    before, done = found.get("epoch_length"), found["epoch"]
    if before is None or now is None or before == now:
        return
    lengths = f"{before} iterations an epoch until epoch {done}, {now} from now on"
    for name, schedule in objects.items():
        steps = done * before + found.get("step", 0)
        if not isinstance(schedule, LRScheduler) or schedule.last_epoch != steps:
            continue  # it counts epochs
        if not isinstance(schedule, LambdaLR):
            raise CheckpointError(f"{path}: {lengths}, which {name} cannot follow; restore the batch size")
        logger.warning("%s: %s; the learning rate follows the same curve over the epochs", path, lengths)
        schedule.last_epoch = done * now - 1
        schedule.step()
