"""Evaluations of a trained model on a data set that it has not seen, and of a cascade of two models."""

import csv
import json
import math
import shutil
from pathlib import Path
from types import SimpleNamespace

import mlflow
import pytest
from PIL import Image, ImageOps

from ultrarefiner_monai.bundle.preflight import Request, decide
from ultrarefiner_monai.bundle.preflight.simulated_predictions import simulate_predictions
from ultrarefiner_monai.cross_validation.tasks import run_bundle
from ultrarefiner_monai.data.manifests.build import build_document, write_manifest
from ultrarefiner_monai.data.manifests.manifest import load_manifest
from ultrarefiner_monai.data.manifests.splits import Options
from ultrarefiner_monai.data.releases.release import read_release

SIZES = {
    "phase1": {"variant": "tiny", "image_size": 64},
    "phase3": {
        "variant": "tiny",
        "image_size": 64,
        "coarse_variant": "tiny",
        "coarse_size": 64,
        "cache_embeddings": "false",
    },
}


@pytest.fixture(scope="module")
def trained(small_pair, tmp_path_factory):
    """Models of phases 1 and 2 of fold 1 of BUSI, and BUS with one mirrored picture out of BUSI's training images."""
    out = tmp_path_factory.mktemp("external")
    root = Path(small_pair["data_root"])
    own = keys_of("BUSI", root / "BUSI", out)
    manifest = load_manifest(own["manifest"])
    shutil.copytree(root / "BUS", out / "BUS")
    ImageOps.mirror(Image.open(root / "BUSI" / manifest.training[0]["image"])).save(out / "BUS/original/000003.png")
    other = keys_of("BUS", out / "BUS", out)
    shared = {"fold": 1, "epochs": 1, "batch_size": 4, "tracking_uri": f"sqlite:///{out}/m.db", "log_model": "false"}
    run_bundle("phase1", "train", **own, **shared, **SIZES["phase1"], output_dir=str(out / "phase1"))
    simulate_predictions(manifest, root / "BUSI", "phase1", out / "coarse")
    keys = {**SIZES["phase1"], "cache_embeddings": "false", "coarse_predictions": str(out / "coarse")}
    run_bundle("phase2", "train", **own, **shared, **keys, output_dir=str(out / "phase2"))
    models = {name: str(out / name / "model.pt") for name in ("phase1", "phase2")}
    cascade = {f"{name}_checkpoint": path for name, path in models.items()}
    return SimpleNamespace(
        out=out, own=own, other=other, manifest=manifest, models=models, cascade=cascade, uri=shared["tracking_uri"]
    )


@pytest.fixture(scope="module")
def external(trained):
    """Folder of phase 1's scores on BUS, which nothing is known to be wrong with."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "ultrarefiner_monai.bundle.preflight.provenance.shipped_manifest", lambda *_: Path(trained.own["manifest"])
        )
        evaluate(trained, "phase1", "external", trained.other, checkpoint=trained.models["phase1"])
    return trained.out / "scores" / "external_BUS"


def keys_of(name, root, out):
    manifest = out / f"{name}.json"
    write_manifest(build_document(read_release(name, str(root)), Options(folds=2)), manifest)
    return {"dataset": name, "data_root": str(root), "manifest": str(manifest)}


def evaluate(trained, phase, split, data, **keys):
    keys = {"output_dir": str(trained.out / "scores"), "tracking_uri": trained.uri, "batch_size": 4, **keys}
    return run_bundle(phase, "evaluate", split=split, **data, **SIZES["phase1" if phase == "phase2" else phase], **keys)


def read(folder):
    with (folder / "per_image.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return rows, json.loads((folder / "metrics.json").read_text(encoding="utf-8"))


def assert_means_of(rows, metrics, names):
    for name in names:
        values = [value for row in rows if not math.isnan(value := float(row[name]))]
        assert metrics[name]["n"] == len(values)
        assert metrics[name]["value"] == (pytest.approx(sum(values) / len(values)) if values else None)


def test_all_lesions_of_the_other_data_set_are_scored(external, trained):
    rows, summary = read(external)
    other = load_manifest(trained.other["manifest"])
    assert [row["id"] for row in rows] == sorted(item["id"] for item in (*other.training, *other.testing))
    assert len(rows) == 6
    assert_means_of(rows, summary["metrics"], [name for name in rows[0] if name.startswith("coarse_dice")])
    assert_means_of(rows, summary["metrics"], ["coarse_iou", "coarse_hd95", "coarse_precision", "coarse_false_lesions"])
    assert summary["metrics"]["coarse_lesion_sensitivity"]["n"] == summary["lesions"] == 6
    assert {"reliability.json", "panels", "run.json"} <= {path.name for path in external.iterdir()}


def test_scores_of_each_image_stand_in_the_summary_too(external):
    rows, summary = read(external)
    assert [row.keys() for row in summary["per_image"]] == [row.keys() for row in rows]
    for row, found in zip(rows, summary["per_image"], strict=True):
        assert found["id"] == row["id"]  # 000003, not 3
        for name in ("coarse_dice", "coarse_hd95", "coarse_recall"):
            assert found[name] == (None if row[name] == "nan" else float(row[name]))


def test_summary_says_which_model_on_what(external, trained):
    _, summary = read(external)
    card = json.loads((trained.out / "phase1" / "model.json").read_text(encoding="utf-8"))
    assert (summary["dataset"], summary["fold"]) == ("BUSI", 1)
    assert summary["manifest_sha256"] == trained.manifest.sha256
    assert summary["models"] == {"phase1": card["sha256"]}
    other = load_manifest(trained.other["manifest"])
    assert summary["evaluated_on"] == {"dataset": "BUS", "manifest_sha256": other.sha256, "images": 6}


def test_the_training_picture_in_it_is_reported(external, trained):
    _, summary = read(external)
    images = [{"id": "000003", "like": trained.manifest.training[0]["id"]}]
    assert summary["overlap"] == {"checked": True, "reason": None, "images": images}
    warnings = json.loads((external / "run.json").read_text(encoding="utf-8"))["warnings"]
    assert any(line.startswith("1 of 6 images are near-duplicates") for line in warnings)


def test_it_is_tracked_beside_the_model_s_other_runs(external, trained):
    client = mlflow.MlflowClient(trained.uri)
    run = client.get_run(json.loads((external / "mlflow_run.json").read_text(encoding="utf-8"))["run_id"])
    assert client.get_experiment(run.info.experiment_id).name == "BUSI"
    assert run.data.tags.items() >= {"evaluated_on": "BUS", "dataset": "BUSI", "fold": "1", "split": "external"}.items()
    _, summary = read(external)
    assert run.data.metrics["external_coarse_dice"] == pytest.approx(summary["metrics"]["coarse_dice"]["value"])
    assert "metrics.json" in {artifact.path for artifact in client.list_artifacts(run.info.run_id)}


def test_an_unknown_training_manifest_is_told(trained, tmp_path):
    """BUSI's shipped manifest is not the one that the model was trained with."""
    evaluate(
        trained, "phase1", "external", trained.other, checkpoint=trained.models["phase1"], output_dir=str(tmp_path)
    )
    _, summary = read(tmp_path / "external_BUS")
    assert not summary["overlap"]["checked"]
    assert trained.manifest.sha256[:12] in summary["overlap"]["reason"]


@pytest.mark.parametrize("split", ["test", "val", "normal"])
def test_cascade_is_scored_on_every_split(split, trained):
    evaluate(trained, "phase3", split, {**trained.own, "fold": 1}, **trained.cascade)
    rows, summary = read(trained.out / "scores" / f"cascade_{split}")
    assert {row["id"] for row in rows} == {item["id"] for item in trained.manifest.split(split, 1)}
    assert (summary["phase"], summary["models"].keys()) == ("cascade", {"phase1", "phase2"})
    names = [f"{stage}_{name}" for stage in ("coarse", "refined") for name in ("dice", "iou", "specificity")]
    assert_means_of(rows, summary["metrics"], names)
    if split == "normal":
        assert summary["metrics"]["refined_false_positive_rate"]["n"] == len(rows)


def test_cascade_starts_from_the_masks_of_phase_1(trained, external):
    """Both put the same pictures through the same coarse network; the sizes are equal, and so are the scores."""
    evaluate(trained, "phase3", "external", trained.other, **trained.cascade)
    rows, summary = read(trained.out / "scores" / "cascade_external_BUS")
    alone, _ = read(external)
    assert [row["id"] for row in rows] == [row["id"] for row in alone]
    for row, one in zip(rows, alone, strict=True):
        assert float(row["coarse_dice"]) == pytest.approx(float(one["coarse_dice"]), abs=0.02)  # bf16
    assert summary["metrics"]["refined_dice"]["n"] == 6


@pytest.mark.parametrize(
    ("phase", "split", "data", "named", "said"),
    [
        (
            "phase1",
            "external",
            "own",
            ("checkpoint",),
            "was trained on BUSI: split 'external' of BUSI would score images",
        ),
        ("phase1", "external", "pair", ("checkpoint",), r"was trained on BUSI: split 'external' of BUSI\+BUS would"),
        ("phase1", "external", "other", (), "split 'external' needs the model it evaluates"),
        ("phase1", "test", "other", ("checkpoint",), "made with dataset = 'BUSI', expected 'BUS'"),
        ("phase2", "external", "other", ("checkpoint",), "evaluate the cascade: phase3's evaluate.json"),
        ("phase3", "external", "own", ("phase1", "phase2"), "was trained on BUSI: split 'external' of BUSI would"),
        ("phase3", "test", "own", ("phase1",), "evaluated from 2 models: add --phase2_checkpoint FILE"),
        ("phase3", "test", "own", ("checkpoint", "phase1", "phase2"), "evaluate one at a time"),
    ],
)
def test_what_is_refused_in_one_line(phase, split, data, named, said, trained, small_pair, tmp_path):
    keys = {"checkpoint": trained.models["phase1"], **trained.cascade}
    keys = {key: path for key, path in keys.items() if key.removesuffix("_checkpoint") in named}
    data = {"own": trained.own, "other": trained.other, "pair": small_pair}[data]
    with pytest.raises(SystemExit, match=said) as caught:
        evaluate(trained, phase, split, data, output_dir=str(tmp_path / "out"), **keys)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_model_without_its_card_is_refused(trained, tmp_path):
    shutil.copy(trained.models["phase1"], tmp_path / "model.pt")
    with pytest.raises(SystemExit, match=r"model\.json: cannot be read as JSON .*says what the model was trained on"):
        evaluate(trained, "phase1", "external", trained.other, checkpoint=str(tmp_path / "model.pt"))


def test_halves_of_a_cascade_come_from_the_same_fold(trained, tmp_path):
    for name in ("model.pt", "model.json"):
        shutil.copy(trained.out / "phase2" / name, tmp_path)
    card = json.loads((tmp_path / "model.json").read_text(encoding="utf-8"))
    (tmp_path / "model.json").write_text(json.dumps({**card, "fold": 0}))
    mixed = {**trained.cascade, "phase2_checkpoint": str(tmp_path / "model.pt")}
    with pytest.raises(SystemExit, match="made with fold = 0, expected 1"):
        evaluate(trained, "phase3", "external", trained.other, output_dir=str(tmp_path / "out"), **mixed)


def test_only_evaluations_know_the_split(small_pair, tmp_path):
    keys = {"bundle_root": str(tmp_path), "fold": 0, "variant": "tiny", "image_size": None, "mode": "evaluate"}
    plan = decide(Request.of("phase1", keys | small_pair))
    with pytest.raises(SystemExit, match=r"split 'external' is for evaluate\.json"):
        plan.items("external")
