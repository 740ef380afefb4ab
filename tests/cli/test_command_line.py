"""Words of the command line: each verb's are checked from its signature before it runs, and mean what they say."""

import inspect
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import fire
import pytest
from fire import docstrings

from ultrarefiner_monai import __version__, cli
from ultrarefiner_monai.cli import VERBS, main, run, tools
from ultrarefiner_monai.cli.command_line import UsageError, command

GROUPS = {name: verb for name, verb in VERBS.items() if not callable(verb)}
VERB_OF = {(name,): verb for name, verb in VERBS.items() if callable(verb)}
VERB_OF |= {
    (group, name): method
    for group, found in GROUPS.items()
    for name, method in inspect.getmembers(found, inspect.ismethod)
    if not name.startswith("_")
}
NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
WRONG = {bool: "maybe", int: "1.5", float: "high"}  # no value of that kind


def parameters_of(verb):
    return inspect.signature(verb, eval_str=True).parameters


def needed(verb):
    """Words that are enough for a verb: its required parameters."""
    words = [
        f"--{name}=1"
        for name, one in parameters_of(verb).items()
        if one.kind in NAMED and one.default is inspect.Parameter.empty
    ]
    return words + ["one" for one in parameters_of(verb).values() if one.kind is inspect.Parameter.VAR_POSITIONAL]


@pytest.fixture(params=VERB_OF, ids=" ".join)
def route(request, monkeypatch):
    """A verb's words; were it to run, the test would fail. `cv` itself looks at its configuration keys."""
    if any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters_of(VERB_OF[request.param]).values()):
        monkeypatch.setattr("ultrarefiner_monai.cross_validation.conduct.conduct", lambda *_: pytest.fail("it runs"))
    else:
        monkeypatch.setattr(fire, "Fire", lambda *_, **__: pytest.fail("the verb runs"))
    return request.param


def ended(monkeypatch, capsys, *words):
    """Exit status and standard error of the command line."""
    monkeypatch.setattr("sys.argv", ["ultrarefiner", *words])
    with pytest.raises(SystemExit) as caught:
        main()
    told = capsys.readouterr()
    assert told.out == ""
    return caught.value.code, told.err


def test_the_words_that_a_verb_needs_are_enough(route):
    assert command(VERBS, [*route, *needed(VERB_OF[route])])[: len(route)] == list(route)


def test_every_parameter_is_annotated_and_documented(route):
    verb = VERB_OF[route]
    told = docstrings.parse(inspect.getdoc(verb))
    assert told.summary
    assert [one.name for one in told.args or ()] == list(parameters_of(verb))
    assert all(one.description for one in told.args or ())
    assert all(one.annotation is not inspect.Parameter.empty for one in parameters_of(verb).values())


def test_an_unknown_option_is_refused(route, monkeypatch, capsys):
    code, told = ended(monkeypatch, capsys, *route, *needed(VERB_OF[route]), "--no_such_option", "3")
    assert (code, told.count("\n")) == (2, 1)
    assert "no_such_option" in told


def test_a_word_too_many_is_refused(route, monkeypatch, capsys):
    verb = VERB_OF[route]
    surplus = ["surplus"] * (1 + len(parameters_of(verb)))
    if any(one.kind is inspect.Parameter.VAR_POSITIONAL for one in parameters_of(verb).values()):
        pytest.skip("takes any number of words")
    code, told = ended(monkeypatch, capsys, *route, *needed(verb), *surplus)
    assert (code, told.count("\n")) == (2, 1)
    assert "'surplus' is a word too many" in told


def test_a_missing_word_is_refused(route, monkeypatch, capsys):
    for left_out in (words := needed(VERB_OF[route])):
        kept = [word for word in words if word != left_out]
        code, told = ended(monkeypatch, capsys, *route, *kept)
        assert (code, told.count("\n")) == (2, 1)
        assert "missing" in told


def test_a_value_of_another_kind_is_refused(route, monkeypatch, capsys):
    verb = VERB_OF[route]
    for name, one in parameters_of(verb).items():
        for kind, wrong in WRONG.items():
            if one.annotation == kind or one.annotation == kind | None:
                code, told = ended(monkeypatch, capsys, *route, *needed(verb), f"--{name}={wrong}")
                assert (code, told.count("\n")) == (2, 1)
                assert f"--{name}: expected " in told
                assert repr(wrong) in told


def test_an_option_without_its_value_is_refused(route, monkeypatch, capsys):
    """`--out` alone once made a folder named True."""
    verb = VERB_OF[route]
    for name, one in parameters_of(verb).items():
        if one.kind in NAMED and "bool" not in str(one.annotation):
            others = [word for word in needed(verb) if not word.startswith(f"--{name}=")]
            code, told = ended(monkeypatch, capsys, *route, *others, f"--{name}")
            assert (code, told.count("\n")) == (2, 1)
            assert "found no value" in told


def test_all_that_is_wrong_is_told_at_once(monkeypatch, capsys):
    code, told = ended(monkeypatch, capsys, "phantom", "--count", "few", "--otu", "p", "--seed", "1", "--seed", "2")
    assert (code, told.count("\n")) == (2, 1)
    for part in ("--count: expected a whole number, found 'few'", "--otu: did you mean '--out'?", "found it 2 times"):
        assert part in told


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["predcit", "a.png"], "unknown verb 'predcit': did you mean 'predict'?"),
        (["manifests", "biuld", "BUSI"], "ultrarefiner manifests: unknown verb 'biuld': did you mean 'build'?"),
        (["--out", "x", "phantom"], "unknown verb '--out'"),
        (["manifests", "_path"], "unknown verb '_path'"),
        (["predict", "--model", "m.pt", "--", "-scan.png"], "-scan.png: no flag of fire"),
        (["predict", "a.png", "--model", "m.pt", "--format", "tiff"], "expected png, nifti, dicom-seg, found 'tiff'"),
        (["cv", "PHANTOM", "data", "--variant", "lite_medsam"], "use --coarse_variant or --sam_variant"),
        (["cv", "PHANTOM", "data", "--workers", "0.5"], "workers: expected a whole number of at least 0, found '0.5'"),
        (["cv", "PHANTOM", "data", "--sam_checkpoint", "no.pth"], "sam_checkpoint: expected an existing file or"),
        (["cv", "PHANTOM", "data", "--settings", "{phase1: {epoch: 5}}"], "phase1: unknown configuration key 'epoch'"),
        (["cv", "PHANTOM", "data", "--normal_share"], "normal_share: expected a number"),
    ],
)
def test_other_words_that_are_no_command(words, said, monkeypatch, capsys):
    code, told = ended(monkeypatch, capsys, *words)
    assert (code, told.count("\n")) == (2, 1)
    assert said in told


class Group:
    """Verbs that only note what they were given."""

    def __init__(self):
        self.given = None

    def verb(
        self,
        text: str = "",
        flag: bool = False,
        count: int | None = None,
        share: float = 0.0,
        kind: int | Literal["official"] = 5,
        many: Sequence[int] | None = None,
        names: Sequence[str] = (),
        models: str | Sequence[str] = "",
        places: str | Mapping[str, str] | None = None,
        nested: Mapping[str, Mapping[str, Any]] | str = "",
    ) -> None:
        self.given = {name: value for name, value in locals().items() if name != "self"}

    def words(self, *paths: str, overlay: bool = False, **free: Any) -> None:
        self.given = {"paths": paths, "overlay": overlay, **free}


def given(*words):
    """What `fire` calls a verb of `Group` with."""
    group = Group()
    fire.Fire({"group": group}, command({"group": group}, ["group", *words]))
    return group.given


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        *((["--text", text], "text", text) for text in ("2024.20", "2024", "1e3", "True", "a,b", "[a", "~/x y", "'q'")),
        *((["--text", text], "text", text) for text in ("$HOME", "a#b", "{x}", 'say "no"', "None", "é\n", "\udcff")),
        (["--text=-v"], "text", "-v"),
        (["2024.20"], "text", "2024.20"),
        *((["--flag", word], "flag", True) for word in ("true", "TRUE", "Yes", "1")),
        *((["--flag", word], "flag", False) for word in ("false", "False", "NO", "0")),
        (["--flag"], "flag", True),
        (["--flag", "--count", "3"], "flag", True),
        (["--noflag"], "flag", False),
        (["-f"], "flag", True),
        (["--count", "-3"], "count", -3),
        (["--count", "None"], "count", None),
        (["--share", "1e-5"], "share", 1e-5),
        (["--share", "1"], "share", 1.0),
        (["--kind", "7"], "kind", 7),
        (["--kind", "official"], "kind", "official"),
        *((["--many", text], "many", [1, 2]) for text in ("1,2", "[1, 2]", "(1,2)")),
        (["--many", "1", "--many", "2"], "many", [1, 2]),
        (["--many", "0"], "many", [0]),
        (["--names", "BUSI+BUS, 2024.20"], "names", ["BUSI+BUS", "2024.20"]),
        (["--models", "a,b.pt"], "models", "a,b.pt"),
        (["--models", "[runs/a.pt, 'b c.pt']"], "models", ["runs/a.pt", "b c.pt"]),
        (["--places", "2024"], "places", "2024"),
        (["--places", "{BUSI: /data/x, BUS: 2024.20}"], "places", {"BUSI": "/data/x", "BUS": "2024.20"}),
        (
            ["--nested", '{"phase1": {"epochs": 50, "points": null}}'],
            "nested",
            {"phase1": {"epochs": "50", "points": None}},
        ),
        (["--nested", "settings.json"], "nested", "settings.json"),
    ],
)
def test_words_mean_what_they_say(words, name, value):
    found = given("verb", *words)[name]
    assert found == value
    assert type(found) is type(value)


def test_words_of_any_number_and_free_options():
    words = ["2024.20", "-", "a.png", "--overlay", "--seed", "01", "--allow-missing", "--points", "None"]
    expected = {"paths": ("2024.20", "-", "a.png"), "overlay": True}
    assert given("words", *words) == expected | {"seed": "01", "allow_missing": "true", "points": None}


@pytest.mark.parametrize(
    "words", [["--flag", "2"], ["--kind", "x"], ["--many", "1,b"], ["--share", "nan"], ["--text", " "], ["--nested="]]
)
def test_words_that_say_nothing_of_the_kind(words):
    with pytest.raises(UsageError, match=f"{words[0].partition('=')[0]}: expected "):
        given("verb", *words)


@pytest.mark.parametrize("words", [["-h"], ["--help"], ["cv", "--help"], ["cv", "BUSI", "-h"], ["cv", "--", "--help"]])
def test_help_is_no_mistake_and_runs_nothing(words):
    done = subprocess.run([sys.executable, "-m", "ultrarefiner_monai", *words], capture_output=True, text=True)
    assert done.returncode == 0
    assert ("SYNOPSIS" if "cv" in words else "manifests build") in done.stdout + done.stderr


def test_the_version_is_told(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["ultrarefiner", "--version"])
    main()
    told = capsys.readouterr().out
    assert re.fullmatch(rf"ultrarefiner {re.escape(__version__)}(, commit [0-9a-f]{{7,}}\+?)?\n", told)


def git(folder, *words):
    person = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    return subprocess.run(["git", "-C", folder, *person, *words], check=True, capture_output=True, text=True).stdout


@pytest.mark.skipif(shutil.which("git") is None, reason="git is wanted")
def test_a_checkout_tells_its_commit_and_whether_files_differ(tmp_path, monkeypatch):
    monkeypatch.setattr(tools, "PACKAGE", tmp_path / "ultrarefiner_monai")
    assert tools.version_told() == __version__
    git(tmp_path, "init")
    (tmp_path / "a").touch()
    git(tmp_path, "add", "a")
    git(tmp_path, "commit", "-m", "first")
    git(tmp_path, "tag", "-a", "v9", "-m", "told by the version already")
    commit = git(tmp_path, "rev-parse", "--short", "HEAD").strip()
    assert tools.version_told() == f"{__version__}, commit {commit}"
    (tmp_path / "a").write_text("other")
    assert tools.version_told() == f"{__version__}, commit {commit}+"
    monkeypatch.setenv("PATH", "")
    assert tools.version_told() == __version__


def test_the_overview_has_a_line_of_80_columns_for_every_verb(capsys):
    run([])
    lines = capsys.readouterr().out.splitlines()
    every = {name for name, verb in VERBS.items() if callable(verb)}
    every |= {f"manifests {name}" for name in ("build", "verify", "show", "diff")}
    every |= {f"export {name}" for name in ("torchscript", "onnx", "safetensors", "bundle", "monailabel")}
    assert {line[2:22].strip() for line in lines if line.startswith("  ")} - {""} == every
    assert max(map(len, lines)) <= 80 and all(line[22:].strip() for line in lines if line.startswith("  "))
    assert [line for line in lines[1:] if line and line[0] != " "] == ["start", "data", "train", "use"]


def test_flags_of_fire_still_work(capsys):
    with pytest.raises(SystemExit) as caught:
        cli.run(["manifests", "show", "BUSI", "--", "--trace"])
    assert caught.value.code == 0
    assert "Fire trace" in capsys.readouterr().err


def test_a_folder_named_like_a_number_keeps_its_name(tmp_path):
    command = [sys.executable, "-m", "ultrarefiner_monai", "phantom", "--out", "2024.20", "--count", "2"]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True).returncode == 0
    assert [path.name for path in Path(tmp_path).iterdir()] == ["2024.20"]
