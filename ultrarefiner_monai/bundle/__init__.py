"""The few helpers that the bundles' configurations call."""

from .batches import PrepareRefinement, cached_embeddings
from .evaluating import evaluate
from .inferers import AutocastInferer, CoarseRefinedInferer
from .keys import check_keys
from .optimisers import coarse_optimiser, cosine, joint_optimiser, warm_polynomial
from .parallel import average_gradients, distributed, process_device, shuffle_each_epoch, start_process_group
from .paths import bundle_root
from .plan import Plan
from .running import (
    begin_training,
    infer,
    prediction_writer,
    run_artifacts,
    run_data,
    run_name,
    run_parameters,
    run_tags,
    tracking_uri,
    train,
)
from .start import default_device, load_sam, model_card, start_phase1, start_phase3, trainable

__all__ = [
    "AutocastInferer",
    "CoarseRefinedInferer",
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
