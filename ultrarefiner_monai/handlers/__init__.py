"""Ignite handlers for MONAI engines: tracking, checkpoints and resume, comparison of masks, panels, progress."""

from ultrarefiner_monai.handlers.checkpoint import CheckpointError, CheckpointHandler, load_model, save_model
from ultrarefiner_monai.handlers.comparison import CompareMasks
from ultrarefiner_monai.handlers.panels import SavePanels
from ultrarefiner_monai.handlers.progress import Progress
from ultrarefiner_monai.handlers.run_report import RunReport
from ultrarefiner_monai.handlers.steps.joint import Anchor, CoarseFalls, CoarseRests, GradientPaths
from ultrarefiner_monai.handlers.steps.prompts_first import PromptsFirst
from ultrarefiner_monai.handlers.steps.student import DecoderLast
from ultrarefiner_monai.handlers.tracking import TrackTraining, TrackValidation
from ultrarefiner_monai.tracking.tracker import Tracker

__all__ = [
    "Anchor",
    "CheckpointError",
    "CheckpointHandler",
    "CoarseFalls",
    "CoarseRests",
    "CompareMasks",
    "DecoderLast",
    "GradientPaths",
    "Progress",
    "PromptsFirst",
    "RunReport",
    "SavePanels",
    "TrackTraining",
    "TrackValidation",
    "Tracker",
    "load_model",
    "save_model",
]
