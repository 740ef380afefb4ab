"""What the bundles' configurations call."""

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
from ultrarefiner_monai.bundle.optimizers import cosine, decay_from, trainable, warm_polynomial
from ultrarefiner_monai.bundle.paths import bundle_root
from ultrarefiner_monai.bundle.preflight import Plan, make_plan
from ultrarefiner_monai.bundle.preflight.classes import of_classes
from ultrarefiner_monai.bundle.prepare_batch import (
    PreparePrompts,
    PrepareRefinement,
    PrepareSequences,
    balanced,
    cached_items,
)
from ultrarefiner_monai.bundle.run_facts import make_tracker
from ultrarefiner_monai.bundle.sequences import SequenceSampler
from ultrarefiner_monai.bundle.starting_weights import (
    load_pretrained,
    load_prompted,
    load_sam,
    load_starts,
    load_student,
    load_teacher,
    model_card,
    untrained_network,
)
from ultrarefiner_monai.bundle.training import begin_training, train
from ultrarefiner_monai.devices import default_device
from ultrarefiner_monai.handlers.steps import TrainingStep
from ultrarefiner_monai.handlers.steps.student import StudentInferer
from ultrarefiner_monai.models.inferers import AutocastInferer, OutputsInferer, SequenceInferer
from ultrarefiner_monai.systems.classes import told_apart

__all__ = [
    "AutocastInferer",
    "OutputsInferer",
    "Plan",
    "PreparePrompts",
    "PrepareRefinement",
    "PrepareSequences",
    "SequenceInferer",
    "SequenceSampler",
    "StudentInferer",
    "TrainingStep",
    "average_gradients",
    "balanced",
    "begin_training",
    "bundle_root",
    "cached_embeddings",
    "cached_items",
    "check_keys",
    "cosine",
    "decay_from",
    "default_device",
    "distributed",
    "evaluate",
    "infer",
    "load_pretrained",
    "load_prompted",
    "load_sam",
    "load_starts",
    "load_student",
    "load_teacher",
    "make_plan",
    "make_tracker",
    "model_card",
    "of_classes",
    "prediction_writer",
    "process_device",
    "shuffle_each_epoch",
    "start_process_group",
    "told_apart",
    "train",
    "trainable",
    "untrained_network",
    "warm_polynomial",
]
