"""The preflight of a run: what was asked for, checked, and completed by defaults or announced substitutions."""

from ultrarefiner_monai.bundle.preflight.decision import decide, make_plan, rehearse
from ultrarefiner_monai.bundle.preflight.plan import Plan
from ultrarefiner_monai.bundle.preflight.request import Networks, Request, Substitutions

__all__ = ["Networks", "Plan", "Request", "Substitutions", "decide", "make_plan", "rehearse"]
