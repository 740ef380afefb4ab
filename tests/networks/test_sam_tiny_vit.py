"""LiteMedSAM's encoder against the implementation that ships with its weights, and on real images."""

import sys
from copy import deepcopy
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from ultrarefiner_monai.networks.sam import Sam, build_sam, lite_medsam_weights
from ultrarefiner_monai.networks.sam.model import ALL_TOKENS
from ultrarefiner_monai.networks.sam.tiny_vit import TinyViT


@pytest.fixture(scope="module")
def lite() -> Sam:
    try:
        weights = lite_medsam_weights()
    except FileNotFoundError as error:
        pytest.skip(str(error))
    return build_sam("lite_medsam", checkpoint=weights)


def stand_in_for_timm() -> dict[str, ModuleType]:
    """The four names the published file imports from timm, none of which changes its output in eval mode."""
    timm, models, layers, registry = (ModuleType(name) for name in ("timm", "models", "layers", "registry"))
    layers.DropPath, layers.trunc_normal_ = nn.Identity, nn.init.trunc_normal_  # type: ignore[attr-defined]
    layers.to_2tuple = lambda size: (size, size)  # type: ignore[attr-defined]
    registry.register_model = lambda model: model  # type: ignore[attr-defined]
    return {"timm": timm, "timm.models": models, "timm.models.layers": layers, "timm.models.registry": registry}


def published_encoder(monkeypatch: pytest.MonkeyPatch, image_size: int) -> nn.Module:
    for name, module in stand_in_for_timm().items():
        monkeypatch.setitem(sys.modules, name, module)
    source = lite_medsam_weights().parents[1] / "_vendor" / "tiny_vit_sam.py"
    spec = spec_from_file_location("published_tiny_vit", source)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.TinyViT(
        img_size=image_size,
        embed_dims=[64, 128, 160, 320],
        depths=[2, 2, 6, 2],
        num_heads=[2, 4, 5, 10],
        window_sizes=[7, 7, 14, 7],
        drop_path_rate=0.0,
    )


def test_encoder_equals_the_published_one(lite: Sam, monkeypatch: pytest.MonkeyPatch) -> None:
    published = published_encoder(monkeypatch, 256)
    published.load_state_dict(lite.image_encoder.state_dict())
    published.eval()  # after loading: it caches its attention biases here
    image = torch.rand(1, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(lite.image_encoder(image), published(image), atol=1e-5, rtol=0)


def test_training_mode_uses_batch_statistics() -> None:
    """The folded normalisation is the eval branch alone; training updates the running statistics."""
    encoder = TinyViT(32, widths=(8, 16, 16, 32), depths=(1, 1, 1, 1), heads=(1, 2, 2, 4), out_channels=8)
    norm = encoder.patch_embed.seq[0].bn
    before = norm.running_mean.clone()
    encoder.train()(torch.rand(2, 3, 32, 32))
    assert not torch.equal(norm.running_mean, before)


def test_folded_normalisation_equals_convolution_then_normalisation(lite: Sam) -> None:
    layer = deepcopy(lite.image_encoder.layers[0].blocks[0].conv1).double()
    x = torch.rand(1, 64, 16, 16, dtype=torch.float64)
    torch.testing.assert_close(layer(x), layer.bn(layer.c(x)))


def letterbox(array: np.ndarray, side: int, mode: str) -> torch.Tensor:
    tensor = torch.from_numpy(array).float()[None, None]
    scale = side / max(array.shape)
    height, width = (round(scale * edge) for edge in array.shape)
    tensor = F.interpolate(tensor, (height, width), mode=mode, antialias=mode == "bilinear")
    return F.pad(tensor, (0, side - width, 0, side - height))


def bus_bra(folder: Path, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Letterboxed images and masks of `count` cases spread over BUS-BRA."""
    paths = sorted((folder / "Images").glob("bus_*.png"))
    paths = paths[:: max(1, len(paths) // count)][:count]
    images = [np.asarray(Image.open(path).convert("L")) / 255 for path in paths]
    masks = [Image.open(folder / "Masks" / path.name.replace("bus_", "mask_")).convert("L") for path in paths]
    truth = [letterbox((np.asarray(mask) > 127).astype(np.float32), 256, "nearest-exact") for mask in masks]
    return torch.cat([letterbox(image, 256, "bilinear") for image in images]), torch.cat(truth)


def box_of(mask: torch.Tensor) -> torch.Tensor:
    rows, columns = mask.nonzero(as_tuple=True)
    return torch.stack([columns.min(), rows.min(), columns.max(), rows.max()]).float()


def test_real_lesions_are_found_from_their_boxes(lite: Sam, shared_data: Path) -> None:
    """Smoke test of weights, pixels and coordinates together; LiteMedSAM's training data may hold such images."""
    images, truth = bus_bra(shared_data / "BUS-BRA" / "BUSBRA", count=4)
    boxes = torch.stack([box_of(mask[0]) for mask in truth])
    with torch.inference_mode():
        mask_logits, _ = lite.decode(lite.embed(images), boxes=boxes, tokens=ALL_TOKENS)
    found = (mask_logits > 0).float()
    dice = 2 * (found * truth).sum((2, 3)) / (found.sum((2, 3)) + truth.sum((2, 3)))
    assert dice[:, 0].mean() > 0.88  # the token LiteMedSAM trained
    assert dice[:, 1:].mean() > 0.80  # the three it did not
