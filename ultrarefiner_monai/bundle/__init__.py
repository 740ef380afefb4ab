"""The few helpers that the bundles' configurations call."""

from ultrarefiner_monai.bundle.config_keys import check_keys
from ultrarefiner_monai.bundle.embeddings import cached_embeddings
from ultrarefiner_monai.bundle.evaluation import evaluate
from ultrarefiner_monai.bundle.inference import infer, prediction_writer
from ultrarefiner_monai.bundle.multi_gpu import (
    average_gradients,
    distributed,
    process_device,
    shuffle_each_epoch,
    start_process_group,
)
from ultrarefiner_monai.bundle.optimizers import coarse_optimiser, cosine, joint_optimiser, trainable, warm_polynomial
from ultrarefiner_monai.bundle.paths import bundle_root
from ultrarefiner_monai.bundle.preflight.plan import Plan
from ultrarefiner_monai.bundle.prepare_batch import PrepareRefinement
from ultrarefiner_monai.bundle.run_facts import (
    run_artifacts,
    run_data,
    run_name,
    run_parameters,
    run_tags,
    tracking_uri,
)
from ultrarefiner_monai.bundle.starting_weights import load_sam, model_card, start_phase1, start_phase3
from ultrarefiner_monai.bundle.training import begin_training, train
from ultrarefiner_monai.devices import default_device
from ultrarefiner_monai.models.inferers import AutocastInferer, OutputsInferer

__all__ = [
    "AutocastInferer",
    "OutputsInferer",
    "Plan",
    "PrepareRefinement",
    "average_gradients",
    "begin_training",
    "bundle_root",
    "cached_embeddings",
    "check_keys",
    "coarse_optimiser",
    "cosine",
    "default_device",
    "distributed",
    "evaluate",
    "infer",
    "joint_optimiser",
    "load_sam",
    "model_card",
    "prediction_writer",
    "process_device",
    "run_artifacts",
    "run_data",
    "run_name",
    "run_parameters",
    "run_tags",
    "shuffle_each_epoch",
    "start_phase1",
    "start_phase3",
    "start_process_group",
    "tracking_uri",
    "train",
    "trainable",
    "warm_polynomial",
]
