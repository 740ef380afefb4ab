"""Maps that the next phase can pair, masks that overlay the picture."""

import numpy as np
import torch
from PIL import Image

from ultrarefiner_monai.data.predictions.index import PredictionIndex
from ultrarefiner_monai.data.predictions.maps import read_map
from ultrarefiner_monai.transforms import SaveMapsd, SaveMaskd

INDEX = {"dataset": "D", "stage": "phase3", "fold": 1, "split": "val", "manifest_sha256": "m"}


def test_each_channel_gets_a_folder_with_its_own_index_and_dice(tmp_path):
    truth = torch.zeros(1, 2, 3, dtype=torch.bool)
    truth[0, 0, :2] = True
    pred = torch.stack([truth[0].float() * 0.9, torch.tensor([[0.9, 0.1, 0.1], [0.1, 0.1, 0.1]])])
    save = SaveMapsd("pred", str(tmp_path), ("coarse", "refined"), (), INDEX)
    save({"pred": pred, "truth": truth, "id": "a (1)", "name": "benign/a (1).png", "width": 3, "height": 2})
    save.write_index("w")
    coarse, refined = (PredictionIndex.load(tmp_path / name) for name in ("coarse", "refined"))
    assert coarse.model_sha256 == refined.model_sha256 == "w"
    assert coarse.items[0]["dice"] == 1.0
    assert np.isclose(refined.items[0]["dice"], 2 / 3)
    assert refined.items[0]["file"] == "benign/a (1).nii.gz"
    assert np.array_equal(read_map(tmp_path / "refined" / "benign" / "a (1).nii.gz"), pred[1].numpy())


def test_mask_file_overlays_the_picture(tmp_path):
    pred = torch.tensor([[[0.9, 0.1, 0.1], [0.1, 0.1, 0.7]]])
    SaveMaskd("pred", str(tmp_path / "masks"))({"pred": pred, "image_path": "somewhere/picture.jpg"})
    saved = np.asarray(Image.open(tmp_path / "masks" / "picture.png"))
    assert saved.tolist() == [[255, 0, 0], [0, 0, 255]]
    SaveMaskd("pred", str(tmp_path), islands=0.6)({"pred": pred, "image_path": "somewhere/picture.jpg"})
    assert np.asarray(Image.open(tmp_path / "picture.png")).tolist() == [[255, 0, 0], [0, 0, 0]]
