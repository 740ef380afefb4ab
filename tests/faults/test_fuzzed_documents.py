"""Damaged documents, bytes and values, end in one line: manifests, predictions, cards, inventories, what runs leave."""

import json
import random
import shutil
from collections.abc import Callable
from contextlib import redirect_stdout, suppress
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from fuzzing import fuzz, mutated_bytes, mutated_document

from ultrarefiner_monai.cli.manifests import Manifests
from ultrarefiner_monai.cross_validation.tasks import CrossValidation, system_of
from ultrarefiner_monai.data.manifests.diff import diff, document
from ultrarefiner_monai.data.manifests.diff import table as diff_table
from ultrarefiner_monai.data.manifests.figure import manifest_figure
from ultrarefiner_monai.data.manifests.manifest import load_manifest
from ultrarefiner_monai.data.manifests.summary import summarise
from ultrarefiner_monai.data.manifests.summary import table as summary_table
from ultrarefiner_monai.data.predictions import CoarseMaps, PredictionIndex, pair_predictions
from ultrarefiner_monai.data.releases.inventory import COLUMNS, read_inventory
from ultrarefiner_monai.deploy.model_card import describe, to_markdown
from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.handlers.earlier_run import refuse_work
from ultrarefiner_monai.models import Ensemble, load_model, load_segmenter
from ultrarefiner_monai.models.ensemble import find_models
from ultrarefiner_monai.reports import result_files

Parse = Callable[[bytes], Any]
pytestmark = pytest.mark.fault(29)


@pytest.fixture
def fuzzed(fuzz_cases, request) -> Callable[..., None]:
    """Give a parser damaged forms of a file, half of them damaged as bytes, half as a document.

    `share`: a slow parser gets that much fewer cases. `is_json`: whether it is a document.
    """

    def run(content: bytes, parse: Parse, share: int = 1, is_json: bool = True) -> None:
        document = json.loads(content) if is_json else None
        with suppress(DataError):  # what is imported when it is used is not a case's cost
            parse(content)

        def mutate(generator: random.Random) -> bytes:
            if document is None or generator.random() < 0.5:
                return mutated_bytes(content, generator)
            return json.dumps(mutated_document(document, generator)).encode()

        outcome = fuzz(parse, mutate, max(1, fuzz_cases // share), (DataError,))
        print(f"{request.node.name.removeprefix('test_')}: {outcome}")
        assert not outcome.faults, "\n".join(outcome.faults[:10])

    return run


def written(path: Path, parse: Callable[[], Any]) -> Parse:
    """Parse what stands at `path`."""

    def run(case: bytes) -> None:
        path.write_bytes(case)
        with redirect_stdout(StringIO()):
            parse()

    return run


@pytest.fixture
def manifest(small_release, tmp_path) -> Path:
    return Path(shutil.copy(small_release["manifest"], tmp_path / "PHANTOM.json"))


def test_manifest_summary_and_difference(fuzzed, manifest, small_release):
    other = load_manifest(small_release["manifest"])

    def parse() -> None:
        found = load_manifest(manifest)
        summary_table(summarise(found))
        for fold in range(min(found.num_folds, 3)):
            found.split("train", fold)
        document(difference := diff(found, other))
        diff_table(difference)

    fuzzed(manifest.read_bytes(), written(manifest, parse))


def test_manifest_verify(fuzzed, manifest, small_release):
    def parse() -> None:
        try:
            Manifests().verify(str(manifest), small_release["data_root"], workers=1)
        except SystemExit as error:
            assert error.code == 1

    fuzzed(manifest.read_bytes(), written(manifest, parse), share=6)


def test_manifest_figure(fuzzed, manifest):
    def parse() -> None:
        manifest_figure(load_manifest(manifest)).canvas.draw()

    fuzzed(manifest.read_bytes(), written(manifest, parse), share=30)


def test_predictions(fuzzed, small_cv, tmp_path):
    source, found = small_cv.folder("phase1", 0) / "predictions", small_cv.manifest
    target = tmp_path / "phase1" / "fold0" / "predictions"
    shutil.copytree(source, target)

    def parse() -> None:
        PredictionIndex.load(target)
        pair_predictions(found.split("val", 0), [target], found)

    fuzzed((target / "predictions.json").read_bytes(), written(target / "predictions.json", parse))


def test_card_of_predictions(fuzzed, small_cv, tmp_path):
    for name in ("predictions", "model.json"):
        for fold in range(2):
            source = small_cv.folder("phase1", fold) / name
            copy = shutil.copytree if source.is_dir() else shutil.copy
            (tmp_path / f"fold{fold}").mkdir(exist_ok=True)
            copy(source, tmp_path / f"fold{fold}" / name)
    found = small_cv.manifest
    card = tmp_path / "fold0" / "model.json"
    parse = written(card, lambda: CoarseMaps(tmp_path, found).pair(found.split("val", 0), "val"))
    fuzzed(card.read_bytes(), parse)


@pytest.mark.parametrize("phase", ["phase1", "phase2", "phase3"])
def test_card(phase, fuzzed, make_model):
    path, network = make_model(phase)
    card = path.with_suffix(".json")

    def parse() -> None:
        load_segmenter(path, device="cpu")
        to_markdown(describe(path))
        load_model(network, path, {"stage": phase})

    fuzzed(card.read_bytes(), written(card, parse))


def test_exported_card(fuzzed, export_of):
    folder, _ = export_of("phase3")
    model = folder / "models" / "model.pt"
    card = model.with_suffix(".json")
    fuzzed(card.read_bytes(), written(card, lambda: to_markdown(describe(model))))


def test_ensemble_of_several_folders(fuzzed, make_model, tmp_path):
    path, _ = make_model("phase1")
    for fold in range(2):
        shutil.copytree(path.parent, tmp_path / "study" / f"fold{fold}")
    card = tmp_path / "study" / "fold1" / "model.json"
    parse = written(card, lambda: Ensemble(find_models(tmp_path / "study"), device="cpu"))
    fuzzed(card.read_bytes(), parse, share=10)


def test_inventory(fuzzed, tmp_path):
    header = ",".join(COLUMNS)
    rows = [
        f"BUSI,benign/benign ({n}).png,benign/benign ({n})_mask.png,32,47,32x47,101,{'a' * 64},{'b' * 64},{'0' * 64},benign,,"
        for n in range(5)
    ]
    path = tmp_path / "inventory.csv"
    fuzzed("\n".join([header, *rows, ""]).encode(), written(path, lambda: read_inventory("BUSI", path)), is_json=False)


@pytest.mark.parametrize("name", ["settings.json", "finished.json", "model.json"])
def test_fold_that_was_begun(name, fuzzed, small_cv, small_release, tmp_path):
    shutil.copytree(small_cv.out, tmp_path / "cv", ignore=shutil.ignore_patterns("mlruns*", "tensorboard", "panels"))
    shared = {"manifest": small_release["manifest"], "tracking_uri": small_cv.shared["tracking_uri"]}
    cv = CrossValidation("PHANTOM", small_cv.data_root, tmp_path / "cv", None, shared, small_cv.settings)
    path = cv.folder("phase1", 0) / name
    fuzzed(path.read_bytes(), written(path, lambda: cv.check(["phase1"])))


def test_system_of_a_study(fuzzed, tmp_path):
    path = tmp_path / "system.json"
    fuzzed(b'{"system": "ultrarefiner"} ', written(path, lambda: system_of(tmp_path)))


def test_report_of_an_earlier_run(fuzzed, small_cv, tmp_path):
    (tmp_path / "model.pt").touch()
    path = tmp_path / "run.json"
    content = (small_cv.folder("phase1", 0) / "run.json").read_bytes()
    fuzzed(content, written(path, lambda: refuse_work(tmp_path, resume=False, overwrite=False)))


@pytest.mark.parametrize(
    "name", ["model.json", "executed_config.json", "mlflow_run.json", "system.json", "metrics.jsonl"]
)
def test_results_of_a_study(name, fuzzed, small_cv, tmp_path, monkeypatch):
    def closed(*_: Any, **__: Any) -> None:
        raise DataError("no store here")

    monkeypatch.setattr(result_files, "open_store", closed)
    shutil.copytree(small_cv.out, tmp_path / "cv", ignore=shutil.ignore_patterns("mlruns*", "tensorboard", "panels"))
    path = tmp_path / "cv" / name if name == "system.json" else tmp_path / "cv/phase1/fold0" / name

    def parse() -> None:
        files = result_files.read_results(tmp_path / "cv")
        for run in files.runs:
            _ = run.settings

    fuzzed(path.read_bytes(), written(path, parse), share=15, is_json=not name.endswith("l"))
