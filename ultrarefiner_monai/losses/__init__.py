"""Losses of the three phases; each keeps the last call's detached parts in `components`."""

from ultrarefiner_monai.losses.coarse import DiceCELoss
from ultrarefiner_monai.losses.joint import JointLoss
from ultrarefiner_monai.losses.refined import RefinedLoss

__all__ = ["DiceCELoss", "JointLoss", "RefinedLoss"]
