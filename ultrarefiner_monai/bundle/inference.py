"""Predicting with a trained model: where predictions go, and the run of it."""

from pathlib import Path

from monai.engines import SupervisedEvaluator
from torch import nn

from ultrarefiner_monai.bundle.preflight import Plan
from ultrarefiner_monai.bundle.preflight.data import write_excluded
from ultrarefiner_monai.bundle.run_facts import asked_about
from ultrarefiner_monai.bundle.starting_weights import load_trained
from ultrarefiner_monai.data.predictions.index import INDEX_NAME
from ultrarefiner_monai.errors import DataError, one_line_errors, shown
from ultrarefiner_monai.files import file_sha256, json_or_empty
from ultrarefiner_monai.handlers.failure import log_in_one_line
from ultrarefiner_monai.transforms import SaveMapsd, SaveMaskd

SHOWN = 3  # masks that are in the way


def prediction_writer(plan: Plan, split: str, folder: str | None = None) -> SaveMapsd | SaveMaskd:
    """Where predictions go: maps with an index for the items of a manifest, masks for single images."""
    folder = folder or plan.predictions_dir(split)
    if plan.data is None:
        return SaveMaskd("pred", folder, channel=len(plan.stage.outputs) - 1, islands=plan.islands)
    index = {
        "dataset": plan.dataset,
        "stage": plan.stage.name,
        "fold": plan.fold,
        "split": split,
        "manifest_sha256": plan.manifest.sha256,
        **asked_about(plan),
    }
    return SaveMapsd("pred", folder, plan.stage.outputs, plan.classes, index)


@one_line_errors
def infer(plan: Plan, network: nn.Module, evaluator: SupervisedEvaluator, writer: SaveMapsd | SaveMaskd) -> None:
    """Load the trained model, predict everything the evaluator's loader holds and complete the prediction folders.

    Raises:
        SystemExit: the model is missing, damaged or of something else, or the folders hold predictions of another.
    """
    load_trained(plan, network)
    log_in_one_line(evaluator)
    if isinstance(writer, SaveMaskd):
        _refuse_masks(plan, writer.folder)
        evaluator.run()
        return
    model = file_sha256(plan.models[plan.stage.name])
    for folder in writer.folders:
        _refuse_maps(folder, {"model_sha256": model, **asked_about(plan)}, plan.request.overwrite)
    evaluator.run()
    writer.write_index(model)
    for folder in writer.folders:
        write_excluded(plan.excluded, folder)


def _refuse_masks(plan: Plan, folder: Path) -> None:
    """Refuse to replace masks that are there, which do not say whose they are, unless that is asked for."""
    there = [mask for item in plan.items() if (mask := folder / f"{item['id']}.png").exists()]
    if there and not plan.request.overwrite:
        raise DataError(
            f"{shown(there, SHOWN)}: already there; --overwrite true replaces them, or name --predictions_dir"
        )


def _refuse_maps(folder: Path, own: dict[str, str], overwrite: bool) -> None:
    """Refuse to replace maps of another model, or of other prompts, unless that is asked for.

    Their index goes first, so that none are mixed.
    """
    found = json_or_empty(folder / INDEX_NAME, dict)
    others = [key for key, value in own.items() if found and found.get(key) != value]
    if others and not overwrite:
        whose = "another model" if "model_sha256" in others else f"prompts '{found.get('prompts', 'unknown')}'"
        raise DataError(
            f"{folder}: holds the maps of {whose}; --overwrite true replaces them, or name --predictions_dir"
        )
    if others:
        (folder / INDEX_NAME).unlink()
