"""Every verb of the command line as a process of its own, and the words with which each writes, or reads, what is named."""

import os
import resource
import shutil
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ultrarefiner_monai import cli


@dataclass(frozen=True)
class Done:
    """What a process came to: its exit status (negative: a signal) and what it said."""

    code: int
    out: str
    err: str


def verbs(members: Mapping[str, Any] = cli.VERBS, group: str = "") -> Iterator[str]:
    """The names of all verbs, those of groups behind the group's: read from the command line's own table."""
    for name, member in members.items():
        if callable(member):
            yield f"{group}{name}"
        else:
            methods = {key: getattr(member, key) for key in dir(member) if not key.startswith("_")}
            yield from verbs(methods, f"{group}{name} ")


def run_verb(words: Sequence[object], cwd: Path, limit: int | None = None, stdout: str | None = None) -> Done:
    """Run the command line in a fork of this process, which has imported everything already.

    Args:
        words: of the command line.
        cwd: its working directory.
        limit: the most bytes that a file it writes may have (RLIMIT_FSIZE).
        stdout: file that takes the place of standard output.
    """
    (out, out_end), (err, err_end) = os.pipe(), os.pipe()  # which a limit on files leaves alone
    child = os.fork()
    if child == 0:
        _become(words, cwd, limit, out_end if stdout is None else os.open(stdout, os.O_WRONLY), err_end)
    os.close(out_end)
    os.close(err_end)
    with ThreadPoolExecutor() as pool, os.fdopen(out) as told, os.fdopen(err, errors="replace") as said:
        texts = [reading.result() for reading in [pool.submit(told.read), pool.submit(said.read)]]
    return Done(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), *texts)


def _become(words: Sequence[object], cwd: Path, limit: int | None, out: int, err: int) -> None:
    """Make this process the command line; never returns."""
    code = 70
    try:
        os.chdir(cwd)
        os.dup2(out, 1)
        os.dup2(err, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        sys.argv = ["ultrarefiner", *map(str, words)]
        cli.main()
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1 if error.code else 0
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


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
        *("--phases", "phase1", "--variant", "tiny", "--image_size", 64, "--epochs", 1),
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
}
NO_FILE = {"systems", "doctor"}  # these only print


def words_of(verb: str, given: Given, disk: Path) -> list[object]:
    """The words of a verb that writes into `disk`."""
    return [*verb.partition(" / ")[0].split(), *WRITING[verb](given, disk)]


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


def files_of(folder: Path) -> dict[str, bytes]:
    """Every file below, with its content."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
