"""Two processes of one training decide together: what one of them finds, or is told, holds for both."""

import math
import os
import signal

import pytest
import torch.distributed as dist
from ignite.engine import Events
from interrupted import saved
from torch.nn.parallel import DistributedDataParallel

from ultrarefiner_monai.handlers import CheckpointHandler
from ultrarefiner_monai.handlers.steps import NonFiniteError, TrainingStep


@pytest.fixture
def in_two(make_run, tmp_path, fork):
    """Train in two processes of which the second one is disturbed by `disturb(run)`; both exit codes and what each said."""

    def together(disturb, **arguments):
        def child(rank):
            dist.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=rank, world_size=2)
            run = make_run(2, **arguments)
            run.trainer.network = DistributedDataParallel(run.network)
            run.evaluator.add_event_handler(
                Events.COMPLETED, lambda engine: engine.state.metrics.update(refined_dice=0.5)
            )
            state = run.state | {"step": run.step}
            CheckpointHandler(tmp_path / "run", state, run.network, {}).attach(run.trainer, run.evaluator)
            if rank == 1:
                disturb(run)
            try:
                run.trainer.run()
            except NonFiniteError as error:
                (tmp_path / f"said{rank}").write_text(str(error))
                raise
            finally:
                (tmp_path / f"steps{rank}").write_text(f"{run.trainer.state.iteration} {run.step.skipped}")

        children = [fork(lambda rank=rank: child(rank)) for rank in (0, 1)]
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        return codes, [(tmp_path / f"steps{rank}").read_text() for rank in (0, 1)]

    return together


def spoil(run):
    """The second batch of this process has a NaN."""

    @run.trainer.on(Events.ITERATION_STARTED(once=2))
    def plant(engine):
        engine.state.batch["image"][0, 0, 2, 2] = math.nan


@pytest.mark.fault(6)
def test_an_image_of_one_process_is_named_by_both(in_two, tmp_path):
    codes, steps = in_two(spoil)
    said = [(tmp_path / f"said{rank}").read_text() for rank in (0, 1)]
    assert codes == [1, 1] and steps == ["2 1", "2 1"]
    assert said[0] == said[1] and "epoch 1, step 2: the input is not finite, images case" in said[0]


@pytest.mark.fault(6)
def test_both_leave_the_batch_out(in_two, tmp_path):
    assert in_two(spoil, step=TrainingStep("skip")) == ([0, 0], ["6 1", "6 1"])


@pytest.mark.fault(4)
def test_a_signal_to_one_process_ends_both_after_the_same_step(in_two, tmp_path):
    def stop(run):
        run.trainer.add_event_handler(Events.ITERATION_STARTED(once=4), lambda _: os.kill(os.getpid(), signal.SIGTERM))

    assert in_two(stop) == ([143, 143], ["4 0", "4 0"])
    found = saved(tmp_path / "run")
    assert (found["epoch"], found["step"], len(found["random"])) == (1, 1, 2)
