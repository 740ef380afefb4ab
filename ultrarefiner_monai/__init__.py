"""Breast-ultrasound lesion segmentation: TransUNet, differentiable prompts and Segment Anything as MONAI bundles."""

__version__ = "0.1.0"
