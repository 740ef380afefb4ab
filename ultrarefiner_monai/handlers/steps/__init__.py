"""What a trainer does with a batch, how a batch is taken in pieces where memory is short, and what the first epochs train."""

from ultrarefiner_monai.handlers.steps.training_step import NonFiniteError, TrainingStep

__all__ = ["NonFiniteError", "TrainingStep"]
