"""Every verb of the command line as a process of its own, and the words with which each writes, or reads, what is named."""

import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forks import Done, forked

from ultrarefiner_monai import cli
from ultrarefiner_monai.tracking.pending import Pending


def verbs(members: Mapping[str, Any] = cli.VERBS, group: str = "") -> Iterator[str]:
    """The names of all verbs, those of groups behind the group's: read from the command line's own table."""
    for name, member in members.items():
        if callable(member):
            yield f"{group}{name}"
        else:
            methods = {key: getattr(member, key) for key in dir(member) if not key.startswith("_")}
            yield from verbs(methods, f"{group}{name} ")


def run_verb(words: Sequence[object], cwd: Path, limit: int | None = None, stdout: str | None = None) -> Done:
    """Run the command line in a fork of this process; `limit` and `stdout` as for `forked`."""

    def work() -> None:
        sys.argv = ["ultrarefiner", *map(str, words)]
        cli.main()

    return forked(work, cwd, limit, stdout)


@dataclass(frozen=True)
class Given:
    """Sound inputs of all verbs."""

    model: Path
    picture: Path
    dicom: Path
    release: Path
    manifest: Path
    study: Path
    store: Path


Words = Callable[[Given, Path], list[object]]  # the inputs, and the folder that is written to

# Words with which a verb writes into the folder, over what `prepare` has put there; " / " parts a verb's ways to write.
WRITING: dict[str, Words] = {
    "quickstart": lambda given, disk: ["--out", disk / "results"],
    "manifests build": lambda given, disk: [
        *("PHANTOM", "--root", given.release, "--out", disk / "old.json", "--report", disk / "pairs", "--folds", 2)
    ],
    "manifests verify": lambda given, disk: [given.manifest, "--root", given.release, "--json", disk / "old.json"],
    "manifests show": lambda given, disk: [
        *(given.manifest, "--root", given.release, "--figure", disk / "old.png", "--json", disk / "old.json"),
        *("--tracking_uri", f"sqlite:///{disk / 'runs.db'}"),
    ],
    "manifests diff": lambda given, disk: [given.manifest, given.manifest, "--json", disk / "old.json"],
    "phantom": lambda given, disk: ["--out", disk / "new", "--count", 2],
    "cv": lambda given, disk: [
        *(
            "PHANTOM",
            "--data_root",
            given.release,
            "--manifest",
            given.manifest,
            "--out",
            disk / "results",
            "--folds",
            0,
        ),
        *("--phases", "phase1", "--coarse_variant", "tiny", "--coarse_size", 64, "--epochs", 1),
    ],
    "report": lambda given, disk: [given.study, "--out", disk / "old.html"],
    "compare": lambda given, disk: [given.study, given.study, "--json", disk / "old.json"],
    "predict": lambda given, disk: [
        *(given.picture, "--model", given.model, "--out", disk / "old", "--probability", "--overlay", "--overwrite"),
        *("--uncertainty", "entropy"),
    ],
    "predict / DICOM-SEG": lambda given, disk: [
        *(given.dicom, "--model", given.model, "--out", disk / "old", "--format", "dicom-seg", "--overwrite")
    ],
    "export torchscript": lambda given, disk: ["--model", given.model, "--out", disk / "old", "--overwrite"],
    "export onnx": lambda given, disk: ["--model", given.model, "--out", disk / "old", "--overwrite"],
    "export safetensors": lambda given, disk: ["--model", given.model, "--out", disk / "old", "--overwrite"],
    "export bundle": lambda given, disk: ["--model", given.model, "--out", disk / "new", "--zip"],
    "export monailabel": lambda given, disk: ["--model", given.model, "--out", disk / "old"],
    "bundles": lambda given, disk: ["--out", disk / "new"],
    "relocate": lambda given, disk: ["--tracking_uri", f"sqlite:///{disk / 'moved' / 'mlruns.db'}"],
    "track": lambda given, disk: [disk / "owing", "--tracking_uri", f"sqlite:///{disk / 'moved' / 'mlruns.db'}"],
}
# Words with which a verb reads what a path leads to, by what it is read as: the end of the path's name.
READING: dict[str, tuple[str, Words]] = {
    "manifests build": ("", lambda given, path: ["PHANTOM", "--root", path]),
    "manifests build / archive": (".zip", lambda given, path: ["PHANTOM", "--root", path]),
    "manifests build / inventory": (".csv", lambda given, path: ["PHANTOM", "--inventory", path]),
    "manifests build / table": (".csv", lambda given, path: ["MINE", "--root", given.release, "--table", path]),
    "manifests verify": (".json", lambda given, path: [path, "--root", given.release]),
    "manifests verify / root": ("", lambda given, path: [given.manifest, "--root", path]),
    "manifests show": (".json", lambda given, path: [path]),
    "manifests diff": (".json", lambda given, path: [given.manifest, path]),
    "cv": ("", lambda given, path: ["PHANTOM", "--data_root", path, "--manifest", given.manifest]),
    "cv / manifest": (".json", lambda given, path: ["PHANTOM", "--data_root", given.release, "--manifest", path]),
    "cv / settings": (".json", lambda given, path: ["PHANTOM", "--data_root", given.release, "--settings", path]),
    "report": ("", lambda given, path: [path]),
    "report / manifest": (".json", lambda given, path: [given.study, "--manifest", path]),
    "compare": (".csv", lambda given, path: [given.study, path]),
    "predict": (".png", lambda given, path: [path, "--model", given.model]),
    "predict / model": (".pt", lambda given, path: [given.picture, "--model", path]),
    "predict / coarse": (".pt", lambda given, path: [given.picture, "--model", given.model, "--coarse", path]),
    "export torchscript": (".pt", lambda given, path: ["--model", path, "--out", "new"]),
    "export onnx": (".pt", lambda given, path: ["--model", path, "--out", "new"]),
    "export safetensors": (".pt", lambda given, path: ["--model", path, "--out", "new"]),
    "export bundle": (".pt", lambda given, path: ["--model", path, "--out", "new"]),
    "export monailabel": (".pt", lambda given, path: ["--model", path, "--out", "new"]),
    "relocate": (".db", lambda given, path: ["--tracking_uri", f"sqlite:///{path}"]),
    "track": ("", lambda given, path: [path]),
    "ui": (".db", lambda given, path: ["PHANTOM", "--tracking_uri", f"sqlite:///{path}"]),
}
NO_INPUT = {"quickstart", "phantom", "systems", "bundles", "doctor"}  # these read no file that is named
NO_FILE = {"systems", "doctor", "ui"}  # these only print


def verb_of(way: str) -> str:
    """The verb of one of its ways to read or write."""
    return way.partition(" / ")[0]


def words_of(verb: str, given: Given, disk: Path) -> list[object]:
    """The words of a verb that writes into `disk`."""
    return [*verb_of(verb).split(), *WRITING[verb](given, disk)]


def prepare(given: Given, disk: Path) -> None:
    """Put what a verb would replace, and the store that `relocate` changes, into the folder."""
    for name in ("old.json", "old.html", "old.png"):
        (disk / name).write_bytes(b"of an earlier run")
    for name in (
        "masks/picture.png",
        "masks/scan.dcm",
        "measures.csv",
        "report.json",
        "model.ts",
        "model.safetensors",
        "model.json",
    ):
        (disk / "old" / name).parent.mkdir(parents=True, exist_ok=True)
        (disk / "old" / name).write_bytes(b"of an earlier run")
    (disk / "moved").mkdir()
    shutil.copyfile(given.store, disk / "moved" / "mlruns.db")
    (disk / "moved" / "mlruns_artifacts").mkdir()
    Pending("PHANTOM", ["a run"], status="FINISHED").write(disk / "owing")


def files_of(folder: Path) -> dict[str, bytes]:
    """Every file below, with its content; locks, which are empty, count nothing."""
    files = [
        path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix != ".lock" and path.name != ".lock"
    ]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}
