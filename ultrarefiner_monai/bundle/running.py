"""What the ``initialize`` and ``run`` expressions of the bundles do."""

import json
import os
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Events
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from torch import nn

from ultrarefiner_monai import __version__
from ultrarefiner_monai.bundle.errors import one_line_errors
from ultrarefiner_monai.bundle.keys import running_parser
from ultrarefiner_monai.bundle.plan import Plan
from ultrarefiner_monai.bundle.release import EXCLUDED, write_excluded
from ultrarefiner_monai.bundle.start import load_trained
from ultrarefiner_monai.data.files import file_sha256, write_atomically
from ultrarefiner_monai.data.numbers import finite
from ultrarefiner_monai.handlers import CheckpointHandler, RunReport, Tracker, TrackValidation
from ultrarefiner_monai.transforms import SaveMapsd, SaveMaskd

EXECUTED = "executed_config.json"
SUMMARY = "metrics.json"  # of an evaluation
KINDS = {"train": "training", "evaluate": "evaluation"}
CHANNELS = {"phase1": ("coarse",), "phase2": ("coarse", "refined"), "phase3": ("coarse", "refined")}


def tracking_uri(plan: Plan, uri: str | None = None) -> str:
    """MLflow store of a run of ``plan``, see :func:`store_uri`."""
    return store_uri(plan.project, uri)


def store_uri(project: Path, uri: str | None = None) -> str:
    """MLflow store: ``uri``, else ``MLFLOW_TRACKING_URI``, else ``mlruns.db`` of the project."""
    return uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{project / 'mlruns.db'}"


def run_name(plan: Plan, seed: int) -> str:
    """Unique name of a run: phase or cascade, fold, seed and start time."""
    return f"{plan.system}-fold{plan.trained_on['fold']}-seed{seed}-{datetime.now():%Y%m%dT%H%M%S}"


def run_parameters(plan: Plan, **settings: Any) -> dict[str, Any]:
    """Parameters that the tracker notes: the plan's decisions and ``settings``."""
    names = ("epochs", "coarse_variant", "coarse_size", "variant", "image_size")
    decided = {name: getattr(plan, name) for name in names if getattr(plan, name) is not None}
    weights = {name: file_sha256(Path(path)) for name, path in _weights(plan).items()}
    return {"phase": plan.system, **plan.trained_on, **decided, **settings, "version": __version__, **weights}


def _weights(plan: Plan) -> dict[str, str]:
    """Files of weights a run starts from."""
    files = {
        "sam_weights_sha256": plan.sam_weights,
        "phase1_sha256": plan.phase1_checkpoint,
        "phase2_sha256": plan.phase2_checkpoint,
    }
    return {name: path for name, path in files.items() if path}


def run_tags(plan: Plan, split: str | None = None) -> dict[str, str]:
    """Tags to filter runs by: what it is, what it is evaluated on, and what sets a demonstration or a partial data set apart."""
    tags = {
        "kind": KINDS[plan.mode],
        "phase": plan.system,
        "dataset": plan.trained_on["dataset"],
        "fold": str(plan.trained_on["fold"]),
        "demonstration": str(_is_demonstration(plan)).lower(),
        "substitutions": "; ".join(plan.substitutions) or "none",
    }
    if split is not None:
        tags |= {"split": split, "evaluated_on": plan.dataset}
    if plan.absent:
        tags["absent_items"] = json.dumps(plan.absent)
    if plan.excluded:
        tags["excluded_items"] = str(len(plan.excluded))
    return tags


def _is_demonstration(plan: Plan) -> bool:
    """Whether the embedded data set or anything else took the place of the real thing."""
    return plan.demonstration or bool(plan.substitutions)


def run_artifacts(plan: Plan, split: str | None = None) -> list[Path]:
    """Files that the tracker stores when a training, or the evaluation of ``split``, ends; those that exist by then."""
    folder = Path(plan.scores_dir(split) if split else str(plan.output_dir))
    return [folder / name for name in (EXECUTED, SUMMARY, "per_image.csv", "reliability.json", EXCLUDED)]


def run_data(plan: Plan, split: str = "train") -> dict[str, str]:
    """The manifest's items of ``split`` as what MLflow lists as the input of a run."""
    return {"name": plan.dataset, "digest": plan.content.sha256, "context": split}


def run_facts(plan: Plan) -> dict[str, Any]:
    """What ``run.json`` says of any run of ``plan``."""
    return {
        "kind": KINDS[plan.mode],
        "phase": plan.system,
        **plan.trained_on,
        "demonstration": _is_demonstration(plan),
        "substitutions": plan.substitutions,
        "absent_items": plan.absent,
        "excluded_items": len(plan.excluded),
    }


@one_line_errors
def begin_training(
    plan: Plan,
    tracker: Tracker,
    trainer: SupervisedTrainer,
    evaluator: SupervisedEvaluator,
    checkpoints: CheckpointHandler,
    resume: bool,
) -> None:
    """Tie tracker and checkpoints to the engines, go back to the last epoch if asked, and note the executed configuration.

    Raises:
        SystemExit: the output folder is in use, or ``resume`` finds no usable checkpoint.
    """
    TrackValidation(tracker, trainer).attach(evaluator)
    checkpoints.attach(trainer, evaluator)
    RunReport(str(plan.output_dir), run_facts(plan), partial(_training_so_far, plan, checkpoints)).attach(trainer)
    # Building loaders has moved the generator or not, depending on their workers; the training starts from the seed.
    torch.manual_seed(torch.initial_seed())
    if resume:
        checkpoints.restore(trainer)
    content = (json.dumps(running_parser().get(), indent=4) + "\n").encode()
    folder = Path(str(plan.output_dir))
    trainer.add_event_handler(Events.STARTED, lambda _: write_atomically(folder / EXECUTED, content))
    trainer.add_event_handler(Events.STARTED, lambda _: write_excluded(plan.excluded, folder))


def _training_so_far(plan: Plan, checkpoints: CheckpointHandler) -> dict[str, Any]:
    """How far a training is, and its best epoch."""
    best = {"metric": checkpoints.metric, "value": checkpoints.best_metric, "epoch": checkpoints.best_epoch}
    return {
        "epochs": {"done": checkpoints.epochs_done, "planned": plan.epochs},
        "best": finite(best) if checkpoints.best_epoch >= 0 else None,
    }


@one_line_errors
def train(trainer: SupervisedTrainer) -> None:
    """Run the training.

    Raises:
        SystemExit: the disk is full, a file of the data or the cache is damaged, or the output folder is in use.
    """
    trainer.run()


def prediction_writer(plan: Plan, split: str, folder: str | None = None) -> SaveMapsd | SaveMaskd:
    """Where predictions go: maps with an index for the items of a manifest, masks for pictures named one by one."""
    folder = folder or plan.predictions_dir(split)
    if plan.images is not None:
        return SaveMaskd("pred", folder)
    index = {
        "dataset": plan.dataset,
        "phase": int(plan.phase[-1]),
        "fold": plan.fold,
        "split": split,
        "manifest_sha256": plan.content.sha256,
    }
    return SaveMapsd("pred", folder, CHANNELS[plan.phase], index)


@one_line_errors
def infer(plan: Plan, network: nn.Module, evaluator: SupervisedEvaluator, writer: SaveMapsd | SaveMaskd) -> None:
    """Load the trained model, predict everything the evaluator's loader holds and complete the prediction folders."""
    load_trained(plan, network)
    evaluator.run()
    if isinstance(writer, SaveMapsd):
        writer.write_index(file_sha256(plan.model))
        for folder in writer.folders:
            write_excluded(plan.excluded, folder)
