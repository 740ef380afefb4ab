"""A trained model in other forms: TorchScript, ONNX, safetensors, and a MONAI bundle that stands alone."""

from ultrarefiner_monai.deploy.export.bundle import export_bundle
from ultrarefiner_monai.deploy.export.formats import export_onnx, export_safetensors, export_torchscript

__all__ = ["export_bundle", "export_onnx", "export_safetensors", "export_torchscript"]
