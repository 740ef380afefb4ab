"""Batches of frames that belong together."""

from ultrarefiner_monai.bundle.sequences.sampler import SequenceSampler

__all__ = ["SequenceSampler"]
