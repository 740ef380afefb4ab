"""RFMedSAM 2: a U-Net's boxes, an adapted Segment Anything, second boxes, memory (Xie et al., arXiv 2502.02741)."""

from ultrarefiner_monai.networks.rfmedsam2.exports import exported_parts
from ultrarefiner_monai.networks.rfmedsam2.network import RfMedSam2, build, describe
from ultrarefiner_monai.networks.rfmedsam2.steps import Steps
from ultrarefiner_monai.networks.rfmedsam2.unet import FrameUnet

__all__ = ["FrameUnet", "RfMedSam2", "Steps", "build", "describe", "exported_parts"]
