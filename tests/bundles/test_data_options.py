"""Two data sets at once, with normals, a damaged picture and workers: one small training each, looked at from all sides."""

import csv
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import mlflow
import pytest

from ultrarefiner_monai.bundle.preflight import Request, decide
from ultrarefiner_monai.cross_validation.tasks import run_bundle
from ultrarefiner_monai.data.manifests.manifest import load_manifest
from ultrarefiner_monai.data.predictions.index import PredictionIndex
from ultrarefiner_monai.data.predictions.pairing import pair_predictions


@pytest.fixture(scope="module")
def trained(small_pair, tmp_path_factory):
    """Fold 0 of phase 1, trained by the main process and by two workers on a release with one broken picture."""
    out = tmp_path_factory.mktemp("runs")
    shutil.copytree(small_pair["data_root"], out / "data")
    manifest = load_manifest(small_pair["manifest"])
    broken = next(item for item in manifest.training if item["fold"] == 1)
    (out / "data" / broken["image"]).write_bytes(b"broken")
    document = json.loads(Path(small_pair["manifest"]).read_text(encoding="utf-8"))
    for item in (*document["training"], *document["normal"]):
        item.update({"spacing": [0.5, 0.25]} if item["dataset"] == "BUS" else {})
    (out / "manifest.json").write_text(json.dumps(document), encoding="utf-8")
    places = {"data_root": str(out / "data"), "manifest": str(out / "manifest.json")}
    keys = {**small_pair, **places, "skip_bad": "true", "variant": "tiny", "image_size": 32}
    keys |= {"batch_size": 4, "tracking_uri": f"sqlite:///{out}/m.db"}
    runs = {
        workers: run_bundle(
            "phase1", "train", **keys, epochs=1, normal_share=0.2, workers=workers, output_dir=str(out / str(workers))
        )
        for workers in (0, 2)
    }
    manifest = load_manifest(out / "manifest.json")
    return SimpleNamespace(out=out, keys=keys, manifest=manifest, broken=broken, items=items_of(runs[0]))


def items_of(run):
    return run.parser.get_parsed_content("train#dataset").data


def read(path):
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.fault(5)
def test_workers_change_no_number(trained):
    """The same seed, 0 against 2 workers: losses and scores are equal to the last bit."""
    numbers = []
    for workers in ("0", "2"):
        lines = [json.loads(line) for line in (trained.out / workers / "metrics.jsonl").read_text().splitlines()]
        numbers.append([{key: line[key] for key in line if key not in ("run", "time")} for line in lines])
    assert any("train_loss" in line for line in numbers[0])
    assert numbers[0] == numbers[1]


def test_scores_tell_the_data_set(trained):
    rows = read(trained.out / "0" / "per_image.csv")
    assert {row["id"]: row["dataset"] for row in rows} == {
        item["id"]: item["dataset"] for item in trained.manifest.split("val", 0)
    }
    assert {row["dataset"] for row in rows} == {"BUSI", "BUS"}


def test_distances_are_in_millimetres_where_the_manifest_knows_them(trained):
    rows = read(trained.out / "0" / "per_image.csv")
    assert {(row["dataset"], row["unit"]) for row in rows} == {("BUSI", "px"), ("BUS", "mm")}


def test_out_of_fold_maps_keep_their_names_in_a_folder_of_the_data_set(trained):
    keys = {key: value for key, value in trained.keys.items() if key not in ("dataset", "tracking_uri")}
    run_bundle("phase1", "inference", dataset_name="BUSI+BUS", output_dir=str(trained.out / "0"), **keys)
    folder = trained.out / "0" / "predictions"
    items = trained.manifest.split("val", 0)
    paired = pair_predictions(items, [folder], trained.manifest)
    written = {path.relative_to(folder).as_posix() for path in folder.rglob("*.nii.gz")}
    assert written == {item["image"].replace(".png", ".nii.gz") for item in items}
    assert {item["coarse"] for item in paired} == {str(folder / name) for name in written}
    assert len(PredictionIndex.load(folder).items) == len(items)
    assert (folder / "excluded.json").is_file()


def test_the_broken_picture_is_left_out_and_recorded(trained):
    lesions = {item["id"] for item in trained.items if item["class"] != "normal"}
    assert lesions == {item["id"] for item in trained.manifest.split("train", 0)} - {trained.broken["id"]}
    excluded = json.loads((trained.out / "0" / "excluded.json").read_text(encoding="utf-8"))
    assert [entry["id"] for entry in excluded] == [trained.broken["id"]]
    client = mlflow.MlflowClient(trained.keys["tracking_uri"])
    run_id = json.loads((trained.out / "0" / "mlflow_run.json").read_text())["run_id"]
    assert client.get_run(run_id).data.tags["excluded_items"] == "1"
    assert "excluded.json" in {artifact.path for artifact in client.list_artifacts(run_id)}


def test_normals_of_other_folds_are_a_fifth_of_the_training_images(trained):
    normals = [item["id"] for item in trained.items if item["class"] == "normal"]
    assert len(normals) == round(0.2 * len(trained.items)) > 0
    assert set(normals) <= {item["id"] for item in trained.manifest.split("train_normal", 0)}


def test_evaluation_on_normals_shows_none_that_was_trained_on(trained):
    run_bundle("phase1", "evaluate", split="normal", output_dir=str(trained.out / "0"), **trained.keys)
    rows = read(trained.out / "0" / "normal" / "per_image.csv")
    assert {row["id"] for row in rows} == {item["id"] for item in trained.manifest.split("normal", 0)}
    assert {row["class"] for row in rows} == {"normal"}
    assert not {row["id"] for row in rows} & {item["id"] for item in trained.items}
    assert (trained.out / "0" / "normal" / "excluded.json").is_file()


@pytest.mark.parametrize("fold", [0, 1])
def test_phase_3_is_evaluated_on_normals_that_its_phase_1_has_not_seen(fold, small_pair, tmp_path):
    keys = {"bundle_root": str(tmp_path), "fold": fold, "variant": "tiny", "image_size": None, **small_pair}
    first = decide(Request.of("phase1", keys | {"normal_share": 0.4}))
    coarse = {"coarse_variant": "tiny", "coarse_size": None, "points": None, "fusion": "mean", "lora_rank": 0}
    third = decide(Request.of("phase3", keys | coarse | {"mode": "evaluate"}))
    normals = {item["id"] for item in first.training_items() if item["class"] == "normal"}
    evaluated = {item["id"] for item in third.items("normal")}
    assert normals and evaluated and not normals & evaluated
