"""The phantom: a synthetic data set of breast ultrasound, drawn as anatomy and rendered as B-mode images."""

from ultrarefiner_monai.data.phantom.phantom import PhantomSettings, generate_phantom

__all__ = ["PhantomSettings", "generate_phantom"]
