"""Official SAM 2 checkpoints: names and shapes are the published ones, loading is strict, a wrong file is told by name."""

from copy import deepcopy
from pathlib import Path

import pytest
import torch
from torch import Tensor

from ultrarefiner_monai.networks.sam import build_sam
from ultrarefiner_monai.networks.sam2 import Sam2, build_sam2
from ultrarefiner_monai.networks.sam2.official_names import official_name, official_state
from ultrarefiner_monai.networks.sam2.weights import LISTINGS, listing, load_official

POINTS = [f"sam_prompt_encoder.point_embeddings.{i}.weight" for i in range(4)]


def on_meta(variant: str, version: str | None = None) -> Sam2:
    with torch.device("meta"):
        return build_sam2(variant, version=version)


@pytest.fixture(scope="module")
def trained() -> dict[str, Sam2]:
    """A mini of each version whose every weight and buffer is random."""
    networks = {version: build_sam2("mini", 64, version=version) for version in ("2.0", "2.1")}
    generator = torch.Generator().manual_seed(3)
    for sam in networks.values():
        for tensor in sam.state_dict().values():
            tensor.normal_(std=0.1, generator=generator)
    return networks


@pytest.fixture
def state(trained: dict[str, Sam2]) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in official_state(trained["2.1"].network).items()}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sam2.pt"


@pytest.mark.parametrize("version", ["2.0", "2.1"])
@pytest.mark.parametrize("variant", ["tiny", "small", "base_plus", "large"])
def test_names_and_shapes_are_those_of_the_published_files(variant: str, version: str):
    """The digests were made from the official code's own state."""
    assert LISTINGS[listing(official_state(on_meta(variant, version).network))] == f"SAM {version} {variant}"


@pytest.mark.parametrize("variant", ["vit_b", "vit_l", "vit_h", "lite_medsam"])
def test_sam_1_is_listed_too(variant: str):
    with torch.device("meta"):
        assert LISTINGS[listing(build_sam(variant).state_dict())] == f"SAM {variant}"


@pytest.mark.parametrize(
    ("name", "official"),
    [  # tensors of one shape, which a digest of names and shapes cannot tell apart
        ("vision_encoder.backbone.blocks.3.layer_norm1.bias", "image_encoder.trunk.blocks.3.norm1.bias"),
        ("vision_encoder.backbone.blocks.3.layer_norm2.bias", "image_encoder.trunk.blocks.3.norm2.bias"),
        ("vision_encoder.backbone.blocks.1.mlp.proj_in.bias", "image_encoder.trunk.blocks.1.mlp.layers.0.bias"),
        ("vision_encoder.backbone.blocks.1.mlp.proj_out.bias", "image_encoder.trunk.blocks.1.mlp.layers.1.bias"),
        ("vision_encoder.backbone.blocks.1.proj.bias", "image_encoder.trunk.blocks.1.proj.bias"),
        ("vision_encoder.backbone.blocks.1.attn.proj.bias", "image_encoder.trunk.blocks.1.attn.proj.bias"),
        ("vision_encoder.neck.convs.2.bias", "image_encoder.neck.convs.2.conv.bias"),
        ("prompt_encoder.mask_embed.layer_norm1.weight", "sam_prompt_encoder.mask_downscaling.1.weight"),
        ("prompt_encoder.mask_embed.conv2.bias", "sam_prompt_encoder.mask_downscaling.3.bias"),
        ("prompt_encoder.mask_embed.layer_norm2.bias", "sam_prompt_encoder.mask_downscaling.4.bias"),
        ("prompt_encoder.no_mask_embed.weight", "sam_prompt_encoder.no_mask_embed.weight"),
        ("prompt_encoder.not_a_point_embed.weight", "sam_prompt_encoder.not_a_point_embed.weight"),
        (
            "mask_decoder.transformer.layers.1.self_attn.o_proj.bias",
            "sam_mask_decoder.transformer.layers.1.self_attn.out_proj.bias",
        ),
        (
            "mask_decoder.transformer.layers.0.cross_attn_image_to_token.q_proj.bias",
            "sam_mask_decoder.transformer.layers.0.cross_attn_image_to_token.q_proj.bias",
        ),
        ("mask_decoder.transformer.layers.1.layer_norm4.bias", "sam_mask_decoder.transformer.layers.1.norm4.bias"),
        ("mask_decoder.transformer.layer_norm_final_attn.bias", "sam_mask_decoder.transformer.norm_final_attn.bias"),
        ("mask_decoder.upscale_conv1.bias", "sam_mask_decoder.output_upscaling.0.bias"),
        ("mask_decoder.upscale_layer_norm.bias", "sam_mask_decoder.output_upscaling.1.bias"),
        (
            "mask_decoder.output_hypernetworks_mlps.2.proj_in.weight",
            "sam_mask_decoder.output_hypernetworks_mlps.2.layers.0.weight",
        ),
        (
            "mask_decoder.output_hypernetworks_mlps.2.layers.0.weight",
            "sam_mask_decoder.output_hypernetworks_mlps.2.layers.1.weight",
        ),
        ("mask_decoder.iou_prediction_head.proj_in.weight", "sam_mask_decoder.iou_prediction_head.layers.0.weight"),
        ("mask_decoder.iou_prediction_head.layers.0.weight", "sam_mask_decoder.iou_prediction_head.layers.1.weight"),
        ("mask_decoder.iou_prediction_head.proj_out.weight", "sam_mask_decoder.iou_prediction_head.layers.2.weight"),
        ("mask_decoder.pred_obj_score_head.proj_out.bias", "sam_mask_decoder.pred_obj_score_head.layers.2.bias"),
        ("memory_attention.layers.3.layer_norm3.weight", "memory_attention.layers.3.norm3.weight"),
        (
            "memory_attention.layers.0.cross_attn_image.o_proj.bias",
            "memory_attention.layers.0.cross_attn_image.out_proj.bias",
        ),
        ("memory_attention.layer_norm.weight", "memory_attention.norm.weight"),
        ("memory_encoder.feature_projection.bias", "memory_encoder.pix_feat_proj.bias"),
        ("memory_encoder.projection.bias", "memory_encoder.out_proj.bias"),
        ("memory_encoder.mask_downsampler.layers.2.conv.bias", "memory_encoder.mask_downsampler.encoder.6.bias"),
        ("memory_encoder.mask_downsampler.layers.2.layer_norm.bias", "memory_encoder.mask_downsampler.encoder.7.bias"),
        ("memory_encoder.mask_downsampler.layers.3.layer_norm.bias", "memory_encoder.mask_downsampler.encoder.10.bias"),
        ("memory_encoder.mask_downsampler.final_conv.bias", "memory_encoder.mask_downsampler.encoder.12.bias"),
        ("memory_encoder.memory_fuser.layers.1.scale", "memory_encoder.fuser.layers.1.gamma"),
        ("memory_encoder.memory_fuser.layers.1.layer_norm.bias", "memory_encoder.fuser.layers.1.norm.bias"),
        ("memory_encoder.memory_fuser.layers.1.depthwise_conv.bias", "memory_encoder.fuser.layers.1.dwconv.bias"),
        ("memory_encoder.memory_fuser.layers.0.pointwise_conv2.bias", "memory_encoder.fuser.layers.0.pwconv2.bias"),
        ("object_pointer_proj.proj_in.bias", "obj_ptr_proj.layers.0.bias"),
        ("object_pointer_proj.layers.0.bias", "obj_ptr_proj.layers.1.bias"),
        ("object_pointer_proj.proj_out.bias", "obj_ptr_proj.layers.2.bias"),
        ("no_memory_embedding", "no_mem_embed"),
        ("no_memory_positional_encoding", "no_mem_pos_enc"),
        ("no_object_pointer", "no_obj_ptr"),
        ("temporal_positional_encoding_projection_layer.bias", "obj_ptr_tpos_proj.bias"),
        ("occlusion_spatial_embedding_parameter", "no_obj_embed_spatial"),
        ("mask_downsample.bias", "mask_downsample.bias"),
    ],
)
def test_tensors_of_one_shape_are_not_confused(name: str, official: str):
    assert official_name(name) == official


@pytest.mark.parametrize("version", ["2.0", "2.1"])
def test_a_checkpoint_goes_there_and_back_at_another_size(trained: dict[str, Sam2], path: Path, version: str):
    source = trained[version]
    torch.save({"model": official_state(source.network)}, path)
    loaded = build_sam2("mini", 96, path)
    assert (loaded.version, source.image_size) == (version, 64)
    assert loaded.state_dict().keys() == source.state_dict().keys()
    assert all(torch.equal(tensor, source.state_dict()[name]) for name, tensor in loaded.state_dict().items())


def test_the_four_kinds_of_points_keep_their_order(state: dict[str, Tensor], trained: dict[str, Sam2]):
    state |= {name: torch.full((1, 256), float(i)) for i, name in enumerate(POINTS)}
    sam = deepcopy(trained["2.1"])
    load_official(sam, state, "sam2.pt")
    assert sam.network.prompt_encoder.point_embed.weight[:, 7].tolist() == [0, 1, 2, 3]


def test_on_the_meta_device_a_checkpoint_is_compared_alone(state: dict[str, Tensor]):
    sam = on_meta("mini")
    load_official(sam, state, "sam2.pt")
    assert next(sam.parameters()).is_meta
    state.pop("no_mem_embed")
    with pytest.raises(ValueError, match=r"1 missing \(no_mem_embed\)"):
        load_official(sam, state, "sam2.pt")


@pytest.mark.parametrize(
    ("held", "wanted"),
    [
        (("small", "2.1"), ("tiny", "2.1")),
        (("tiny", "2.0"), ("tiny", "2.1")),
        (("large", "2.0"), ("base_plus", "2.0")),
        (("tiny", "2.1"), ("mini", "2.1")),
    ],
)
def test_a_published_file_of_another_variant_is_named(held: tuple[str, str], wanted: tuple[str, str]):
    with pytest.raises(ValueError) as error:
        load_official(on_meta(*wanted), official_state(on_meta(*held).network), "file.pt")
    held_name, wanted_name = (f"SAM {version} {variant}" for variant, version in (held, wanted))
    assert str(error.value) == (
        f"file.pt does not fit {wanted_name}: it holds {held_name}; choose that, or a file of {wanted_name}"
    )


def test_a_file_of_sam_1_is_named(path: Path):
    torch.save(build_sam("lite_medsam").state_dict(), path)
    with torch.device("meta"), pytest.raises(ValueError) as error:
        build_sam2("tiny", 64, path, version="2.1")
    assert str(error.value) == (
        f"{path} does not fit SAM 2.1 tiny: it holds SAM lite_medsam; choose that, or a file of SAM 2.1 tiny"
    )


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (lambda state: state.pop(POINTS[2]), f"1 missing ({POINTS[2]})"),
        (lambda state: state.update(extra=torch.ones(1)), "1 unexpected (extra)"),
        (
            lambda state: state.update({POINTS[0]: torch.ones(1, 7)}),
            f"1 differently shaped ({POINTS[0]} (1, 7) instead of (1, 256))",
        ),
    ],
)
def test_each_kind_of_difference_is_named(state: dict[str, Tensor], damage, found: str):
    damage(state)
    with pytest.raises(ValueError) as error:
        load_official(on_meta("mini"), state, "file.pt")
    assert str(error.value) == f"file.pt does not fit SAM 2.1 mini: {found}; choose its own variant"


def test_transformers_own_names_are_not_the_published_ones(trained: dict[str, Sam2]):
    with pytest.raises(ValueError, match=r"does not fit SAM 2\.1 mini: \d+ missing \(.*; choose its own variant$"):
        load_official(on_meta("mini"), trained["2.1"].network.state_dict(), "file.pt")


def test_files_that_are_no_checkpoint_are_named(path: Path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        build_sam2("mini", 64, path)
    path.write_bytes(b"<html>not found</html>")
    with pytest.raises(ValueError, match="is not a checkpoint of tensors"):
        build_sam2("mini", 64, path)
