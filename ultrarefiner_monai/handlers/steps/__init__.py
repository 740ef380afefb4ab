"""What a trainer does with a batch, and how a batch is taken in pieces where memory is short."""

from ultrarefiner_monai.handlers.steps.training_step import NonFiniteError, TrainingStep

__all__ = ["NonFiniteError", "TrainingStep"]
