"""A picture is the same and the right way up however it is stored, and masks are merged or refused by written rules."""

import nibabel
import numpy as np
import pytest
from picture_kinds import SQUARE, binary, interlaced, niftis, pictures, saved
from PIL import Image

from ultrarefiner_monai.data.images import read_grey, read_mask
from ultrarefiner_monai.data.integrity.verification import verify
from ultrarefiner_monai.data.manifests.build import build_document, write_manifest
from ultrarefiner_monai.data.manifests.splits import Options
from ultrarefiner_monai.data.releases.release import read_release
from ultrarefiner_monai.deploy.images import open_image_file
from ultrarefiner_monai.deploy.predict import prediction
from ultrarefiner_monai.deploy.predict.outputs import Outputs
from ultrarefiner_monai.transforms import LoadGreyd, LoadMaskd

SMALL = (np.arange(20)[:, None] * 8 + np.arange(30)[None] * 3).astype(np.uint8)  # neither square nor symmetric


def plain(grey):
    """What no compression has changed, by name."""
    lossless = {name: content for name, content in pictures(grey).items() if "jp" not in name}
    return lossless | {"interlaced.png": interlaced(grey)}


@pytest.mark.fault(12)
def test_every_kind_of_file_is_the_tensor_of_the_grey_original(tmp_path):
    for name, content in (pictures(SMALL) | {"interlaced.png": interlaced(SMALL)}).items():
        (tmp_path / name).write_bytes(content)
        loaded = LoadGreyd("image")({"image": tmp_path / name})["image"]
        assert tuple(loaded.shape) == (1, 20, 30), name
        tolerance = 4 if "jp" in name else 0.01  # levels; JPEG loses some
        np.testing.assert_allclose(loaded[0].numpy(), SMALL / 255, atol=tolerance / 255, err_msg=name)
    one = SMALL > 100
    (tmp_path / "one.png").write_bytes(saved(Image.fromarray(one), "PNG"))
    np.testing.assert_array_equal(read_grey(tmp_path / "one.png"), one.astype(np.float32))


@pytest.mark.fault(12)
def test_a_dot_stays_where_it_is_in_every_reader(tmp_path):
    """Near the top, at the right: no reader turns, mirrors or transposes."""
    dot = np.zeros((20, 30), np.uint8)
    dot[2, 25] = 255
    for name, content in (plain(dot) | niftis(dot)).items():
        (tmp_path / name).write_bytes(content)
        first = next(open_image_file(tmp_path / name).frames())
        assert np.argwhere(first > 0.5).tolist() == [[2, 25]], name
        if ".nii" not in name:
            mask = LoadMaskd("label")({"label": tmp_path / name})["label"]
            assert np.argwhere(mask[0].numpy()).tolist() == [[2, 25]], name
    for name, content in binary(SQUARE).items():
        (tmp_path / name).write_bytes(content)
        np.testing.assert_array_equal(read_mask(tmp_path / name), SQUARE > 0, err_msg=name)


class Threshold:
    """A model that finds what is bright, so that its mask is known."""

    def __init__(self, *arguments):
        self.paths, self.coarse_paths, self.stage, self.device, self.name = [], [], "phase1", "cpu", "threshold"
        self.organs, self.clip, self.islands, self.spacing = False, None, 0.0, None

    def __call__(self, grey, prompts=None, pixel=None):
        from ultrarefiner_monai.models.ensemble import Consensus

        return Consensus(grey, np.zeros_like(grey), float("nan"))


@pytest.mark.fault(12)
def test_a_saved_mask_overlays_its_picture_exactly(tmp_path, monkeypatch):
    monkeypatch.setattr(prediction, "Ensemble", Threshold)
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    expected = SMALL / np.float32(255) >= 0.5
    for number, (name, content) in enumerate((plain(SMALL) | niftis(SMALL)).items()):
        (folder / f"{number:02}_{name}").write_bytes(content)
    assert 0 < expected.mean() < 1 and not prediction.predict(folder, "", Outputs(out)).failures
    assert not prediction.predict(folder, "", Outputs(tmp_path / "nifti", "nifti")).failures
    masks = [path for path in sorted((out / "masks").iterdir()) if "frame" not in path.name or "frame0001" in path.name]
    assert len(masks) == len(list(folder.iterdir()))
    for path in masks:
        np.testing.assert_array_equal(np.asarray(Image.open(path)) > 0, expected, err_msg=path.name)
        stored = nibabel.load(tmp_path / "nifti/masks" / f"{path.stem}.nii.gz")
        np.testing.assert_array_equal(np.asarray(stored.dataobj).T > 0, expected, err_msg=path.name)


EVEN = np.indices(SQUARE.shape)[1] % 2 == 0
MASKS = {  # what is done to a mask, the kind of its fault, and what a reader would make of it
    "one column less": (lambda mask: mask[:, :-1], "mask_size", None),
    "one row more": (lambda mask: np.pad(mask, ((0, 1), (0, 0))), "mask_size", None),
    "254 beside 255": (lambda mask: np.where(EVEN & (mask > 0), np.uint8(254), mask), "mask_values", SQUARE),
    "greys": (lambda mask: mask // 2 + np.uint8(3), "mask_values", SQUARE),
    "two colours": (lambda mask: np.stack([mask * EVEN, mask * ~EVEN, mask * 0], axis=2), "mask_values", SQUARE),
    "one colour": (lambda mask: np.stack([mask * 0, mask, mask * 0], axis=2), "hash", SQUARE),
    "values 0 and 1": (lambda mask: mask // 255, "hash", SQUARE),
}


@pytest.mark.fault(13)
def test_masks_are_merged_or_refused_by_the_written_rules(tmp_path):
    """Those of docs/reference/verify.md; two masks of one image are their union."""
    root = tmp_path / "BUSI"
    for label, count in (("benign", 8), ("malignant", 8)):
        (root / label).mkdir(parents=True)
        for number in range(1, count + 1):
            grey = np.random.default_rng([number, count, len(label)]).integers(0, 255, SQUARE.shape).astype(np.uint8)
            Image.fromarray(grey).save(root / label / f"{label} ({number}).png")
            Image.fromarray(SQUARE).save(root / label / f"{label} ({number})_mask.png")
    second = np.zeros_like(SQUARE)
    second[10:20, 20:30] = 255
    Image.fromarray(second).save(root / "benign/benign (8)_mask_1.png")
    manifest = tmp_path / "BUSI.json"
    document = build_document(read_release("BUSI", str(root)), Options(folds=2))
    write_manifest(document, manifest)
    assert not verify(manifest, root).faults
    (merged,) = (
        item for item in document["training"] + document["testing"] if item["image"].endswith("benign (8).png")
    )
    assert merged["lesion_pixels"] == np.count_nonzero(SQUARE | second)
    pair = [root / "benign" / f"benign (8)_mask{end}.png" for end in ("", "_1")]
    np.testing.assert_array_equal(read_mask(pair), (SQUARE | second) > 0)
    for number, (change, _, meant) in enumerate(MASKS.values(), start=1):
        path = root / "malignant" / f"malignant ({number})_mask.png"
        Image.fromarray(change(SQUARE)).save(path)
        if meant is not None:
            np.testing.assert_array_equal(read_mask(path), meant > 0)
    found = {fault.file: fault.kind for fault in verify(manifest, root).faults}
    kinds = [kind for _, kind, _ in MASKS.values()]
    assert found == {f"malignant/malignant ({number})_mask.png": kind for number, kind in enumerate(kinds, start=1)}
