"""A training as the server runs it: the exported train.json with the server's overrides, in this process."""

import json
import logging

import pytest
from monai.bundle import ConfigWorkflow

from ultrarefiner_monai.data.phantom.phantom import PhantomSettings, generate_phantom
from ultrarefiner_monai.deploy.monailabel.export import export_monailabel
from ultrarefiner_monai.models import load_segmenter
from ultrarefiner_monai.systems import all_stages


def workflow_of(bundle, items):
    """The training of a served bundle with the server's overrides, on four of six labelled pictures."""
    configs = bundle / "configs"
    handlers = json.loads((configs / "train.json").read_text())["train"]["handlers"]
    weights = {"_target_": "CheckpointLoader", "load_path": str(bundle / "models" / "model.pt")}
    weights |= {"load_dict": {"model": "$@network"}, "strict": False}
    return ConfigWorkflow(
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


@pytest.fixture
def labelled(tmp_path):
    """Paths of six pictures and their masks."""
    settings = PhantomSettings(normal=0, lesions=1, size=(96, 120))
    generate_phantom(tmp_path / "phantom", count=6, seed=3, settings=settings)
    return [
        {"image": str(path), "label": str(tmp_path / "phantom" / "masks" / path.name)}
        for path in sorted((tmp_path / "phantom" / "images").iterdir())
    ]


@pytest.mark.parametrize("phase", all_stages())
def test_it_scores_the_validation_pictures_before_and_after_and_leaves_a_model_that_loads(
    phase, models, labelled, tmp_path, caplog
):
    export_monailabel(models[phase], tmp_path, coarse=models["phase1"] if phase == "phase2" else None)
    bundle = tmp_path / "monaibundle" / "model" / phase
    workflow = workflow_of(bundle, labelled)
    workflow.initialize()
    with caplog.at_level(logging.INFO, logger="ultrarefiner_monai"):
        workflow.run()
    said = [record.getMessage() for record in caplog.records if "validation Dice" in record.getMessage()]
    assert [line.split(maxsplit=3)[3].split(":")[0] for line in said] == ["before the training", "after epoch 1"]
    card = json.loads((bundle / "models" / "model.json").read_text())
    assert ("started_from" in card) == said[1].endswith(": kept")
    assert load_segmenter(bundle / "models" / "model.pt").stage.name == phase


def test_labels_of_lesions_train_no_model_that_tells_classes_apart(classes_model, labelled, tmp_path):
    export_monailabel(classes_model, tmp_path, name="some")
    workflow = workflow_of(tmp_path / "monaibundle" / "model" / "some", labelled)
    workflow.initialize()
    with pytest.raises(RuntimeError) as raised:
        workflow.run()
    reasons = [raised.value]
    while reasons[-1].__cause__ is not None:
        reasons.append(reasons[-1].__cause__)
    assert str(reasons[-1]) == (
        "some tells benign, malignant apart, and labels here say lesion alone; train it with its bundle's train.json, or serve "
        "a model of --classes lesion"
    )
