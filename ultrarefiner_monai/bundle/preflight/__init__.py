"""The preflight of a run: what was asked for, checked, and completed by defaults or announced substitutions."""

from ultrarefiner_monai.bundle.preflight.plan import Plan

__all__ = ["Plan"]
