"""Nothing that a file of data says is run: code in any of its fields is refused when it is read, and reaches no configuration."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from monai.bundle import ConfigParser

from ultrarefiner_monai.cli.training import _read_settings
from ultrarefiner_monai.cross_validation.tasks import CrossValidation, system_of
from ultrarefiner_monai.data.manifests.build import write_manifest
from ultrarefiner_monai.data.manifests.manifest import load_manifest
from ultrarefiner_monai.data.predictions import PredictionIndex
from ultrarefiner_monai.data.releases.inventory import COLUMNS, read_inventory
from ultrarefiner_monai.deploy.export import bundle, export_onnx, export_safetensors, export_torchscript
from ultrarefiner_monai.deploy.mlflow.model import save
from ultrarefiner_monai.deploy.model_card import describe, to_markdown
from ultrarefiner_monai.deploy.monailabel.export import export_monailabel
from ultrarefiner_monai.errors import CodeError, DataError
from ultrarefiner_monai.files import read_json
from ultrarefiner_monai.handlers.earlier_run import refuse_work
from ultrarefiner_monai.models import load_model, read_card
from ultrarefiner_monai.models.card import card_or_empty
from ultrarefiner_monai.reports.result_files import read_results
from ultrarefiner_monai.schemas import as_data, fault_in, is_code
from ultrarefiner_monai.systems import find_stage

pytestmark = pytest.mark.fault(23)
HASH = "a" * 64


@pytest.fixture
def canary(tmp_path) -> Iterator[Path]:
    """A file that only planted code would make."""
    path = tmp_path / "CANARY"
    yield path
    assert not path.exists()


@pytest.fixture
def codes(canary) -> tuple[Any, ...]:
    """What MONAI's parser would run, take for a reference, or for a component."""
    run = f"__import__('pathlib').Path({str(canary)!r}).touch()"
    component = {"_target_": "os.mknod", "path": str(canary)}
    return (f"${run}", "$import os", "@plan", f"%{canary}.json#a", "see @#run", "see %::run", component)


def planted(document: Any, codes: tuple[Any, ...]) -> Iterator[tuple[str, Any]]:
    """The document with each code as the value of each of its fields, and as a key of each of its objects."""
    for path in _paths(document):
        for code in codes:
            changed = [deepcopy(document)]
            place: Any = changed
            for key in path[:-1]:
                place = place[key]
            place[path[-1]] = deepcopy(code)
            yield f"{path}: {code}", changed[0]
            if isinstance(place, dict):
                changed = [deepcopy(document)]
                place = changed
                for key in path[:-1]:
                    place = place[key]
                place[code if isinstance(code, str) else "_target_"] = 0
                yield f"{path[:-1]} key: {code}", changed[0]


def _paths(value: Any, path: tuple[Any, ...] = (0,)) -> Iterator[tuple[Any, ...]]:
    """The way to every field below."""
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield (*path, key)
        yield from _paths(value[key], (*path, key))


def refused(path: Path, documents: Iterator[tuple[str, Any]], read: Callable[[], Any]) -> None:
    """Each document is refused in one line that names the file."""
    for where, document in documents:
        path.write_text(json.dumps(document), encoding="utf-8")
        try:
            read()
        except CodeError as error:
            assert path.name in str(error) and "\n" not in str(error) and "would run as code" in str(error), where
        else:
            raise AssertionError(f"{where}: was read")


@given(st.text(alphabet=st.sampled_from("$@%#: ab_.'\n0"), max_size=8))
@example("5 %")
@example("a@b.de")
@example(" $HOME")
@example("see @#run")
@example("%")
@settings(max_examples=300, deadline=None)
def test_what_is_data_comes_out_of_monais_parser_as_it_went_in(text):
    """MONAI writes "::" for the older "#" in every text; beside that nothing happens to what is no code."""
    content = {"a": {"b": [text]}, "c": 1}
    try:
        parsed = ConfigParser(deepcopy(content)).get_parsed_content("a")
    except BaseException:
        parsed = None
    if not is_code(text):
        assert parsed == {"b": [text.replace("#", "::")]}


@pytest.mark.parametrize("text", ["$1", "@c", "%c", "@::c", "x @::y", "x %#y", "$import os"])
def test_what_is_code_does_not(text):
    assert is_code(text)
    try:
        parsed = ConfigParser({"a": {"b": [text]}, "c": 1}).get_parsed_content("a")
    except Exception:
        return
    assert parsed != {"b": [text]}


@pytest.mark.parametrize("text", ["5 %", "a@b.de", "100$", "lesion (5 % of 20 @ 3 px)", "", "_target_"])
def test_ordinary_texts_stay(text, tmp_path):
    (tmp_path / "a.json").write_text(json.dumps({"a": [text]}))
    assert as_data(read_json(tmp_path / "a.json", dict, ""), "a") == {"a": [text]}


@pytest.fixture
def full_card(export_of) -> tuple[Path, dict[str, Any]]:
    """A model whose card has every field: that of an exported one."""
    folder, _ = export_of("phase3")
    model = folder / "models" / "model.pt"
    card = read_card(model)
    means = {"images": 3, "means": {"coarse_dice": 0.5}, "n": {"coarse_dice": 3}}
    return model, {**card, "metrics": {"val": means}, "training": {"seed": 3, "weights": ["a.pt"]}}


def test_cards(full_card, codes):
    model, card = full_card
    path = model.with_suffix(".json")
    for read in (lambda: read_card(model), lambda: card_or_empty(path)):
        refused(path, planted(card, codes), read)
    refused(path, planted(card, codes[:1]), lambda: load_model(None, model))


def test_no_export_writes_anything_of_such_a_card(full_card, codes, tmp_path):
    model, card = full_card
    path, out = model.with_suffix(".json"), tmp_path / "out"
    writers = [
        lambda: bundle.export_bundle(model, out),
        lambda: export_monailabel(model, out),
        lambda: save(model, out),
        lambda: export_safetensors(model, out),
        lambda: export_onnx(model, out),
        lambda: export_torchscript(model, out),
    ]
    for write in writers:
        refused(path, planted(card, codes[:1]), write)
        assert not out.exists()


def test_what_a_card_says_enters_a_bundle_as_data_even_unread(full_card, codes):
    """The writers do not rest on the reader."""
    _, card = full_card
    _, stage = find_stage("phase3")
    folder = bundle.BUNDLES / stage.bundle / "configs"
    found = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*.json")}
    before = json.dumps(found)
    for where, document in planted(card, (codes[0], codes[-1])):
        configs = deepcopy(found)
        try:
            text = json.dumps([bundle._metadata(configs.pop("metadata"), document)])
            text += json.dumps(bundle._stand_alone(configs, stage, document))
        except (DataError, AttributeError, KeyError, TypeError):
            continue
        added = [code for code in codes if isinstance(code, str) and json.dumps(code)[1:-1] in text]
        assert not [code for code in added if json.dumps(code)[1:-1] not in before], where


def test_tables_and_executed_configurations_of_a_run(make_model, codes):
    """What an export tells of a run's folder is data, whatever its files hold."""
    model, _ = make_model("phase1")
    card = json.loads(model.with_suffix(".json").read_text())
    model.with_suffix(".json").write_text(json.dumps(card | {"metric": {"coarse_dice": 0.5}}))
    texts = [code for code in codes if isinstance(code, str)]
    config = {"seed": 1, "amp": True, "batch_size": 4, "pretrained": "a.npz", "learning_rate": 0.1}
    for _, document in planted(config, codes):
        (model.parent / "executed_config.json").write_text(json.dumps(document))
        described = describe(model)
        assert fault_in(described) is None
        to_markdown(described)
    (model.parent / "executed_config.json").unlink()
    for code in texts:
        for column in range(3):
            header, row = ["patient", "class", "coarse_dice"], ["p", "benign", "0.5"]
            for line in (header, row):
                line[column], old = (code if column < 2 or line is row else f"coarse_{code}"), line[column]
                (model.parent / "per_image.csv").write_text(
                    "\n".join(",".join(f'"{c}"' for c in one) for one in (header, row))
                )
                assert fault_in(describe(model)) is None
                line[column] = old


def test_manifests(small_release, codes, tmp_path):
    document = json.loads(Path(small_release["manifest"]).read_text(encoding="utf-8"))
    small = {**document, **{key: document[key][:1] for key in ("training", "testing", "normal")}}
    small["excluded"] = [{"id": "x", "reason": "y", "files": ["z"]}]
    path = tmp_path / "PHANTOM.json"
    refused(path, planted(small, codes), lambda: load_manifest(path))
    for where, changed in planted(small, codes):
        with pytest.raises(CodeError, match=r"PHANTOM\.json"):
            write_manifest(changed, path.with_name("new") / "PHANTOM.json")
        assert not path.with_name("new").exists(), where


def test_predictions(small_cv, codes, tmp_path):
    document = json.loads((small_cv.folder("phase1", 0) / "predictions/predictions.json").read_text())
    document["items"] = document["items"][:2]
    path = tmp_path / "predictions.json"
    refused(path, planted(document, codes), lambda: PredictionIndex.load(tmp_path))


def test_inventories(codes, tmp_path):
    row = dict.fromkeys(COLUMNS, "") | {"dataset": "BUSI", "image": "benign/benign (1).png", "masks": "m.png"}
    row |= {"width": "3", "height": "4", "mask_size": "3x4", "lesion_pixels": "1", "label": "benign"}
    row |= {"image_sha256": HASH, "mask_sha256": HASH, "phash16": HASH}
    path = tmp_path / "inventory.csv"
    for column in COLUMNS:
        for code in [code for code in codes if isinstance(code, str)]:
            changed = {**row, column: f'"{code}"'}
            path.write_text(",".join(COLUMNS) + "\n" + ",".join(changed.values()) + "\n")
            with pytest.raises(DataError, match=r"inventory\.csv: line 2: .*would run as code") as caught:
                read_inventory("BUSI", path)
            assert "\n" not in str(caught.value)


def test_what_a_cross_validation_leaves(small_cv, small_release, codes, tmp_path):
    ignored = shutil.ignore_patterns("mlruns*", "tensorboard", "panels", "*.nii.gz")
    shutil.copytree(small_cv.out, tmp_path / "cv", ignore=ignored)
    shared = {"manifest": small_release["manifest"], "tracking_uri": small_cv.shared["tracking_uri"]}
    cv = CrossValidation("PHANTOM", small_cv.data_root, tmp_path / "cv", None, shared, small_cv.settings)
    folder = cv.folder("phase1", 0)
    cases = {
        folder / "settings.json": lambda: cv.check(["phase1"]),
        folder / "finished.json": lambda: cv.check(["phase1"]),
        folder / "run.json": lambda: refuse_work(folder, resume=False, overwrite=False),
        folder / "mlflow_run.json": lambda: read_json(folder / "mlflow_run.json", dict, ""),
        folder / "model.json": lambda: read_results(cv.out),
        cv.out / "system.json": lambda: system_of(cv.out),
    }
    for path, read in cases.items():
        content = path.read_text()
        refused(path, planted(json.loads(content), codes), read)
        path.write_text(content)
    path = folder / "excluded.json"
    refused(path, planted([{"id": "a", "reasons": ["b"]}], codes), lambda: read_results(cv.out))


def test_a_fold_goes_on_with_the_expression_that_its_user_asks_for_again(small_cv, small_release, tmp_path):
    keys = {"phase1": {**small_cv.settings["phase1"], "learning_rate": "$1 / 100"}}
    cv = CrossValidation("PHANTOM", small_cv.data_root, tmp_path, None, {"manifest": small_release["manifest"]}, keys)
    folder = cv.folder("phase1", 0)
    folder.mkdir(parents=True)
    (folder / "model.pt").touch()
    (folder / "settings.json").write_text(json.dumps(cv.overrides("phase1", 0)))
    cv.check(["phase1"])
    cv = CrossValidation(cv.dataset, cv.data_root, tmp_path, None, cv.shared, {"phase1": small_cv.settings["phase1"]})
    with pytest.raises(CodeError, match=r"settings\.json\.learning_rate: '\$1 / 100' would run as code"):
        cv.check(["phase1"])


def test_settings_of_a_study(codes, tmp_path):
    path = tmp_path / "settings.json"
    document = {"phase1": {"epochs": 3, "variant": "tiny"}, "phase2": {"loss": {"a": 1}}}
    refused(path, planted(document, codes), lambda: _read_settings(str(path)))


@pytest.mark.slow
@pytest.mark.parametrize("field", ["fold", "dataset", "version"])
def test_a_bundle_whose_card_was_changed_runs_no_code(field, export_of, picture, codes, tmp_path):
    folder, _ = export_of("phase1")
    card = json.loads((folder / "models/model.json").read_text())
    (folder / "models/model.json").write_text(json.dumps(card | {field: codes[0]}))
    keys = ["--images", str(picture), "--predictions_dir", str(tmp_path / "masks")]
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", "configs/inference.json", *keys]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and f"model.json: {field}:" in done.stderr.strip().splitlines()[-1]
