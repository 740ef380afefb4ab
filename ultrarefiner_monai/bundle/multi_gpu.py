"""Several processes, one device each (`multi_gpu_train.json`)."""

import os
from pathlib import Path

import torch
import torch.distributed as dist
from ignite.engine import Events
from monai.engines import SupervisedTrainer
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data.distributed import DistributedSampler

from ultrarefiner_monai.devices import rank
from ultrarefiner_monai.handlers.failure import fail, on_failure
from ultrarefiner_monai.handlers.run_report import report_for_another
from ultrarefiner_monai.peers import PeerError, join_peers, peers
from ultrarefiner_monai.tracking import Tracker


def start_process_group() -> None:
    """Join the processes that `torchrun` started: nccl with CUDA, else gloo.

    Raises:
        SystemExit: not started by `torchrun`.
    """
    if "LOCAL_RANK" not in os.environ:
        raise SystemExit(
            "multi_gpu_train.json needs torchrun: torchrun --standalone --nproc_per_node=2 -m monai.bundle run ..."
        )
    store, own_rank, size = next(dist.rendezvous("env://"))
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, store=store, rank=own_rank, world_size=size)
    join_peers(store, own_rank, size)


def end_with_peers(trainer: SupervisedTrainer, tracker: Tracker, folder: Path) -> None:
    """End the run of `trainer` as failed when another process of the training is lost, also that of rank 0 in its place.

    Attach it last: what it does comes after the trainer's own ends. A training of one process has no others.
    """
    group = peers()
    if group is None:
        return
    group.when_lost(lambda error: fail(trainer, error))
    trainer.add_event_handler(Events.COMPLETED, lambda _: group.note(SystemExit(0)))

    def stand_in(error: BaseException) -> None:
        if isinstance(error, PeerError) and error.is_gone and error.rank == 0 and rank() == 1:
            report_for_another(folder, error)
            tracker.finish_for_another("FAILED")

    on_failure(trainer, stand_in)


def process_device() -> torch.device:
    """The device of this process."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    return torch.device("cuda", int(os.environ["LOCAL_RANK"]))


def distributed(network: nn.Module) -> DistributedDataParallel:
    """Wrap `network` so that gradients are averaged over all processes.

    Parts that a batch happens not to use (an empty prompt) leave parameters without a gradient, hence the search for them.
    """
    return DistributedDataParallel(network, find_unused_parameters=True)


def average_gradients(module: nn.Module) -> None:
    """Average the gradients of a loss's learned weights over all processes, as DistributedDataParallel does for networks."""
    for parameter in module.parameters():
        parameter.register_hook(_mean_over_processes)


def _mean_over_processes(gradient: torch.Tensor) -> torch.Tensor:
    gradient = gradient.clone()
    dist.all_reduce(gradient)
    return gradient / dist.get_world_size()


def shuffle_each_epoch(trainer: SupervisedTrainer, sampler: DistributedSampler) -> None:
    """Let `sampler` draw another order for every epoch of `trainer`."""
    trainer.add_event_handler(Events.EPOCH_STARTED, lambda engine: sampler.set_epoch(engine.state.epoch))
