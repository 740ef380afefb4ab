"""A trained model in other forms: TorchScript, ONNX, safetensors, and a MONAI bundle that stands alone."""

from ultrarefiner_monai.lazy import lazily

__getattr__ = lazily(
    __name__,
    {
        "export_bundle": "bundle",
        "export_onnx": "formats",
        "export_safetensors": "formats",
        "export_torchscript": "formats",
    },
)
