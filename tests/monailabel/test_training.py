"""A training as the server runs it: the exported train.json with the server's overrides, in this process."""

import json
import logging

import pytest
from monai.bundle import ConfigWorkflow

from ultrarefiner_monai.data.phantom.phantom import PhantomSettings, generate_phantom
from ultrarefiner_monai.deploy.monailabel.export import export_monailabel
from ultrarefiner_monai.models import load_segmenter


@pytest.mark.parametrize("phase", ["phase1", "phase2", "phase3"])
def test_it_scores_the_validation_pictures_before_and_after_and_leaves_a_model_that_loads(
    phase, models, tmp_path, caplog
):
    export_monailabel(models[phase], tmp_path, coarse=models["phase1"] if phase == "phase2" else None)
    bundle = tmp_path / "monaibundle" / "model" / phase
    settings = PhantomSettings(normal=0, lesions=1, size=(96, 120))
    generate_phantom(tmp_path / "phantom", count=6, seed=3, settings=settings)
    items = [
        {"image": str(path), "label": str(tmp_path / "phantom" / "masks" / path.name)}
        for path in sorted((tmp_path / "phantom" / "images").iterdir())
    ]
    configs = bundle / "configs"
    handlers = json.loads((configs / "train.json").read_text())["train"]["handlers"]
    weights = {"_target_": "CheckpointLoader", "load_path": str(bundle / "models" / "model.pt")}
    weights |= {"load_dict": {"model": "$@network"}, "strict": False}
    workflow = ConfigWorkflow(
        config_file=str(configs / "train.json"),
        meta_file=str(configs / "metadata.json"),
        logging_file=False,
        workflow_type="train",
        **{
            "bundle_root": str(bundle),
            "device": "cpu",
            "train#trainer#max_epochs": 1,
            "train#dataset#data": items[:4],
            "validate#dataset#data": items[4:],
            "train#handlers": [weights, *handlers],
        },
    )
    workflow.initialize()
    with caplog.at_level(logging.INFO, logger="ultrarefiner_monai"):
        workflow.run()
    said = [record.getMessage() for record in caplog.records if "validation Dice" in record.getMessage()]
    assert [line.split(maxsplit=3)[3].split(":")[0] for line in said] == ["before the training", "after epoch 1"]
    card = json.loads((bundle / "models" / "model.json").read_text())
    assert ("started_from" in card) == said[1].endswith(": kept")
    assert load_segmenter(bundle / "models" / "model.pt").stage.name == phase
