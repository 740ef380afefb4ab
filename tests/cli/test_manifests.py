"""The verbs of `ultrarefiner manifests`, as a user calls them."""

import json
import logging
import os
import re
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from ultrarefiner_monai.cli import run
from ultrarefiner_monai.cli.manifests import Manifests, log_figure
from ultrarefiner_monai.data.manifests.manifest import load_manifest, shipped_manifest
from ultrarefiner_monai.errors import DataError

INVENTORIES = ("BUSI", "BUSBRA", "BUS_UCLM")


@pytest.mark.parametrize("name", INVENTORIES)
def test_shipped_manifests_are_what_the_inventories_give(
    name: str, shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    Manifests().build(name, inventory=str(shared_data / f"inventory/{name}.csv"), out=str(tmp_path))
    assert (tmp_path / f"{name}.json").read_bytes() == shipped_manifest(name).read_bytes()
    assert "fold 4" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["BUSBRA", "BUS_UCLM"])
def test_official_splits_of_the_complete_releases(name: str, shared_data: Path, tmp_path: Path) -> None:
    Manifests().build(name, inventory=str(shared_data / f"inventory/{name}.csv"), out=str(tmp_path), folds="official")
    manifest = load_manifest(tmp_path / f"{name}.json")
    assert manifest.num_folds == 5
    if name == "BUSBRA":
        assert [len(manifest.split("val", fold)) for fold in range(5)] == [376, 385, 366, 365, 383]
        assert manifest.testing == []
    else:
        assert {item["patient"] for item in manifest.testing} <= {"COPE", "ANFO", "ELCO", "CRCI", "FLKA"}
        assert len(manifest.testing) + len(manifest.training) == 264


def test_verify_a_real_partial_release(shared_data: Path, capsys: pytest.CaptureFixture) -> None:
    Manifests().verify("BUSI", str(shared_data / "BUSI"), allow_missing=True)
    assert "BUSI: 145 of 780 items present, 0 faults" in capsys.readouterr().out


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """Small release in the layout of BUS, drawn here because the data tests' fixtures do not reach this folder."""
    import numpy as np
    from PIL import Image

    for folder in ("original", "GT"):
        (tmp_path / "BUS" / folder).mkdir(parents=True)
    for number in range(8):
        noise = np.random.default_rng(number).integers(0, 256, (40, 50), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / f"BUS/original/{number:06}.png")
        Image.fromarray((np.indices((40, 50)).sum(axis=0) < 20 + number) * np.uint8(255)).save(
            tmp_path / f"BUS/GT/{number:06}.png"
        )
    return tmp_path / "BUS"


def test_build_show_and_verify(release: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    Manifests().build("BUS", str(release), out=str(tmp_path / "m"), folds=3)
    path = str(tmp_path / "m/BUS.json")
    built = capsys.readouterr().out
    Manifests().show(path, json=str(tmp_path / "counts.json"))
    assert capsys.readouterr().out.splitlines()[:-1] == built.splitlines()[1:-1]
    assert built.endswith("8 images of BUS were found, the complete release has 163 or 562\n")
    assert "fold 2" in built
    assert json.loads((tmp_path / "counts.json").read_text())["num_folds"] == 3
    Manifests().verify(path, str(release))
    assert capsys.readouterr().out == "BUS: 8 of 8 items present, 0 faults\n"


def test_the_figure_is_written_and_tracked(release: Path, tmp_path: Path) -> None:
    Manifests().build("BUS", str(release), out=str(tmp_path / "m"), folds=3)
    store = f"sqlite:///{tmp_path / 'mlruns.db'}"
    figure = tmp_path / "BUS.png"
    Manifests().show(str(tmp_path / "m/BUS.json"), str(release), figure=str(figure), tracking_uri=store)
    assert figure.read_bytes().startswith(b"\x89PNG")
    from mlflow import MlflowClient

    client = MlflowClient(store)
    (run,) = client.search_runs([client.get_experiment_by_name("BUS").experiment_id])
    assert run.data.tags["kind"] == "manifest"
    assert [artifact.path for artifact in client.list_artifacts(run.info.run_id)] == ["BUS.png"]


@pytest.fixture
def leave_environment_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_HTTP_REQUEST_TIMEOUT", "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_DISABLE_TELEMETRY"):
        monkeypatch.setenv(name, os.environ.get(name, ""))
        monkeypatch.delenv(name)


@pytest.mark.usefixtures("leave_environment_alone")
def test_a_run_of_mlflow(tmp_path: Path) -> None:
    from mlflow.tracking import MlflowClient

    manifest = load_manifest(shipped_manifest("PHANTOM"))
    (tmp_path / "figure.png").touch()
    run_id = log_figure(manifest, tmp_path / "figure.png", f"sqlite:///{tmp_path / 'mlruns.db'}")
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlruns.db'}")
    run = client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert client.get_experiment(run.info.experiment_id).name == "PHANTOM"
    assert (run.data.tags["kind"], run.data.tags["manifest_sha256"]) == ("manifest", manifest.sha256)
    assert run.data.params["manifest_sha256"] == manifest.sha256 and run.data.params["num_folds"] == "5"
    fold = [item["class"] for item in manifest.split("val", 1)]
    counts = {"fold_1_images": len(fold), "fold_1_malignant": fold.count("malignant"), "test_images": 13}
    counts |= {"test_benign": 8, "normal_images": 6, "all_images": 60, "excluded": 0, "warnings": 0}
    assert counts.items() <= run.data.metrics.items()
    assert [artifact.path for artifact in client.list_artifacts(run_id)] == ["figure.png"]
    assert {child.name for child in tmp_path.glob("[!.]*")} == {"figure.png", "mlruns.db", "mlruns_artifacts"}


@pytest.mark.usefixtures("leave_environment_alone")
def test_a_store_that_is_not_there_costs_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "figure.png"
    started = time.monotonic()
    with caplog.at_level(logging.WARNING):
        store = "http://someone:secret@127.0.0.1:9"
        assert log_figure(load_manifest(shipped_manifest("PHANTOM")), path, store) is None
    assert time.monotonic() - started < 60
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert "127.0.0.1:9" in warning and "secret" not in warning and "training" not in warning
    assert warning.endswith(f"the figure is kept in {path}")


def test_diff_exits_like_diff(release: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for seed in (1, 2):
        Manifests().build("BUS", str(release), out=str(tmp_path / str(seed)), folds=3, seed=seed)
    one, two = (str(tmp_path / seed / "BUS.json") for seed in "12")
    capsys.readouterr()
    Manifests().diff(one, one)
    assert capsys.readouterr().out == "equal\n"
    with pytest.raises(SystemExit) as caught:
        Manifests().diff(one, two, json=str(tmp_path / "diff.json"))
    assert caught.value.code == 1
    assert "header seed: 1 -> 2" in capsys.readouterr().out
    assert json.loads((tmp_path / "diff.json").read_text())["equal"] is False


def test_all_builds_what_is_there_and_names_the_rest(release: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        Manifests().build("ALL", str(release.parent), out=str(tmp_path / "m"), folds=3)
    assert re.findall(r"(?:^|; )([A-Z_]+): ", str(caught.value)) == ["BUSI", "BUSBRA", "BUS_UC", "BUS_UCLM"]
    assert [path.name for path in (tmp_path / "m").iterdir()] == ["BUS.json"]


def test_out_may_be_the_file_itself(release: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    Manifests().build("BUS", str(release), out=str(tmp_path / "m/my.split.JSON"), folds=3)
    assert capsys.readouterr().out.startswith(f"wrote {tmp_path}/m/my.split.JSON\n")
    assert [path.name for path in (tmp_path / "m").iterdir()] == ["my.split.JSON"]
    Manifests().build("BUS", str(release), out=str(tmp_path / "folder"), folds=3)
    assert (tmp_path / "folder/BUS.json").read_bytes() == (tmp_path / "m/my.split.JSON").read_bytes()


def test_one_file_is_not_taken_for_several_manifests(release: Path, tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"--out .*all\.json: one file for the manifests of BUSI, BUSBRA, .*; name a folder"
    ):
        Manifests().build("ALL", str(release.parent), out=str(tmp_path / "all.json"))
    (tmp_path / "old.json").mkdir()
    with pytest.raises(DataError, match=r"--out .*old\.json: a folder is there; name a file, or move the folder away"):
        Manifests().build("BUS", str(release), out=str(tmp_path / "old.json"))
    assert not (tmp_path / "all.json").exists() and not any((tmp_path / "old.json").iterdir())


@pytest.fixture
def own_data(release: Path) -> Path:
    """The same pictures as somebody's own data, with a table of patients."""
    (release / "original").rename(release / "images")
    (release / "GT").rename(release / "masks")
    rows = [f"{number:06};p{number // 2}" for number in range(8)]
    (release / "who.csv").write_text("\n".join(["Bild;Frau", *rows]))
    return release


def test_own_data_are_built_shown_and_verified_by_their_name(
    own_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    columns = {"image_column": "Bild", "patient_column": "Frau"}
    Manifests().build("2024", str(own_data), table=str(own_data / "who.csv"), folds=2, test_fraction=0.25, **columns)
    Manifests().verify("2024", str(own_data))
    Manifests().show("2024")
    assert "2024: 8 of 8 items present, 0 faults" in capsys.readouterr().out
    manifest = load_manifest(shipped_manifest("2024"))
    assert {item["patient"] for item in manifest.items()} == {"p0", "p1", "p2", "p3"}
    assert {item["group"] for item in manifest.items()} == {"000000", "000002", "000004", "000006"}
    assert manifest.header["warnings"] == []


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        ("MYSET", {"patient_column": "Frau"}, "--patient_column names a column of a table; give --table FILE, too"),
        ("MYSET", {"folds": "official"}, "MYSET: 8 of 8 images have no place in a published split, 000000"),
        (
            "BUS",
            {"images": "images"},
            "BUS: a known release, read as published; --images, --masks, --table are for data",
        ),
        ("MYSET", {"mask": "dark"}, "--mask dark: expected one of alpha, inverted, half, nonzero"),
        ("MYSET", {"masks": "../GT"}, r"MYSET: --masks: path '\.\./GT' leaves the dataset root"),
        ("bus-bra", {}, "unknown dataset 'bus-bra': did you mean 'BUSBRA'"),
    ],
)
def test_what_own_data_cannot_be_asked_for(name: str, options: dict, told: str, own_data: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=told):
        Manifests().build(name, str(own_data), out=str(tmp_path / "m"), **options)
    assert not (tmp_path / "m").exists()


def test_an_inventory_is_of_a_known_release(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"MYSET is none of BUSI, .*: give --root FOLDER"):
        Manifests().build("MYSET", inventory=str(tmp_path))


def test_near_duplicates_are_reported_and_left_out(release: Path, tmp_path: Path) -> None:
    from PIL import Image

    with Image.open(release / "original/000003.png") as picture:
        picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(release / "original/000006.png")
    Manifests().build(
        "BUS", str(release), out=str(tmp_path), folds=3, report=str(tmp_path / "report"), exclude_duplicates=True
    )
    assert [item["id"] for item in load_manifest(tmp_path / "BUS.json").excluded] == ["000006"]
    (pair,) = json.loads((tmp_path / "report/BUS/duplicates.json").read_text())["pairs"]
    assert (pair["first"], pair["second"], pair["mirror"]) == ("000003", "000006", "left-right")
    assert pair["verdict"] == "confirmed"
    assert "000006" in (tmp_path / "report/BUS/duplicates.html").read_text()


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """Release in the layout of BUS of twelve images of which 000011 is a turned crop of 000003 and 000010 one of 000004."""
    import numpy as np
    from made_speckle import speckled
    from PIL import Image

    for folder in ("original", "GT"):
        (tmp_path / "BUS" / folder).mkdir(parents=True)
    pictures = [speckled(number, 300, 240) for number in range(10)]
    pictures += [
        pictures[4].rotate(20).crop((30, 40, 270, 220)),
        pictures[3].rotate(90, expand=True).crop((20, 30, 220, 260)),
    ]
    for number, picture in enumerate(pictures):
        picture.save(tmp_path / f"BUS/original/{number:06}.png")
        mask = np.zeros(picture.size[::-1], np.uint8)
        mask[50 : 70 + 5 * number, 50:100] = 255
        Image.fromarray(mask).save(tmp_path / f"BUS/GT/{number:06}.png")
    return tmp_path / "BUS"


COPIED = [{"000003", "000011"}, {"000004", "000010"}]


def test_copies_are_reported_and_the_manifest_stays_the_same(
    copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    Manifests().build("BUS", str(copied), out=str(tmp_path / "plain"), folds=2)
    capsys.readouterr()
    Manifests().build("BUS", str(copied), out=str(tmp_path / "told"), folds=2, report=str(tmp_path / "report"))
    out = capsys.readouterr().out
    assert "note: 2 further pairs of copies were found by content, " in out and "--group copies" in out
    assert (tmp_path / "plain/BUS.json").read_bytes() == (tmp_path / "told/BUS.json").read_bytes()
    document = json.loads((tmp_path / "report/BUS/duplicates.json").read_text())
    assert [{pair["first"], pair["second"]} for pair in document["pairs"]] == COPIED
    assert [pair["found_by"] for pair in document["pairs"]] == ["content"] * 2 and document["searched"] is True


def test_copies_stay_together_when_they_are_asked_for(
    copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    build = partial(Manifests().build, "BUS", str(copied), folds=2, group="copies")
    build(out=str(tmp_path / "m"), report=str(tmp_path / "report"))
    manifest = load_manifest(tmp_path / "m/BUS.json")
    groups = {item["id"]: item["group"] for item in manifest.items()}
    assert groups["000003"] == groups["000011"] == "000003" and groups["000004"] == groups["000010"] == "000004"
    assert len(set(groups.values())) == 10
    assert "of copies found by content (correlation >= 0.5)" in manifest.header["grouping"]
    assert len(json.loads((tmp_path / "report/BUS/duplicates.json").read_text())["pairs"]) == 2
    build(out=str(tmp_path / "again"), workers=1)
    assert (tmp_path / "again/BUS.json").read_bytes() == (tmp_path / "m/BUS.json").read_bytes()
    build(out=str(tmp_path / "one"), exclude_duplicates=True)
    assert {item["id"] for item in load_manifest(tmp_path / "one/BUS.json").excluded} == {"000010", "000011"}
    capsys.readouterr()
    Manifests().verify(str(tmp_path / "m/BUS.json"), str(copied), copies=True)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "copies found by content: 2 pairs, 0 with opposite labels"
    assert lines[-1] == "BUS: 12 of 12 items present, 0 faults"


def test_opposite_labels_on_copies_that_were_found_are_flagged(shared_data: Path, tmp_path: Path) -> None:
    """The wide view and the crop of one frame under other names, so that the table of known copies does not tell them."""
    import shutil

    source = shared_data / "BUSI_copies/Dataset_BUSI_with_GT"
    for name, other in (
        ("benign (333)", "benign (901)"),
        ("malignant (78)", "malignant (902)"),
        ("benign (62)", "benign (903)"),
    ):
        folder = tmp_path / "BUSI" / name.split()[0]
        folder.mkdir(parents=True, exist_ok=True)
        for end in (".png", "_mask.png"):
            shutil.copyfile(source / name.split()[0] / f"{name}{end}", folder / f"{other}{end}")
    build = partial(Manifests().build, "BUSI", str(tmp_path / "BUSI"), folds=2, test_fraction=0)
    build(out=str(tmp_path / "m"), group="copies")
    warnings = load_manifest(tmp_path / "m/BUSI.json").header["warnings"]
    assert warnings == ["near-duplicates with opposite labels: benign (901) (benign) and malignant (902) (malignant)"]


def test_verify_tells_copies_on_two_sides(copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    Manifests().build("BUS", str(copied), out=str(tmp_path), folds=2)
    document = json.loads((tmp_path / "BUS.json").read_text())
    items = {item["id"]: item for key in ("training", "testing") for item in document[key]}
    document["training"] = [item | {"fold": 0} for item in items.values() if item["id"] != "000011"]
    document["testing"] = [{key: value for key, value in items["000011"].items() if key != "fold"}]
    next(item for item in document["training"] if item["id"] == "000004")["class"] = "malignant"
    next(item for item in document["training"] if item["id"] == "000010")["class"] = "benign"
    (tmp_path / "BUS.json").write_text(json.dumps(document))
    (copied / "original/000007.png").write_bytes(b"none")  # what cannot be read is no obstacle to the search
    with pytest.raises(SystemExit):
        Manifests().verify(str(tmp_path / "BUS.json"), str(copied), copies=True, json=str(tmp_path / "faults.json"))
    out = capsys.readouterr().out
    assert "copy (1): one scene is in two folds, or in training and testing" in out
    assert "000003 and 000011: same frame (turned by " in out and ", in fold 0 and testing" in out
    assert "copies found by content: 2 pairs, 1 with opposite labels" in out
    assert "opposite labels (malignant and benign)" in out
    report = json.loads((tmp_path / "faults.json").read_text())
    assert report["counts"] == {"copy": 1, "unreadable": 1}
    assert [set(copy["ids"]) for copy in report["copies"]] == COPIED
    assert [copy["sides"] for copy in report["copies"]] == [["fold 0", "testing"], ["fold 0", "fold 0"]]
    with pytest.raises(SystemExit):
        Manifests().verify(str(tmp_path / "BUS.json"), str(copied))
    assert "copies" not in capsys.readouterr().out


def test_a_search_takes_files(shared_data: Path, tmp_path: Path) -> None:
    inventory = str(shared_data / "inventory/BUS_UCLM.csv")
    with pytest.raises(DataError, match="searched in the files, not in an inventory; give --root RELEASE_FOLDER"):
        Manifests().build("BUS_UCLM", inventory=inventory, out=str(tmp_path), group="copies")
    assert list(tmp_path.iterdir()) == []
    Manifests().build("BUS_UCLM", inventory=inventory, out=str(tmp_path), report=str(tmp_path))
    assert json.loads((tmp_path / "BUS_UCLM/duplicates.json").read_text())["searched"] is False


def test_verify_exits_with_1_after_listing_all_faults(
    release: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    Manifests().build("BUS", str(release), out=str(tmp_path / "m"), folds=3)
    (release / "original/000000.png").unlink()
    (release / "GT/000001.png").write_bytes(b"")
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        Manifests().verify(str(tmp_path / "m/BUS.json"), str(release))
    assert caught.value.code == 1
    out = capsys.readouterr().out
    assert "000000: original/000000.png: missing" in out
    assert "GT/000001.png: empty (0 bytes)" in out
    assert "7 of 8 items present, 2 faults" in out


def test_a_report_that_cannot_be_written_is_a_data_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"report .*counts\.json: cannot be written \(.+\); free space or name another"):
        Manifests().show("BUSI", json=str(tmp_path / "file/counts.json"))


def test_a_wrong_name_or_folder_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="did you mean 'BUSI'"):
        Manifests().build("busi", str(tmp_path))
    with pytest.raises(DataError, match="looked for"):
        Manifests().build("BUSI", str(tmp_path))


def test_places_named_like_numbers_are_folders(release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release.rename(tmp_path / "2024")
    monkeypatch.chdir(tmp_path)
    for number, place in enumerate(("2024", "{BUS: 2024}")):
        run(["manifests", "build", "BUS", "--root", place, "--folds", "3", "--out", str(number)])
    assert (tmp_path / "0/BUS.json").read_bytes() == (tmp_path / "1/BUS.json").read_bytes()


def test_same_bytes_on_another_locale_and_hash_seed(release: Path, tmp_path: Path) -> None:
    program = (
        "import sys; from ultrarefiner_monai.cli.manifests import Manifests;"
        "Manifests().build(*sys.argv[1:3], out=sys.argv[3], folds=3)"
    )
    contents = set()
    for number, locale in enumerate(("C", "C.UTF-8", "tr_TR.UTF-8")):
        out = tmp_path / str(number)
        environment = {**os.environ, "LC_ALL": locale, "PYTHONHASHSEED": str(number)}
        subprocess.run([sys.executable, "-c", program, "BUS", release, out], env=environment, check=True)
        contents.add((out / "BUS.json").read_bytes())
    assert len(contents) == 1


def test_the_verbs_load_neither_torch_nor_monai(release: Path, tmp_path: Path) -> None:
    program = f"""
import sys
from ultrarefiner_monai.cli.manifests import Manifests
verbs = Manifests()
verbs.build("BUS", {str(release)!r}, out={str(tmp_path)!r}, folds=3)
verbs.show({str(tmp_path / "BUS.json")!r})
verbs.verify({str(tmp_path / "BUS.json")!r}, {str(release)!r})
sys.exit(", ".join({{"torch", "monai", "ignite"}} & set(sys.modules)) or None)
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_help_starts_within_a_second() -> None:
    """Measured in processor time, which other processes on the machine do not lengthen."""
    program = """
import sys, time
from ultrarefiner_monai.cli import run
try:
    run(["manifests", "build", "--help"])
except SystemExit:
    pass
heavy = {"torch", "monai", "sklearn", "scipy", "numpy"} & set(sys.modules)
sys.exit(f"loaded {heavy}" if heavy else time.process_time() > 1)
"""
    started = time.monotonic()
    result = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert time.monotonic() - started < 10
    assert "inventory" in result.stdout + result.stderr
