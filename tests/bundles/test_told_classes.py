"""Stages that tell classes apart, from the manifest to the scores: the true class is scored and never used."""

import csv
import json
import math
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from ignite.engine import Events
from monai.bundle import ConfigWorkflow
from PIL import Image
from small_releases import TINY_OF_OTHERS

from ultrarefiner_monai.bundle.preflight import Request, rehearse
from ultrarefiner_monai.cross_validation.conduct import conduct
from ultrarefiner_monai.cross_validation.tasks import CrossValidation, config_files, run_bundle
from ultrarefiner_monai.data.manifests.build import build_document, write_manifest
from ultrarefiner_monai.data.manifests.items import masks_of
from ultrarefiner_monai.data.manifests.manifest import load_manifest
from ultrarefiner_monai.data.manifests.splits import Options
from ultrarefiner_monai.data.releases.own import OwnOptions
from ultrarefiner_monai.data.releases.release import read_release
from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.networks import build_sam
from ultrarefiner_monai.systems import find_stage, find_system
from ultrarefiner_monai.systems.keys import configuration

STAGE = "automedsam"
OTHER = {"benign": "malignant", "malignant": "benign"}


@pytest.fixture(scope="module")
def cases(class_cv) -> list[SimpleNamespace]:
    """Image, mask and class of each picture that the models were trained or tested on."""
    root = Path(class_cv.data_root)
    items = [*class_cv.manifest.training, *class_cv.manifest.testing]
    return [
        SimpleNamespace(
            id=item["id"], image=Image.open(root / item["image"]), mask=_mask(root, item), label=item["class"]
        )
        for item in items
    ]


def _mask(root, item) -> np.ndarray:
    found = [np.asarray(Image.open(root / path)) > 0 for path in masks_of(item)]
    return np.any(found, axis=0).astype(np.uint8) * 255


def release(folder: Path, cases, masks: Mapping[str, np.ndarray], classes: Mapping[str, str]) -> dict[str, str]:
    """Keys of a run on the pictures as somebody's own data set, with other masks and classes where they are given."""
    root = folder / "MINE"
    for kind in ("images", "masks"):
        (root / kind).mkdir(parents=True)
    for case in cases:
        case.image.save(root / "images" / f"{case.id}.png")
        Image.fromarray(masks.get(case.id, case.mask)).save(root / "masks" / f"{case.id}.png")
    lines = ["image,class", *(f"{case.id}.png,{classes.get(case.id, case.label)}" for case in cases)]
    (folder / "classes.csv").write_text("\n".join(lines))
    own = OwnOptions(table=folder / "classes.csv", columns={})
    document = build_document(read_release("MINE", str(root), own=own), Options(folds=2))
    write_manifest(document, folder / "MINE.json")
    return {"dataset": "MINE", "data_root": str(root), "manifest": str(folder / "MINE.json")}


@pytest.fixture(scope="module")
def score(class_cv, tmp_path_factory, cases):
    """Evaluate fold 0's model on the pictures with other masks and classes: predictions by id, rows, metrics, warnings."""

    @cache
    def evaluate(what: str) -> SimpleNamespace:
        folder = tmp_path_factory.mktemp(what)
        keys = TINY_OF_OTHERS[STAGE] | release(folder, cases, *CHANGES[what](cases))
        keys |= {"checkpoint": str(class_cv.folder(STAGE, 0) / "model.pt"), "split": "external"}
        keys |= {"output_dir": str(folder / "out"), "tracking_uri": class_cv.shared["tracking_uri"]}
        run = ConfigWorkflow(config_files(STAGE, "train", "evaluate"), workflow_type="train", **keys)
        run.initialize()
        predictions: dict[str, torch.Tensor] = {}

        @run.parser.get_parsed_content("validate#evaluator").on(Events.ITERATION_COMPLETED)
        def note(engine) -> None:
            for item, output in zip(engine.state.batch, engine.state.output, strict=True):
                predictions[str(item["id"])] = output["pred"].as_subclass(torch.Tensor).clone()

        run.run()
        scores = folder / "out" / "external_MINE"
        with (scores / "per_image.csv").open(encoding="utf-8") as file:
            rows = {row["id"]: row for row in csv.DictReader(file)}
        metrics = json.loads((scores / "metrics.json").read_text())["metrics"]
        return SimpleNamespace(
            predictions=predictions, rows=rows, metrics=metrics, told=(scores / "run.json").read_text()
        )

    return evaluate


def drawn(cases):
    """Masks of noise, and classes drawn at random."""
    generator = np.random.default_rng(0)
    masks = {}
    for case in cases:
        masks[case.id] = np.zeros_like(case.mask)
        inner = masks[case.id][9:-9, 9:-9]
        inner[generator.random(inner.shape) < 0.2] = 255
    return masks, {case.id: str(generator.choice(list(OTHER))) for case in cases}


CHANGES = {  # masks and classes that differ from the true ones
    "truth": lambda cases: ({}, {}),
    "swapped": lambda cases: ({}, {case.id: OTHER[case.label] for case in cases}),
    "noise": drawn,
    "unknown": lambda cases: ({}, dict.fromkeys([case.id for case in cases if case.label == "benign"][:2], "unknown")),
}


def test_true_classes_and_masks_change_scores_alone(score, cases):
    truth, swapped, noise = map(score, ("truth", "swapped", "noise"))
    for other in (swapped, noise):
        assert other.predictions.keys() == truth.predictions.keys() == {case.id for case in cases}
        for name, maps in truth.predictions.items():
            assert maps.shape[0] == 3 and torch.equal(maps, other.predictions[name]), name
            assert truth.rows[name]["mask_class"] == other.rows[name]["mask_class"]
    # Of two classes, what is right for one assignment is wrong for the other.
    for rate in ("accuracy", "auc"):
        found, mirrored = (one.metrics[f"mask_{rate}"]["value"] for one in (truth, swapped))
        assert mirrored == pytest.approx(1 - found) and truth.metrics[f"mask_{rate}"]["n"] == len(cases)
    assert truth.metrics["mask_dice"] == swapped.metrics["mask_dice"] != noise.metrics["mask_dice"]


def test_images_of_another_class_are_scored_for_their_lesions_alone(score, cases):
    truth, found = score("truth"), score("unknown")
    strangers = [name for name, row in found.rows.items() if row["class"] == "unknown"]
    assert (
        len(strangers) == 2 and "2 images of class unknown, expected benign, malignant: their masks are" in found.told
    )
    assert "their masks are scored" not in truth.told
    for name in strangers:
        row = found.rows[name]
        assert row["mask_dice"] == truth.rows[name]["mask_dice"] and row["mask_class"] == truth.rows[name]["mask_class"]
        assert row["mask_dice_benign"] == row["mask_dice_malignant"] == "nan"
    assert found.metrics["mask_dice"] == truth.metrics["mask_dice"]
    assert found.metrics["mask_accuracy"]["n"] == found.metrics["mask_auc"]["n"] == len(cases) - 2


def test_learned_weights_are_tracked(class_cv):
    lines = [json.loads(line) for line in (class_cv.folder(STAGE, 0) / "metrics.jsonl").read_text().splitlines()]
    told = {name: value for line in lines for name, value in line.items()}
    for term in ("pixel", "region", "distribution", "transfer"):
        assert told[f"weight_{term}"] == pytest.approx(math.exp(-told[f"log_variance_{term}"]) / 2)
        assert told[f"log_variance_{term}"] != 0 and told[f"train_{term}"] > 0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"classes": "lesion"}, r"(labels = 'classes'|network\.sam\.classes = 'benign\+malignant'), expected 'lesion'"),
        ({"classes": "malignant+benign"}, r"network\.sam\.classes = 'benign\+malignant', expected 'malignant\+benign'"),
        ({"class_mode": "scalar"}, r"network\.sam\.class_mode = 'embedding', expected 'scalar'"),
        ({"image_size": 96}, r"(network\.sam\.)?image_size = 64, expected 96"),
        ({"steps": 8}, r"network\.sam\.steps = 7, expected 8"),
        ({"residual": "false"}, r"network\.sam\.residual = True, expected False"),
    ],
    ids=lambda value: next(iter(value.values())) if isinstance(value, dict) else "",
)
@pytest.mark.parametrize("what", ["evaluate", "inference", "resume"])
def test_a_model_of_another_network_is_refused_by_name(what, changes, said, class_cv, small_release, tmp_path):
    keys = TINY_OF_OTHERS[STAGE] | small_release | changes
    if what == "resume":
        keys |= {"resume": True, "epochs": 2, "output_dir": str(class_cv.folder(STAGE, 0))}
    else:
        keys |= {"checkpoint": str(class_cv.folder(STAGE, 0) / "model.pt"), "output_dir": str(tmp_path)}
    if what == "inference":
        del keys["epochs"]
        keys["dataset_name"] = keys.pop("dataset")
    else:
        keys["tracking_uri"] = class_cv.shared["tracking_uri"]
    with pytest.raises(SystemExit, match=said) as caught:
        run_bundle(STAGE, "train" if what == "resume" else what, **keys)
    assert "\n" not in str(caught.value)


def study(keys: Mapping[str, str], out: Path, **changes) -> CrossValidation:
    """A cross-validation that is to be refused."""
    shared = {"manifest": keys["manifest"], "tracking_uri": f"sqlite:///{out}/m.db"}
    settings = {STAGE: TINY_OF_OTHERS[STAGE] | changes}
    return CrossValidation(
        keys["dataset"], keys["data_root"], out / "out", None, shared, settings, system=find_system(STAGE)
    )


@pytest.mark.parametrize(
    ("of_benign", "classes", "said"),
    [
        ("unknown", "benign+malignant", r"^MINE: \d images of class unknown, expected benign, malignant: p\d+_\d, "),
        (
            "malignant",
            "benign+malignant",
            r"^MINE: no image of class benign among \d of a fold, all of class malignant; use ",
        ),
        ("benign", "benign+odd", r"^MINE: \d images of class malignant, expected benign, odd: p"),
        (
            "benign",
            "benign+malignant+odd",
            r"^MINE: no image of class odd among \d of a fold, all of class benign, mal",
        ),
    ],
)
def test_data_without_the_classes_are_refused_before_a_cross_validation_writes(
    of_benign, classes, said, cases, tmp_path
):
    keys = release(tmp_path, cases, {}, {case.id: of_benign for case in cases if case.label == "benign"})
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    with pytest.raises(DataError, match=said) as caught:
        conduct([study(keys, tmp_path, classes=classes)])
    assert "\n" not in str(caught.value) and "use --classes lesion" in str(caught.value)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    with pytest.raises(SystemExit, match=said):  # and by a training alone
        run_bundle(
            STAGE, "train", **TINY_OF_OTHERS[STAGE] | keys | {"classes": classes, "output_dir": str(tmp_path / "out")}
        )
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_weights_of_a_vit_are_refused_for_lite_medsam(small_release, tmp_path):
    torch.save(build_sam("tiny", 64).state_dict(), tmp_path / "medsam.pth")
    wrong = {"variant": "lite_medsam", "sam_checkpoint": str(tmp_path / "medsam.pth")}
    said = r"medsam.pth does not fit SAM lite_medsam: .*; choose the variant it was made for"
    with pytest.raises(DataError, match=said):
        conduct([study(small_release, tmp_path, **wrong)])
    with pytest.raises(SystemExit, match=said):
        run_bundle(
            STAGE, "train", **TINY_OF_OTHERS[STAGE] | small_release | wrong | {"output_dir": str(tmp_path / "out")}
        )
    assert [path.name for path in tmp_path.iterdir()] == ["medsam.pth"]


def test_a_stride_follows_from_the_grid_or_divides_it(small_release, tmp_path):
    keys = {**small_release, **TINY_OF_OTHERS[STAGE], "stride": 3, "output_dir": str(tmp_path / "run")}
    with pytest.raises(SystemExit, match="stride 3: expected a divisor of 4, the cells along an embedding's side"):
        run_bundle(STAGE, "train", **keys)
    assert not list(tmp_path.iterdir())
    found = {}
    for size in (64, 128, 256):
        own = configuration(find_stage(STAGE)[1]) | {"variant": "lite_medsam", "image_size": size, "bundle_root": "."}
        found[size] = rehearse(Request.of(STAGE, own)).network["stride"]
    assert found == {64: 1, 128: 1, 256: 2}


def test_the_prompts_come_first_and_a_resumed_training_knows_where_it_is(small_release, tmp_path, monkeypatch):
    from ultrarefiner_monai.networks import AutoMedSam

    asked = []  # in trainings: whether the prompts learn alone
    read = AutoMedSam.forward
    monkeypatch.setattr(
        AutoMedSam,
        "forward",
        lambda network, *args, **kwargs: (
            (network.training and asked.append(network.prompts_alone)) or read(network, *args, **kwargs)
        ),
    )
    keys = {**small_release, **TINY_OF_OTHERS[STAGE], "batch_size": 32, "prompt_share": 0.5, "log_model": False}
    keys |= {"tracking_uri": f"sqlite:///{tmp_path}/m.db", "output_dir": str(tmp_path / "run"), "val_interval": 1}
    run_bundle(STAGE, "train", **{**keys, "epochs": 2})
    run_bundle(STAGE, "train", **{**keys, "epochs": 6}, resume=True)
    assert asked == [True, False, True, False, False, False]  # of six, the first three
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "val_mask_dice" in line] == [2, 4, 5, 6]


def test_the_embedding_of_each_view_is_computed_once(small_release, tmp_path, monkeypatch):
    from ultrarefiner_monai.networks import Sam

    embedded = []
    embed = Sam.embed
    monkeypatch.setattr(Sam, "embed", lambda sam, image: embedded.extend(image.flatten(1)) or embed(sam, image))
    monkeypatch.setattr("ultrarefiner_monai.bundle.preflight.request.project_root", lambda _: tmp_path)
    keys = {**small_release, **TINY_OF_OTHERS[STAGE], "cache_embeddings": True, "views": 3, "log_model": False}
    keys |= {"tracking_uri": f"sqlite:///{tmp_path}/m.db", "epochs": 4}
    run_bundle(STAGE, "train", **keys, output_dir=str(tmp_path / "first"))
    seen = len(embedded)
    assert len({pixels.numpy().tobytes() for pixels in embedded}) == seen  # never the same one twice
    items = len(load_manifest(Path(keys["manifest"])).training)
    assert items < seen <= 3 * items
    run_bundle(STAGE, "train", **keys, output_dir=str(tmp_path / "second"))
    assert len(embedded) == seen
    first, second = ((tmp_path / name / "model.pt").read_bytes() for name in ("first", "second"))
    assert first == second  # whether an embedding is computed or read
