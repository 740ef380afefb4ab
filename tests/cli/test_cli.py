"""The command line from outside: quick to start, one line for a mistake."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest


def ultrarefiner(*words, cwd=None, **environment):
    command = [sys.executable, "-m", "ultrarefiner_monai", *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=os.environ | environment, timeout=120)


def test_help_lists_the_verbs_without_importing_torch():
    done = ultrarefiner("--help", PYTHONPROFILEIMPORTTIME="1")
    for verb in ("quickstart", "manifests", "phantom", "cv", "systems", "doctor"):
        assert verb in done.stdout + done.stderr
    assert not any(line.rstrip().endswith(("| torch", "| monai")) for line in done.stderr.splitlines())


@pytest.mark.parametrize(
    ("group", "verbs"),
    [
        ("manifests", ["build", "diff", "show", "verify"]),
        ("export", ["bundle", "monailabel", "onnx", "safetensors", "torchscript"]),
    ],
)
def test_help_of_a_group_lists_its_verbs(group, verbs):
    done = ultrarefiner(group, "--help")
    lines = [line.strip() for line in (done.stdout + done.stderr).splitlines()]
    assert [line for line in lines if line in verbs] == verbs


@pytest.mark.parametrize(
    "words", [("--help",), ("manifests", "show", "BUSBRA"), ("cv", "BUSI", "data", "--epoch", "1")]
)
def test_verbs_without_networks_start_within_a_second(words):
    times = []
    for _ in range(3):
        start = time.perf_counter()
        ultrarefiner(*words)
        times.append(time.perf_counter() - start)
    limit = 1.0 if os.getloadavg()[0] < 1.5 else 3.0  # a busy machine says little about us
    assert min(times) < limit


def test_phantom_writes_once_and_then_refuses(tmp_path):
    folder = tmp_path / "P"
    assert ultrarefiner("phantom", "--out", str(folder), "--count", "3").returncode == 0
    assert len(list((folder / "images").glob("*.png"))) == 3
    again = ultrarefiner("phantom", "--out", str(folder), "--count", "3")
    assert again.returncode == 1
    assert again.stderr.strip() == f"{folder} is not an empty folder; name another --out or remove it"


def test_phantom_takes_settings_that_can_be(tmp_path):
    words = ("--count", "2", "--size", "100,120", "--normal", "1", "--malignant", "0")
    done = ultrarefiner("phantom", "--out", str(tmp_path / "P"), *words)
    assert done.returncode == 0, done.stderr
    assert "normal" in (tmp_path / "P/cases.csv").read_text().splitlines()[1]
    (tmp_path / "file").touch()
    for words, said in (
        (("--out", str(tmp_path / "file")), "is not an empty folder"),
        (("--out", str(tmp_path / "Q"), "--views", "0"), "views"),
    ):
        done = ultrarefiner("phantom", *words)
        assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
        assert said in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("manifests", "show", "BUSBAR"), "did you mean 'BUSBRA'?"),
        (("cv", "BUSBAR", "nowhere"), "did you mean 'BUSBRA'?"),
        (("cv", "BUSBRA", "nowhere"), "nowhere is neither a folder nor an archive"),
        (("cv", "BUSBRA", "nowhere", "--settings", "absent.json"), "absent.json"),
        (("quickstart", "--system", "ultra"), "unknown system 'ultra'"),
    ],
)
def test_a_mistake_is_one_line_and_exit_status_1(words, said, tmp_path):
    done = ultrarefiner(*words, cwd=tmp_path)
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_systems_are_listed_with_what_they_start_from():
    lines = ultrarefiner("systems").stdout.splitlines()
    assert lines[0].startswith("ultrarefiner: UltraRefiner, TransUNet (Chen et al.")
    assert lines[1:4] == [
        "  phase1 predicts coarse; after nothing",
        "  phase2 predicts coarse, refined; after all folds of phase1",
        "  phase3 predicts coarse, refined; after the same fold of phase1 and the same fold of phase2",
    ]
    assert lines[4].startswith("  LiteMedSAM weights: ")
    assert [line.partition(":")[0] for line in lines[5:7]] == ["  --pretrained", "  --sam_checkpoint"]


def test_doctor_recommends_a_command_that_is_not_refused():
    words = next(line for line in ultrarefiner("doctor").stdout.splitlines() if line.startswith("device:"))
    _, _, options = words.partition("cross-validate with ")
    done = ultrarefiner("cv", "PHANTOM", "nowhere", *options.split())
    assert "nowhere is neither a folder nor an archive" in done.stderr


def test_doctor_needs_torch_but_not_monai():
    done = ultrarefiner("doctor", PYTHONPROFILEIMPORTTIME="1")
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "torch" in loaded
    assert not loaded & {"monai", "ignite", "mlflow"}


def test_a_reader_that_has_seen_enough_is_no_error():
    """As in `ultrarefiner manifests show BUSI | head -1`."""
    command = [sys.executable, "-m", "ultrarefiner_monai", "manifests", "show", "BUSI"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(timeout=60) == 0


@pytest.mark.parametrize("kind", ["torchscript", "onnx", "safetensors", "bundle", "monailabel"])
def test_export_of_no_model_is_one_line(kind, tmp_path):
    done = ultrarefiner("export", kind, "--model", "absent/model.pt", "--out", str(tmp_path / "out"), cwd=tmp_path)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "absent" in done.stderr.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_prediction_of_nothing_is_one_line(tmp_path):
    done = ultrarefiner("predict", "absent.png", "--model", "model.pt", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("nothing to predict: absent.png: no such file")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["ma"], "manifests"),
        (["manifests", "b"], "build"),
        (["predict", "--mo"], "--model"),
        (["export", "torchscript", "--ov"], "--overwrite"),
    ],
)
def test_bash_completes_verbs_and_options(words, offered):
    """The page's own line, then what bash does at the Tab key."""
    page = (Path(__file__).parents[2] / "docs/reference/command_line.md").read_text(encoding="utf-8")
    (line,) = re.findall(r"```bash\n(.*?)\n```", page)
    typed = " ".join(["ultrarefiner", *words])
    at_tab = "$(complete -p ultrarefiner | cut -d' ' -f3); echo ${COMPREPLY[*]}"
    script = f"{line}\nCOMP_WORDS=({typed}); COMP_CWORD={len(words)}; {at_tab}"
    paths = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(["bash", "-c", script], env=os.environ | {"PATH": paths}, capture_output=True, text=True)
    assert (done.stdout.split(), done.stderr) == ([offered], "")
