"""What `ultrarefiner cv` and `quickstart` make of their words."""

import json
import re
from pathlib import Path

import pytest

from ultrarefiner_monai.cli import run
from ultrarefiner_monai.cli.command_line import UsageError
from ultrarefiner_monai.cross_validation.engines import LocalEngine
from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.metrics.scores_file import read_rows
from ultrarefiner_monai.systems.system import System


@pytest.fixture
def asked(monkeypatch):
    """What the verb asks for: the words are read, nothing is trained."""
    seen = {}

    def conduct(cvs, stages, only_folds, engine):
        seen.update(cvs=cvs, stages=stages, only_folds=only_folds, engine=engine)
        return [[{"phase": "phase3", "fold": "test", "images": 3, "refined_dice": 0.5}]] * len(cvs)

    monkeypatch.setattr("ultrarefiner_monai.cross_validation.conduct.conduct", conduct)
    return seen


@pytest.mark.parametrize("names", ["BUSI,BUSBRA", "[BUSI,BUSBRA]", "BUSI, BUSBRA,BUSI"])
def test_each_of_several_data_sets_has_a_cross_validation_of_its_own(names, asked, capsys):
    run(["cv", names, "data", "--out", "results", "--seed", "1"])
    assert [(cv.dataset, cv.data_root, cv.out) for cv in asked["cvs"]] == [
        ("BUSI", "data", Path("results/BUSI")),
        ("BUSBRA", "data", Path("results/BUSBRA")),
    ]
    assert all(cv.values["phase2"] == {"seed": 1} for cv in asked["cvs"])
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if ":" not in line][::3] == ["BUSI", "BUSBRA"]
    assert sum(line.split() == ["phase3", "test", "3", "0.5000"] for line in lines) == 2
    assert "all scores: results/BUSBRA/summary.md and results/BUSBRA/per_image.csv" in lines


@pytest.mark.parametrize("terminal", [True, False])
def test_a_terminal_is_told_at_once_that_libraries_load(terminal, asked, monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal)
    run(["cv", "BUSI", "data"])
    assert capsys.readouterr().err.startswith("loading PyTorch and MONAI") is terminal


@pytest.mark.parametrize(
    ("words", "folders"),
    [
        (["BUSI"], ["runs/BUSI"]),
        (["BUSI", "--out", "mine"], ["mine"]),
        (["BUSI+BUS"], ["runs/BUSI+BUS"]),
        (["BUSI+BUS,UDIAT"], ["runs/BUSI+BUS", "runs/UDIAT"]),
    ],
)
def test_results_of_a_data_set_go_into_a_folder_of_its_name_unless_told_otherwise(words, folders, asked):
    run(["cv", *words, "--data_root", "data"])
    assert [cv.out.as_posix() for cv in asked["cvs"]] == folders
    assert isinstance(asked["engine"], LocalEngine)


def test_options_of_ray_reach_it(asked):
    pytest.importorskip("ray")
    run(["cv", "BUSI", "data", "--engine", "ray", "--address", "node1:6379", "--num_cpus", "4"])
    assert (asked["engine"].address, asked["engine"].num_cpus) == ("node1:6379", 4)


def test_options_of_ray_without_it_are_refused(asked):
    with pytest.raises(DataError, match="num_cpus: only for the engine 'ray'"):
        run(["cv", "BUSI", "data", "--num_cpus", "4"])
    assert not asked


def test_one_command_line_sets_the_networks_of_all_stages(asked, tmp_path):
    (tmp_path / "settings.json").write_text(json.dumps({"phase1": {"epochs": "3", "amp": "False"}}))
    words = f"--sam_variant lite_medsam --coarse_variant tiny --seed 1 --settings {tmp_path}/settings.json"
    run(["cv", "BUSI", "data", *words.split()])
    assert asked["cvs"][0].values == {
        "phase1": {"variant": "tiny", "seed": 1, "epochs": 3, "amp": False},
        "phase2": {"variant": "lite_medsam", "seed": 1},
        "phase3": {"variant": "lite_medsam", "coarse_variant": "tiny", "seed": 1},
    }
    assert asked["stages"] == ["phase1", "phase2", "phase3"]


@pytest.mark.parametrize("place", ["command line", "dictionary", "file"])
def test_classes_are_read_as_they_are_typed(place, asked, tmp_path):
    """A command line takes `a+b` for a text, whatever else it reads as Python."""
    (tmp_path / "settings.json").write_text(json.dumps({"automedsam": {"classes": "benign+malignant"}}))
    words = {
        "command line": ["--classes", "benign+malignant"],
        "dictionary": ["--settings", '{"automedsam": {"classes": "benign+malignant"}}'],
        "file": ["--settings", str(tmp_path / "settings.json")],
    }
    run(["cv", "BUSI", "data", "--system", "automedsam", *words[place]])
    (cv,) = asked["cvs"]
    assert cv.classes_of("automedsam") == ("benign", "malignant")
    assert cv.channels_of("automedsam") == ("mask", "benign", "malignant")
    assert [cv.maps("automedsam", 0, name).name for name in ("mask", "benign")] == ["mask", "benign"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        *((["--classes", name], f"classes: expected lesion, or two or more names such as benign+malignant, found {name!r}")
          for name in ("benign", "../x+y", "a+a", "lesion+benign", "a+", "a+b/c", "a+=b")),
        (["--classes", "3"], "classes: expected lesion, or two or more names such as benign+malignant, found '3'"),
        (["--drift", "none"], "drift: expected one of mean, sum, found 'none'"),
        (["--steps", "-1"], "steps: expected a whole number of at least 0 and at most 1000, found '-1'"),
        (["--steps", "1001"], "steps: expected a whole number of at least 0 and at most 1000, found '1001'"),
        (["--class_mode", "word"], "class_mode: expected one of embedding, scalar, found 'word'"),
        (["--transfer", "-1"], "transfer: expected a number of at least 0, found '-1'"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)  # fmt: skip
def test_values_that_cannot_be_are_told_before_anything_is_read(words, said, asked):
    with pytest.raises(UsageError, match=rf"^{re.escape(said)}$"):
        run(["cv", "BUSI", "nowhere", "--system", "automedsam", *words])
    assert not asked


def test_an_expression_is_no_name_of_a_class(asked):
    run(["cv", "BUSI", "data", "--system", "automedsam", "--classes", "$1+2"])
    with pytest.raises(DataError, match=r"^classes '\$1\+2': expected lesion, or two or more names"):
        asked["cvs"][0].channels_of("automedsam")


@pytest.mark.parametrize("verb", [["cv", "BUSI", "data"], ["quickstart"]])
def test_an_unknown_system_is_refused(verb, asked):
    with pytest.raises(DataError, match="unknown system 'ultrarefine': did you mean 'ultrarefiner'"):
        run([*verb, "--system", "ultrarefine"])
    assert not asked


@pytest.mark.parametrize(
    ("found", "variant"), [(Path("lite_medsam.pth"), "lite_medsam"), ("not installed; run this", "tiny")]
)
def test_the_demonstration_takes_an_untrained_sam_where_there_are_no_weights(
    found, variant, asked, monkeypatch, capsys
):
    monkeypatch.setattr(System, "find_weights", lambda _: {"LiteMedSAM": found})
    run(["quickstart", "--out", "results"])
    (cv,) = asked["cvs"]
    assert (cv.dataset, cv.data_root, cv.out, cv.folds) == ("PHANTOM", None, Path("results"), [0])
    small = {"batch_size": 8, "epochs": 2}
    assert json.dumps(cv.values) == json.dumps(
        {
            "phase1": {"batch_size": 8, "epochs": 12, "variant": "tiny", "val_interval": 12},
            "phase2": {**small, "variant": variant},
            "phase3": {
                **{**small, "variant": variant, "coarse_variant": "tiny"},
                **{"coarse_rate": 2e-5, "refiner_rate": 2e-5},
            },
        }
    )
    said = capsys.readouterr().out
    assert said.startswith("not installed; run this\nuntil then") == (variant == "tiny")
    assert "pictures: results/phase3/fold0/panels" in said


@pytest.mark.parametrize(("found", "variant"), [(Path("lite_medsam.pth"), "lite_medsam"), ("not installed", "tiny")])
def test_the_demonstration_of_automedsam_tells_classes_apart(found, variant, asked, monkeypatch, capsys):
    monkeypatch.setattr(System, "find_weights", lambda _: {"LiteMedSAM": found})
    run(["quickstart", "--system", "automedsam", "--out", "results"])
    (cv,) = asked["cvs"]
    expected = {"variant": variant, "image_size": 128, "classes": "benign+malignant", "batch_size": 8, "epochs": 4}
    assert cv.values == {"automedsam": expected} and cv.folds == [0]
    assert "pictures: results/automedsam/fold0/panels" in capsys.readouterr().out


@pytest.mark.slow
def test_the_demonstration_of_automedsam_ends_with_masks_and_classes(tmp_path, monkeypatch, capsys):
    """Three minutes on two cores, two of them the training."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/m.db")
    run(["quickstart", "--system", "automedsam", "--out", "results"])
    assert "automedsam test       13" in capsys.readouterr().out
    rows = read_rows(tmp_path / "results" / "per_image.csv")
    tested = [row for row in rows if row["fold"] == "test"]
    assert sum(row["mask_dice"] for row in tested) / len(tested) > 0.5
    assert {row["mask_class"] for row in rows} <= {"benign", "malignant"}
    maps = tmp_path / "results" / "automedsam" / "test"
    assert {path.name for path in maps.iterdir()} == {"mask", "benign", "malignant"}
