"""Predicting with a trained model: where predictions go, and the run of it."""

from monai.engines import SupervisedEvaluator
from torch import nn

from ultrarefiner_monai.bundle.preflight import Plan
from ultrarefiner_monai.bundle.preflight.data import write_excluded
from ultrarefiner_monai.bundle.starting_weights import load_trained
from ultrarefiner_monai.errors import one_line_errors
from ultrarefiner_monai.files import file_sha256
from ultrarefiner_monai.transforms import SaveMapsd, SaveMaskd


def prediction_writer(plan: Plan, split: str, folder: str | None = None) -> SaveMapsd | SaveMaskd:
    """Where predictions go: maps with an index for the items of a manifest, masks for single images."""
    folder = folder or plan.predictions_dir(split)
    if plan.data is None:
        return SaveMaskd("pred", folder)
    index = {
        "dataset": plan.dataset,
        "stage": plan.stage.name,
        "fold": plan.fold,
        "split": split,
        "manifest_sha256": plan.manifest.sha256,
    }
    return SaveMapsd("pred", folder, plan.stage.outputs, index)


@one_line_errors
def infer(plan: Plan, network: nn.Module, evaluator: SupervisedEvaluator, writer: SaveMapsd | SaveMaskd) -> None:
    """Load the trained model, predict everything the evaluator's loader holds and complete the prediction folders."""
    load_trained(plan, network)
    evaluator.run()
    if isinstance(writer, SaveMapsd):
        writer.write_index(file_sha256(plan.models[plan.stage.name]))
        for folder in writer.folders:
            write_excluded(plan.excluded, folder)
