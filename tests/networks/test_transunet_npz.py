"""Loading Google's npz layout: every tensor lands where its name says, and nothing that does not fit is accepted."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from ultrarefiner_monai.networks.transunet import TransUNet
from ultrarefiner_monai.networks.transunet_npz import POSITIONS, resize_positions

WIDTH, HIDDEN, HEADS, MLP, LAYERS, UNITS = 8, 12, 3, 20, 2, (2, 1, 1)


def make_network(**changes) -> TransUNet:
    settings = {
        "in_channels": 1,
        "img_size": 32,
        "width": WIDTH,
        "units": UNITS,
        "groups": 2,
        "hidden_size": HIDDEN,
        "layers": LAYERS,
        "heads": HEADS,
        "mlp_size": MLP,
        "neck_channels": 8,
        "decoder_channels": (8, 8, 8, 4),
    }
    torch.manual_seed(0)
    return TransUNet(**(settings | changes))


def genuine_shapes(grid: int = 2) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the published file at this test's size, written out from its layout."""
    shapes: dict[str, tuple[int, ...]] = {"conv_root/kernel": (7, 7, 3, WIDTH), "gn_root/scale": (WIDTH,)}
    shapes["gn_root/bias"] = (WIDTH,)
    channels = WIDTH
    for block, units in enumerate(UNITS, start=1):
        out = WIDTH * 4 * 2 ** (block - 1)
        middle = out // 4
        for unit in range(1, units + 1):
            name = f"block{block}/unit{unit}"
            convolutions = {"1": (1, channels, middle), "2": (3, middle, middle), "3": (1, middle, out)}
            if unit == 1:
                convolutions["_proj"] = (1, channels, out)
            for i, (size, inputs, outputs) in convolutions.items():
                shapes[f"{name}/conv{i}/kernel"] = (size, size, inputs, outputs)
                shapes[f"{name}/gn{i}/scale"] = (1, 1, 1, outputs)
                shapes[f"{name}/gn{i}/bias"] = (1, 1, 1, outputs)
            channels = out
    shapes |= {"embedding/kernel": (1, 1, channels, HIDDEN), "embedding/bias": (HIDDEN,)}
    shapes |= {"cls": (1, 1, HIDDEN), "head/kernel": (HIDDEN, 5), "head/bias": (5,)}
    shapes |= {"pre_logits/kernel": (HIDDEN, HIDDEN), "pre_logits/bias": (HIDDEN,)}
    shapes[POSITIONS] = (1, grid**2 + 1, HIDDEN)
    for layer in range(LAYERS):
        name = f"Transformer/encoderblock_{layer}"
        attention, split = f"{name}/MultiHeadDotProductAttention_1", (HEADS, HIDDEN // HEADS)
        for projection in ("query", "key", "value"):
            shapes |= {f"{attention}/{projection}/kernel": (HIDDEN, *split), f"{attention}/{projection}/bias": split}
        shapes |= {f"{attention}/out/kernel": (*split, HIDDEN), f"{attention}/out/bias": (HIDDEN,)}
        shapes |= {f"{name}/MlpBlock_3/Dense_0/kernel": (HIDDEN, MLP), f"{name}/MlpBlock_3/Dense_0/bias": (MLP,)}
        shapes |= {f"{name}/MlpBlock_3/Dense_1/kernel": (MLP, HIDDEN), f"{name}/MlpBlock_3/Dense_1/bias": (HIDDEN,)}
        for norm in ("LayerNorm_0", "LayerNorm_2"):
            shapes |= {f"{name}/{norm}/scale": (HIDDEN,), f"{name}/{norm}/bias": (HIDDEN,)}
    shapes |= {"Transformer/encoder_norm/scale": (HIDDEN,), "Transformer/encoder_norm/bias": (HIDDEN,)}
    return shapes


@pytest.fixture
def arrays() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {name: random.normal(size=shape).astype(np.float32) for name, shape in genuine_shapes().items()}


@pytest.fixture
def save(tmp_path):
    def _save(arrays):
        np.savez(tmp_path / "weights.npz", **arrays)
        return tmp_path / "weights.npz"

    return _save


def test_convolutions_are_hwio(arrays, save):
    network = make_network()
    network.load_npz(save(arrays))
    kernel = arrays["block2/unit1/conv2/kernel"]
    np.testing.assert_array_equal(network.resnet.stages[1][0].conv2.weight.detach(), kernel.transpose(3, 2, 0, 1))
    projection = network.resnet.stages[2][0].projection
    np.testing.assert_array_equal(
        projection[0].weight.detach()[..., 0, 0], arrays["block3/unit1/conv_proj/kernel"][0, 0].T
    )
    np.testing.assert_array_equal(projection[1].bias.detach(), arrays["block3/unit1/gn_proj/bias"].ravel())


def test_attention_is_einsum_over_split_heads(arrays, save):
    """The published transformer projects with einsum: the expected values are computed so, from the file alone."""
    network = make_network().eval()
    network.load_npz(save(arrays))
    name = "Transformer/encoderblock_1/MultiHeadDotProductAttention_1"
    x = np.random.default_rng(1).normal(size=(5, HIDDEN)).astype(np.float32)
    query, key, value = (
        np.einsum("nd,dhk->hnk", x, arrays[f"{name}/{p}/kernel"]) + arrays[f"{name}/{p}/bias"][:, None]
        for p in ("query", "key", "value")
    )
    scores = np.exp(np.einsum("hnk,hmk->hnm", query, key) / (HIDDEN // HEADS) ** 0.5)
    context = np.einsum("hnm,hmk->nhk", scores / scores.sum(-1, keepdims=True), value)
    expected = np.einsum("nhk,hkd->nd", context, arrays[f"{name}/out/kernel"]) + arrays[f"{name}/out/bias"]
    found = network.blocks[1].attention(torch.from_numpy(x)[None])[0]
    np.testing.assert_allclose(found.detach(), expected, rtol=1e-4, atol=1e-4)


def test_mlp_and_norms(arrays, save):
    network = make_network()
    network.load_npz(save(arrays))
    block, name = network.blocks[0], "Transformer/encoderblock_0"
    np.testing.assert_array_equal(block.mlp_in.weight.detach(), arrays[f"{name}/MlpBlock_3/Dense_0/kernel"].T)
    np.testing.assert_array_equal(block.mlp_out.bias.detach(), arrays[f"{name}/MlpBlock_3/Dense_1/bias"])
    np.testing.assert_array_equal(block.attention_norm.weight.detach(), arrays[f"{name}/LayerNorm_0/scale"])
    np.testing.assert_array_equal(block.mlp_norm.bias.detach(), arrays[f"{name}/LayerNorm_2/bias"])
    np.testing.assert_array_equal(network.norm.weight.detach(), arrays["Transformer/encoder_norm/scale"])


def test_the_whole_encoder_changes_and_only_the_encoder(arrays, save):
    network = make_network()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    network.load_npz(save(arrays))
    changed = {name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])}
    encoder = ("resnet.", "embedding.", "positions", "blocks.", "norm.")
    assert changed == {name for name in before if name.startswith(encoder)}
    assert all(p.requires_grad for p in network.parameters())


def test_positions_drop_the_class_token(arrays, save):
    network = make_network()
    network.load_npz(save(arrays))
    np.testing.assert_allclose(network.positions.detach(), arrays[POSITIONS][:, 1:], rtol=1e-6)


@pytest.mark.parametrize("size", [3, 5])
def test_positions_are_resized_as_scipy_zoom_does(size):
    positions = np.random.default_rng(0).normal(size=(1, 17, 6)).astype(np.float32)
    expected = ndimage.zoom(positions[0, 1:].reshape(4, 4, 6), (size / 4, size / 4, 1), order=1).reshape(1, -1, 6)
    np.testing.assert_allclose(resize_positions(torch.from_numpy(positions), size), expected, atol=1e-5)


def test_a_larger_image_loads_resized_positions(arrays, save):
    network = make_network(img_size=48)
    network.load_npz(save(arrays))
    corner = network.positions.detach().view(3, 3, HIDDEN)[0, 0]
    np.testing.assert_allclose(corner, arrays[POSITIONS][0, 1], rtol=1e-6)


@pytest.mark.parametrize(
    "name", ["conv_root/kernel", "block1/unit2/gn3/scale", "Transformer/encoder_norm/bias", POSITIONS]
)
def test_a_missing_tensor_is_named(arrays, save, name):
    del arrays[name]
    with pytest.raises(ValueError, match=f"{name} is missing"):
        make_network().load_npz(save(arrays))


def test_a_wrong_shape_is_named_with_both_shapes_and_nothing_is_loaded(arrays, save):
    arrays["Transformer/encoderblock_1/MlpBlock_3/Dense_0/kernel"] = np.zeros((HIDDEN, MLP + 1), np.float32)
    network = make_network()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(ValueError, match=r"Dense_0/kernel has shape \(12, 21\), expected \(12, 20\)"):
        network.load_npz(save(arrays))
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_a_transposed_kernel_of_equal_size_is_refused(arrays, save):
    arrays["conv_root/kernel"] = arrays["conv_root/kernel"].transpose(3, 2, 0, 1)
    with pytest.raises(ValueError, match=r"conv_root/kernel has shape \(8, 3, 7, 7\), expected \(7, 7, 3, 8\)"):
        make_network().load_npz(save(arrays))


def test_a_deeper_file_is_refused(arrays, save):
    with pytest.raises(ValueError, match=r"Transformer/encoderblock_1/.* is unexpected.*and .* more"):
        make_network(layers=1).load_npz(save(arrays))


def test_positions_of_another_width_are_refused(arrays, save):
    arrays[POSITIONS] = np.zeros((1, 7, HIDDEN), np.float32)
    with pytest.raises(
        ValueError, match=r"pos_embedding has shape \(1, 7, 12\), expected \(1, 1 \+ a square number, 12\)"
    ):
        make_network().load_npz(save(arrays))


def test_a_root_of_another_number_of_channels_is_refused(arrays, save):
    with pytest.raises(ValueError, match=r"conv_root/kernel has shape \(7, 7, 3, 8\), expected \(7, 7, 2, 8\)"):
        make_network(in_channels=2).load_npz(save(arrays))


@pytest.mark.parametrize("content", [b"", b"not an archive", b"PK\x03\x04 cut off"])
def test_an_unreadable_file_is_one_clear_error(tmp_path, content):
    path = tmp_path / "R50.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"cannot read .*R50.npz as npz weights"):
        make_network().load_npz(path)


def test_an_absent_file_is_one_clear_error(tmp_path):
    with pytest.raises(ValueError, match=r"cannot read .*absent.npz"):
        make_network().load_npz(tmp_path / "absent.npz")
