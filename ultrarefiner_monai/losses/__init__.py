"""Losses of the stages; each keeps the last call's detached parts in `components`."""

from ultrarefiner_monai.losses.class_masks import ClassMaskLoss
from ultrarefiner_monai.losses.coarse import DiceCELoss
from ultrarefiner_monai.losses.distillation import DistillationLoss
from ultrarefiner_monai.losses.joint import JointLoss
from ultrarefiner_monai.losses.refined import RefinedLoss
from ultrarefiner_monai.losses.rfmedsam2 import StepsLoss
from ultrarefiner_monai.losses.student import StudentLoss, StudentParts
from ultrarefiner_monai.losses.ultrasound_mask import UltrasoundMaskLoss
from ultrarefiner_monai.losses.uncertainty import UncertaintyLoss

__all__ = [
    "ClassMaskLoss",
    "DiceCELoss",
    "DistillationLoss",
    "JointLoss",
    "RefinedLoss",
    "StepsLoss",
    "StudentLoss",
    "StudentParts",
    "UltrasoundMaskLoss",
    "UncertaintyLoss",
]
