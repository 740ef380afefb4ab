"""Pictures with the texture of ultrasound, drawn in a moment: what the search for copies takes for an image."""

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter


def speckled(seed: int, width: int = 400, height: int = 300) -> Image.Image:
    """Speckle of about 4 px over blurred layers, another for each seed."""
    generator = np.random.default_rng(seed)
    speckle = gaussian_filter(generator.standard_normal((height, width)), 2) * 7
    layers = gaussian_filter(generator.standard_normal((height, width)), 15) * 40
    return Image.fromarray(np.clip(110 + 45 * speckle + 40 * layers, 0, 255).astype(np.uint8))
