"""Names of the published SAM 2 checkpoints for the tensors of transformers' `Sam2VideoModel`."""

import re

from torch import Tensor, nn

_POINTS = "prompt_encoder.point_embed.weight"
_RULES: tuple[tuple[str, str], ...] = (  # (pattern in our name, replacement), applied in order
    (r"^vision_encoder\.backbone\.", "image_encoder.trunk."),
    (r"^vision_encoder\.neck\.convs\.(\d+)", r"image_encoder.neck.convs.\1.conv"),
    (r"patch_embed\.projection", "patch_embed.proj"),
    (r"^prompt_encoder\.", "sam_prompt_encoder."),
    (r"shared_embedding\.positional_embedding", "pe_layer.positional_encoding_gaussian_matrix"),
    (r"mask_embed\.conv1", "mask_downscaling.0"),
    (r"mask_embed\.layer_norm1", "mask_downscaling.1"),
    (r"mask_embed\.conv2", "mask_downscaling.3"),
    (r"mask_embed\.layer_norm2", "mask_downscaling.4"),
    (r"mask_embed\.conv3", "mask_downscaling.6"),
    (r"^mask_decoder\.", "sam_mask_decoder."),
    (r"upscale_conv1", "output_upscaling.0"),
    (r"upscale_layer_norm", "output_upscaling.1"),
    (r"upscale_conv2", "output_upscaling.3"),
    (r"^memory_encoder\.feature_projection", "memory_encoder.pix_feat_proj"),
    (r"^memory_encoder\.projection", "memory_encoder.out_proj"),
    (r"memory_fuser", "fuser"),
    (r"depthwise_conv", "dwconv"),
    (r"pointwise_conv", "pwconv"),
    (r"\.scale$", ".gamma"),
    (r"mask_downsampler\.layers\.0\.conv", "mask_downsampler.encoder.0"),
    (r"mask_downsampler\.layers\.0\.layer_norm", "mask_downsampler.encoder.1"),
    (r"mask_downsampler\.layers\.1\.conv", "mask_downsampler.encoder.3"),
    (r"mask_downsampler\.layers\.1\.layer_norm", "mask_downsampler.encoder.4"),
    (r"mask_downsampler\.layers\.2\.conv", "mask_downsampler.encoder.6"),
    (r"mask_downsampler\.layers\.2\.layer_norm", "mask_downsampler.encoder.7"),
    (r"mask_downsampler\.layers\.3\.conv", "mask_downsampler.encoder.9"),
    (r"mask_downsampler\.layers\.3\.layer_norm", "mask_downsampler.encoder.10"),
    (r"mask_downsampler\.final_conv", "mask_downsampler.encoder.12"),
    (r"^memory_temporal_positional_encoding", "maskmem_tpos_enc"),
    (r"^no_memory_embedding", "no_mem_embed"),
    (r"^no_memory_positional_encoding", "no_mem_pos_enc"),
    (r"^no_object_pointer", "no_obj_ptr"),
    (r"^object_pointer_proj", "obj_ptr_proj"),
    (r"^temporal_positional_encoding_projection_layer", "obj_ptr_tpos_proj"),
    (r"^occlusion_spatial_embedding_parameter", "no_obj_embed_spatial"),
    (r"\.mlp\.proj_out", ".mlp.layers.1"),  # perceptrons of two layers; all others have three
    (r"((?:mlps\.\d|head|obj_ptr_proj)\.layers)\.0", r"\1.1"),
    (r"\.proj_in", ".layers.0"),
    (r"\.proj_out", ".layers.2"),
    (r"\.o_proj", ".out_proj"),
    (r"layer_norm", "norm"),
)


def official_name(name: str) -> str:
    """Published name of the tensor that transformers calls `name`."""
    for pattern, replacement in _RULES:
        name = re.sub(pattern, replacement, name)
    return name


def official_state(network: nn.Module) -> dict[str, Tensor]:
    """The tensors of a `Sam2VideoModel` under their published names; they share its memory, so that they can be written.

    The four kinds of points are one table in transformers and four in the published files.
    """
    state = {official_name(name): tensor for name, tensor in network.state_dict().items() if name != _POINTS}
    kinds = network.state_dict()[_POINTS].split(1)
    return state | {f"sam_prompt_encoder.point_embeddings.{i}.weight": kind for i, kind in enumerate(kinds)}
