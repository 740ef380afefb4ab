"""Verbs that look at the machine or make data."""

import importlib.metadata
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from ultrarefiner_monai import __version__
from ultrarefiner_monai.shipped import PACKAGE

PACKAGES = (
    "torch",
    "monai",
    "pytorch-ignite",
    "segment-anything",
    "peft",
    "transformers",
    "mlflow",
    "nibabel",
    "pillow",
    "scikit-image",
    "fire",
)
FOLDS = {"same": "the same fold", "all": "all folds"}


def phantom(
    out: str = "data/PHANTOM",
    count: int = 60,
    seed: int = 42,
    normal: float | None = None,
    malignant: float | None = None,
    lesions: int | None = None,
    views: int | None = None,
    size: Sequence[int] | None = None,
    marks: float | None = None,
) -> None:
    """Write the synthetic data set: OUT/images, OUT/masks, OUT/cases.csv.

    Args:
        out: folder to write; must not hold anything yet.
        count: number of pictures.
        seed: decides everything.
        normal: share of the patients without a lesion.
        malignant: share of the patients with a malignant lesion.
        lesions: most lesions of a patient.
        views: most pictures of a patient.
        size: least and greatest side in pixels, such as 150,260.
        marks: share of pictures with burnt-in text.
    """
    from ultrarefiner_monai.data.phantom.phantom import PhantomSettings, generate_phantom
    from ultrarefiner_monai.errors import DataError
    from ultrarefiner_monai.files import is_free

    settings: dict[str, Any] = {"normal": normal, "malignant": malignant, "lesions": lesions, "views": views}
    settings |= {"size": size and tuple(size), "marks": marks}
    folder = Path(out)
    if not is_free(folder):
        raise DataError(f"{folder} is not an empty folder; name another --out or remove it")
    given = {name: value for name, value in settings.items() if value is not None}
    generate_phantom(folder, count, seed, PhantomSettings(**given))
    print(f"wrote {count} pictures to {folder}")


def bundles(out: str | None = None) -> None:
    """Say where the bundles are that came with this package.

    Args:
        out: folder to copy them to, with manifests and example settings: the README's commands run in there.
    """
    from ultrarefiner_monai.errors import DataError
    from ultrarefiner_monai.files import atomic_folder
    from ultrarefiner_monai.shipped import FOLDERS, copy_shipped, shipped

    if out is None:
        print(shipped("bundles"))
        return
    target = Path(out)
    if taken := [str(target / name) for name in FOLDERS if (target / name).exists()]:
        raise DataError(f"{taken[0]}: already there; name another --out or remove it")
    with atomic_folder(target) as unfinished:
        copy_shipped(unfinished)
    print(f"copied {', '.join(FOLDERS)} to {target}")


def systems() -> None:
    """List the methods, their stages, what each starts from, and which pretrained weights this machine has."""
    from ultrarefiner_monai.systems import SYSTEMS, find_system

    for system in map(find_system, SYSTEMS):
        print(f"{system.name}: {system.title}, {system.reference}")
        for stage in system.stages:
            after = [f"{FOLDS[folds]} of {earlier}" for folds, earlier in stage.after]
            print(f"  {stage.name} predicts {', '.join(stage.outputs)}; after {' and '.join(after) or 'nothing'}")
        for name, found in system.find_weights().items():
            print(f"  {name} weights: {found}")
        for key in system.keys:
            if key.kind == "file" and not any(key.name in stage.starts for stage in system.stages):
                print(f"  --{key.name}: {key.meaning}")


def relocate(tracking_uri: str | None = None) -> None:
    """Make an MLflow store that was moved or copied find the artifacts and models in the folder beside it.

    Args:
        tracking_uri: the store, such as sqlite:///mlruns.db; the project's own by default.
    """
    from ultrarefiner_monai.errors import shown
    from ultrarefiner_monai.tracking.relocation import relocate
    from ultrarefiner_monai.tracking.store import store_uri

    uri = store_uri(tracking_uri)
    changed, left = relocate(uri)
    print(f"{uri}: {changed} addresses changed" if changed else f"{uri}: all artifacts are where it says")
    if left:
        print(
            f"left as they are, since their files are still there: {shown(left, 3)}; move them beside the store first"
        )


def ui(dataset: str | None = None, tracking_uri: str | None = None, port: int = 5000) -> None:
    """Start MLflow on this machine and print the page that compares a data set's trainings; Ctrl-C ends it.

    Args:
        dataset: name of the data set, such as BUSBRA; by default the list of all is shown.
        tracking_uri: the store, such as sqlite:///mlruns.db, or a server's address; the project's own by default.
        port: of the server.
    """
    from ultrarefiner_monai.tracking.pages import comparison_page
    from ultrarefiner_monai.tracking.store import store_uri

    uri = store_uri(tracking_uri)
    if uri.startswith(("http://", "https://")):
        print(comparison_page(uri.rstrip("/"), uri, dataset))
        return
    print(comparison_page(f"http://127.0.0.1:{port}", uri, dataset), flush=True)
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    words = ["-m", "mlflow", "ui", f"--backend-store-uri={uri}", "--host=127.0.0.1", f"--port={port}", "--workers=1"]
    os.execve(sys.executable, [sys.executable, *words], os.environ | quiet)


def track(folder: str, tracking_uri: str | None = None) -> None:
    """Send what MLflow has not got of the runs in a folder, because its server was away or the run was killed.

    Args:
        folder: of a run, or of several, such as a cross-validation's.
        tracking_uri: the store they belong to; the project's own by default.
    """
    from ultrarefiner_monai.errors import DataError
    from ultrarefiner_monai.tracking.pending import pending_folders

    if not Path(folder).is_dir():
        raise DataError(f"{folder}: no such folder; name another, of a run or of a cross-validation")
    owing = pending_folders(Path(folder))
    if not owing:
        print(f"{folder}: MLflow has got everything of the runs there")
        return
    from ultrarefiner_monai.bundle.run_facts import EXECUTED
    from ultrarefiner_monai.deploy.mlflow import logged_model
    from ultrarefiner_monai.files import json_or_empty
    from ultrarefiner_monai.tracking.pending import send_pending
    from ultrarefiner_monai.tracking.store import store_uri

    uri = store_uri(tracking_uri)
    for run in owing:
        amp = json_or_empty(run / EXECUTED, dict, code=True).get("amp") is True
        status = send_pending(run, uri, partial(logged_model, amp=amp))
        print(f"{run}: sent, {status}" if status else f"{run}: its note of what MLflow lacks is damaged; nothing sent")


def doctor() -> None:
    """Say what this machine has: versions, device, weights, data and tracking store; exit status 1 if something is missing."""
    print(f"ultrarefiner_monai {version_told()}")
    problems = [line for line in (_version(name) for name in PACKAGES) if line]
    print(f"python {platform.python_version()} on {platform.system()} {platform.machine()}, {os.cpu_count()} cores")
    problems += _device() + _weights()
    _data()
    _store()
    for problem in problems:
        print(f"missing: {problem}")
    if problems:
        sys.exit(1)


def version_told() -> str:
    """The package's version and, of a checkout, the commit it is at, with a "+" where files differ from it."""
    root = PACKAGE.parent
    told = [__version__]
    if (root / ".git").exists():
        with suppress(OSError):  # no git here
            asked = ["git", "-C", str(root), "describe", "--always", "--exclude=*", "--dirty=+"]
            done = subprocess.run(asked, capture_output=True, text=True)
            told += [f"commit {done.stdout.strip()}"] if done.returncode == 0 else []
    return ", ".join(told)


def _version(name: str) -> str | None:
    try:
        print(f"{name} {importlib.metadata.version(name)}")
    except importlib.metadata.PackageNotFoundError:
        return f"{name} is not installed; run 'make install'"
    return None


def _device() -> list[str]:
    try:
        import torch
    except ImportError as error:
        return [f"torch does not load: {error}"]
    if torch.cuda.is_available():
        print(
            f"device: {torch.cuda.get_device_name(0)}, {torch.cuda.get_device_properties(0).total_memory / 2**30:.0f} GiB"
        )
    else:
        threads = torch.get_num_threads()
        print(
            f"device: CPU only, {threads} threads; cross-validate with --sam_variant lite_medsam --coarse_variant tiny"
        )
    return []


def _weights() -> list[str]:
    from ultrarefiner_monai.systems import SYSTEMS, find_system

    found = {name: file for system in map(find_system, SYSTEMS) for name, file in system.find_weights().items()}
    for name, file in found.items():
        if isinstance(file, Path):
            print(f"{name} weights: {file}")
    return [file for file in found.values() if isinstance(file, str)]


def _data() -> None:
    from ultrarefiner_monai.data.datasets import DATASETS

    for name in DATASETS:
        folder = Path("data") / name
        print(f"data/{name}: {'there' if folder.is_dir() else 'not there, name its folder with --data_root'}")


def _store() -> None:
    from ultrarefiner_monai.tracking.store import store_uri

    print(f"MLflow store: {store_uri()}")
