"""What the panels show, read back from the figure; its file."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from ultrarefiner_monai.data.manifests.figure import manifest_figure, save_figure
from ultrarefiner_monai.data.manifests.manifest import Manifest, load_manifest, shipped_manifest
from ultrarefiner_monai.data.releases.readers import find_root
from ultrarefiner_monai.errors import DataError


def item(name: str, label: str = "benign", pixels: int = 2, **facts) -> dict:
    """10 x 20 pixels, so that two lesion pixels are one per cent."""
    files = {"id": name, "image": f"i/{name}.png", "label": f"m/{name}.png", "sha256": name}
    return {**files, "class": label, "patient": name, "group": name, "lesion_pixels": pixels, **SIZE, **facts}


SIZE = {"width": 10, "height": 20}


def manifest(training: list, testing: list = (), normal: list = ()) -> Manifest:
    lists = {"training": list(training), "testing": list(testing), "normal": list(normal), "excluded": []}
    return Manifest(name="BUS", num_folds=2, seed=42, sha256="f" * 64, path=Path("BUS.json"), header={}, **lists)


@pytest.fixture
def small() -> Manifest:
    return manifest(
        [item("a", fold=0), item("b", "malignant", 40, fold=1), item("c", fold=1, width=30, image_size=[15, 12])],
        [item("d", "malignant", 20)],
        [item("n", "normal", 0, fold=0), item("o", "normal", 0)],
    )


def legend(figure: Figure, panel: int) -> list[str]:
    return [text.get_text() for text in figure.axes[panel].get_legend().get_texts()]


def write_masks(folder: Path, **masks: np.ndarray) -> None:
    (folder / "m").mkdir()
    for name, mask in masks.items():
        Image.fromarray(mask.astype(np.uint8) * 255).save(folder / f"m/{name}.png")


def test_sizes(small: Manifest) -> None:
    figure = manifest_figure(small)
    grids, files = figure.axes[0].collections
    assert dict(zip(map(tuple, grids.get_offsets().tolist()), grids.get_sizes(), strict=True)) == pytest.approx(
        {(10, 20): 20 * 5**0.5, (30, 20): 20}
    )
    assert files.get_offsets().tolist() == [[15, 12]]
    assert legend(figure, 0) == [
        "BUS: 6 images, different sizes: 2",
        "file before stretching: 1 images, different sizes: 1",
    ]


def test_areas_by_class(small: Manifest) -> None:
    """a is 1 %, c 1/3 %, of b 20 % and d 10 % the median is 15 %."""
    figure = manifest_figure(small)
    assert legend(figure, 1) == [
        "benign: 2 images, median 0.7 % (upright line)",
        "malignant: 2 images, median 15.0 % (upright line)",
    ]
    low, high = figure.axes[1].get_xlim()
    assert low < 1 / 3 and high > 20 and figure.axes[1].get_xscale() == "log"


def test_counts_are_stacked_with_the_normals_on_top(small: Manifest) -> None:
    figure = manifest_figure(small)
    axes = figure.axes[-1]
    bars = {
        container.get_label(): [(bar.get_y(), bar.get_height()) for bar in container] for container in axes.containers
    }
    assert bars == {
        "benign": [(0, 1), (0, 1), (0, 0)],
        "malignant": [(1, 0), (1, 1), (0, 1)],
        "normal": [(1, 1), (2, 0), (1, 1)],
    }
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["fold 0", "fold 1", "test"]


def test_positions_are_the_mean_of_the_masks_on_one_grid(small: Manifest, tmp_path: Path) -> None:
    """The left half of one mask and the upper half of another of other shape: their mean is known in every quarter."""
    left, upper = np.zeros((20, 10), bool), np.zeros((50, 300), bool)
    left[:, :5], upper[:25] = True, True
    write_masks(tmp_path, a=left, d=upper)
    (tmp_path / "m/b.png").write_bytes(b"no picture")
    axes = manifest_figure(small, tmp_path).axes[2]
    assert axes.get_title() == "(c) Lesion position: mean of 2 masks, 1 absent, 1 unreadable"
    cover = axes.images[0].get_array()
    expected = np.kron([[100, 50], [50, 0]], np.ones((32, 32)))
    assert cover.shape == (64, 64)
    np.testing.assert_allclose(cover, expected, atol=1e-4)
    assert tuple(axes.images[0].get_extent()) == (0, 100, 100, 0)  # from the top left, as the picture lies


def test_several_masks_of_an_image_are_one_lesion(tmp_path: Path) -> None:
    both = np.zeros((2, 64, 64), bool)
    both[0, :, :8], both[1, :, 60:] = True, True
    write_masks(tmp_path, a=both[0], a_1=both[1])
    figure = manifest_figure(manifest([item("a", fold=0) | {"label": ["m/a.png", "m/a_1.png"]}]), tmp_path)
    np.testing.assert_allclose(figure.axes[2].images[0].get_array(), 100 * both.any(axis=0))


@pytest.mark.parametrize("root", [None, "empty"])
def test_without_masks_the_panel_says_so(small: Manifest, tmp_path: Path, root: str | None) -> None:
    axes = manifest_figure(small, tmp_path if root else None).axes[2]
    assert not axes.images
    said = axes.texts[0].get_text()
    assert said == "no mask of the manifest is there" if root else said.startswith("masks were not read")
    assert axes.get_title().endswith("mean of 0 masks, 4 absent" if root else "Lesion position")


def test_axes_have_units(small: Manifest, tmp_path: Path) -> None:
    write_masks(tmp_path, a=np.eye(8, dtype=bool))
    panels = manifest_figure(small, tmp_path).axes
    labels = [label for axes in panels[:4] for label in (axes.get_xlabel(), axes.get_ylabel())]
    assert labels == [
        "width (pixels)",
        "height (pixels)",
        "lesion's share of the image (%)",
        "images",
        "from the left (% of the width)",
        "from the top (% of the height)",
        "",
        "images",
    ]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "items",
    [
        [],
        [item("a", fold=0)],
        [item("a", "unknown", fold=0), item("b", "other", fold=1)],
        [item("a", pixels=0, fold=0)],
    ],
    ids=["none", "one lesion", "other classes", "no area"],
)
def test_odd_manifests_can_be_drawn(items: list, tmp_path: Path) -> None:
    write_masks(tmp_path, a=np.eye(8, dtype=bool))
    assert save_figure(manifest(items), tmp_path, tmp_path / "odd.png").stat().st_size > 10_000


def test_a_combined_manifest_tells_its_data_sets_apart(small: Manifest) -> None:
    items = [item(f"{name}/{i}", dataset=name, fold=i) for name in ("BUSBRA", "BUSI") for i in range(2)]
    figure = manifest_figure(manifest(items))
    first, second = (tuple(discs.get_facecolor()[0]) for discs in figure.axes[0].collections)
    assert first != second
    assert [label.split(":")[0] for label in legend(figure, 0)] == ["BUSBRA", "BUSI"]


def test_the_file(small: Manifest, tmp_path: Path) -> None:
    path = save_figure(small, None, tmp_path / "new" / "figure.png")
    with Image.open(path) as picture:
        assert picture.format == "PNG" and picture.size == (1500, 1350)
        colours = {colour for _, colour in picture.convert("RGB").getcolors(10**6)}
    assert {(0x00, 0x72, 0xB2), (0xE6, 0x9F, 0x00), (0xE4, 0xE4, 0xE4)} <= colours  # benign, malignant, normal
    assert path.stat().st_size < 500_000


@pytest.mark.parametrize("name", ["figure.jpg", "figure", "file/figure.png"])
def test_a_file_that_cannot_be_written_is_one_line(small: Manifest, tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match=r"^figure .*figure") as caught:
        save_figure(small, None, tmp_path / name)
    assert "\n" not in str(caught.value)


def test_the_real_sample(shared_data: Path, tmp_path: Path) -> None:
    """121 of BUSI's 647 lesions are in the sample; they lie in the upper half of the image, off its margins."""
    content = load_manifest(shipped_manifest("BUSI"))
    figure = manifest_figure(content, find_root("BUSI", str(shared_data / "BUSI")))
    assert figure.get_suptitle().startswith("BUSI: 780 images, patients unknown, ")
    axes = figure.axes[2]
    assert axes.get_title() == "(c) Lesion position: mean of 121 masks, 526 absent"
    cover = axes.images[0].get_array()
    row, column = np.unravel_index(cover.argmax(), cover.shape)
    assert row < 32 and 16 < column < 48 and 30 < cover.max() < 70
    assert cover[-4:].max() < 5


def test_drawing_touches_neither_pyplot_nor_torch(tmp_path: Path) -> None:
    program = f"""
import sys
from ultrarefiner_monai.data.manifests.manifest import load_manifest, shipped_manifest
from ultrarefiner_monai.data.manifests.figure import save_figure
save_figure(load_manifest(shipped_manifest("PHANTOM")), None, {str(tmp_path / "f.png")!r})
sys.exit(", ".join({{"matplotlib.pyplot", "torch", "monai", "mlflow"}} & set(sys.modules)) or None)
"""
    subprocess.run([sys.executable, "-c", program], check=True)
