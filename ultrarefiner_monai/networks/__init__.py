"""Networks of the systems (torch; scipy for lesions): TransUNet, Segment Anything (1 and 2), adapters, prompts, fusion."""

from ultrarefiner_monai.networks.automedsam import AutoMedSam
from ultrarefiner_monai.networks.fusion import Fusion
from ultrarefiner_monai.networks.prompts import PromptGenerator, Prompts
from ultrarefiner_monai.networks.refiner import Refinement, SamRefiner
from ultrarefiner_monai.networks.sam import Sam, build_sam, inject_lora, lite_medsam_weights, merge_lora
from ultrarefiner_monai.networks.transunet import TransUNet, build_transunet
from ultrarefiner_monai.networks.ultrarefiner import UltraRefiner

__all__ = [
    "AutoMedSam",
    "Fusion",
    "PromptGenerator",
    "Prompts",
    "Refinement",
    "Sam",
    "SamRefiner",
    "TransUNet",
    "UltraRefiner",
    "build_sam",
    "build_transunet",
    "inject_lora",
    "lite_medsam_weights",
    "merge_lora",
]
