"""Keys of running configurations: checked before anything is done, and read as they are meant."""

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest
from monai.bundle import ConfigParser

from ultrarefiner_monai.bundle.config_keys import stage_of
from ultrarefiner_monai.shipped import BUNDLES
from ultrarefiner_monai.systems import SYSTEMS
from ultrarefiner_monai.systems.key import Key
from ultrarefiner_monai.systems.system import Stage, System

INITIALIZE = ["$import ultrarefiner_monai.bundle as bundle", "$bundle.check_keys()"]
SEED = "seed: expected a whole number of at least 0 and at most 4294967295"


def started(bundle, *names, **overrides):
    """The parser of a bundle's configuration once its keys are checked."""
    folder = bundle / "configs"
    parser = ConfigParser(ConfigParser.load_config_files([folder / f"{name}.json" for name in names]))
    parser.update(overrides)
    parser["bundle_root"] = overrides.get("bundle_root", str(bundle))
    parser["initialize"] = INITIALIZE
    parser.get_parsed_content("initialize")
    return parser


def refusal(bundle, *names, **overrides):
    with pytest.raises(SystemExit) as caught:
        started(bundle, *names, **overrides)
    return caught.value.code


@pytest.fixture(autouse=True)
def untouched(monkeypatch):
    """No check of a key does what the preflight does."""
    monkeypatch.setattr("ultrarefiner_monai.bundle.preflight", lambda *_, **__: pytest.fail("the preflight has begun"))


def test_every_value_is_read_before_anything_takes_it():
    parser = started(BUNDLES / "phase1", "train", amp="False", resume="TRUE", epochs="3", learning_rate="1e-3")
    expected = {"amp": False, "resume": True, "epochs": 3, "learning_rate": 1e-3}
    assert {key: parser.get_parsed_content(key) for key in expected} == expected
    assert {key: parser[key] for key in expected} == expected  # what executed_config.json holds


@pytest.mark.parametrize(
    ("phase", "names", "overrides", "said"),
    [
        ("phase1", ("train",), {"epoch": 1}, "unknown configuration key 'epoch': did you mean 'epochs'?"),
        ("phase1", ("train",), {"zzz": "x"}, "unknown configuration key 'zzz': expected one"),
        ("phase1", ("train", "evaluate"), {"checkpoint": "x"}, "checkpoint: expected an existing file, found 'x'"),
        ("phase1", ("inference",), {"epochs": 1}, "unknown configuration key 'epochs'"),
        (
            "phase1",
            ("inference",),
            {"dataset": "BUSI"},
            "dataset: a component of this configuration, found 'BUSI'; did",
        ),
        ("phase1", ("train", "multi_gpu_train"), {"network": "x"}, "network: a component of this configuration, found"),
        ("phase1", ("train",), {"optimizer": "adam"}, "optimizer: a component of this configuration, found 'adam'"),
        (
            "phase2",
            ("train",),
            {"sam_checkpoint": "no.pth"},
            "sam_checkpoint: expected an existing file or random, found",
        ),
        ("phase3", ("train",), {"coarse_variant": "vit_b"}, "coarse_variant: expected one of r50_vit_b16, tiny, found"),
        ("phase1", ("train",), {"bundle_root": 3}, "bundle_root: expected a folder with the configurations of phase1"),
        ("phase1", ("train",), {"device": "cuda:99"}, "device: expected one of "),
        ("phase1", ("train",), {"plan#stage": "phase9"}, "unknown stage 'phase9': did you mean"),
        ("phase1", ("train",), {"seed": "$nothing.of(this)"}, "seed: '$nothing.of(this)' cannot be resolved ("),
        ("phase1", ("train",), {"seed": "$1.5"}, f"{SEED}, found 1.5"),
    ],
)
def test_a_mistake_is_told_in_one_line_before_the_preflight(phase, names, overrides, said):
    code = refusal(BUNDLES / phase, *names, **overrides)
    assert code.startswith(said)
    assert "\n" not in code


def test_all_mistakes_are_told_at_once():
    assert refusal(BUNDLES / "phase1", "train", workers=0.5, fold=1.0) == (
        "fold: expected a whole number of at least 0, found 1.0; workers: expected a whole number of at least 0, found 0.5"
    )


def test_an_expression_is_what_it_stands_for():
    parser = started(BUNDLES / "phase3", "train", coarse_rate="@refiner_rate", refiner_rate="2e-5", batch_size="$2 * 3")
    assert [parser.get_parsed_content(key) for key in ("coarse_rate", "batch_size")] == [2e-5, 6]


def test_an_expression_that_needs_the_plan_is_looked_at_last():
    """The preflight may write: it begins once all plain values are right."""
    keys = {"cache_rate": "$0.5 if @plan.fold else 1.0", "workers": 0.5}
    assert refusal(BUNDLES / "phase1", "train", **keys) == "workers: expected a whole number of at least 0, found 0.5"


def test_keys_of_a_users_own_configuration_are_left_alone(tmp_path):
    """One who extends a copy of a bundle names keys that no table knows."""
    (tmp_path / "configs").mkdir()
    own = json.loads((BUNDLES / "phase1" / "configs" / "train.json").read_text()) | {"gamma": 2.0}
    (tmp_path / "configs" / "train.json").write_text(json.dumps(own))
    assert started(tmp_path, "train", gamma=3.0)["gamma"] == 3.0


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """Another system, whose bundle lies elsewhere, with one stage and a key of its own."""
    stage = Stage("colour", bundle="toy", outputs=("mask",), configs=("train", "colour"))
    keys = (
        Key("variant", "choice", "of the toy", choices=("red", "blue")),
        Key("width", "whole number", "px", above=3),
    )
    system = System("toy", "Toy", "nobody", (stage,), {}, "", "", "", keys=keys)
    monkeypatch.setitem(sys.modules, "toy_system", SimpleNamespace(SYSTEM=system))
    monkeypatch.setitem(SYSTEMS, "toy", "toy_system")
    folder = tmp_path / "toy" / "configs"
    folder.mkdir(parents=True)
    train = {"bundle_root": None, "plan": {"stage": "colour"}, "train": {}, "initialize": []}
    train |= {"variant": "red", "seed": 42, "loss": {"_target_": "torch.nn.L1Loss"}}
    (folder / "train.json").write_text(json.dumps(train))
    (folder / "colour.json").write_text(json.dumps({"width": 8}))
    return tmp_path / "toy"


def test_stages_of_other_systems_have_their_own_keys(toy):
    parser = started(toy, "train", "colour", variant="blue", width="16", seed="7")
    assert (parser["variant"], parser["width"], parser["seed"]) == ("blue", 16, 7)
    assert refusal(toy, "train", "colour", variant="tiny", width=3, seed=-1) == (
        f"variant: expected one of red, blue, found 'tiny'; {SEED}, found -1; width: expected a whole number above 3, found 3"
    )
    assert refusal(toy, "train", "colour", fusion="mean").startswith("unknown configuration key 'fusion'")


@pytest.mark.parametrize("name", ["stage", "phase"])
def test_a_configuration_says_which_stage_it_is_of(name):
    assert stage_of(ConfigParser({"plan": {name: "phase2"}})).name == "phase2"


@pytest.mark.parametrize(
    ("phase", "words", "said"),
    [
        ("phase2", "--sam_checkpoint no.pth", "sam_checkpoint: expected an existing file or random, found 'no.pth'"),
        (
            "phase1",
            "--seed x1 --device cudaa",
            f"{SEED}, found 'x1'; device: expected cpu, cuda or cuda:N, found 'cudaa'",
        ),
    ],
)
def test_the_command_of_a_user_ends_in_that_line_and_writes_nothing(phase, words, said, tmp_path):
    config = BUNDLES / phase / "configs" / "train.json"
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(config), *words.split()]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == said
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())
