"""A MONAI Label server on this machine, in its own environment, that serves one small model of each stage."""

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import requests
from label_server import ASKED, CLASSES, Server, until
from PIL import Image
from untrained import save_untrained

from ultrarefiner_monai.data.phantom.phantom import PhantomSettings, generate_phantom
from ultrarefiner_monai.deploy.monailabel.export import export_monailabel

PYTHON = "MONAILABEL_PYTHON"  # the interpreter of the server's environment, set by `make monailabel-test`
START_S = 300
KINDS = (".bmp", ".jpeg", ".tiff", ".PNG")  # of the last pictures of the server; the others are .png
LORA_RANK = {"phase1": 0, "phase2": 2, "phase3": 0, "automedsam": 0, "adapt": 0, "distill": 0, "unet": 0, "joint": 0}
FED = ("phase2", "adapt", "distill")  # exported with phase 1, which proposes what they refine or are asked about
TOLD = {
    "version": "0.1.0",
    "dataset": "PHANTOM",
    "fold": 0,
    "manifest_sha256": "0" * 64,
    "epoch": 1,
    "metric": {"dice": 0.5},
}


@pytest.fixture(scope="session")
def models(tmp_path_factory) -> dict[str, Path]:
    """`model.pt` of each stage, with random weights that give uneven masks, and its card; none tells classes apart."""
    folder = tmp_path_factory.mktemp("models")
    return {
        phase: save_untrained(folder / phase / "model.pt", phase, lora_rank=rank, classes="lesion", **TOLD)[0]
        for phase, rank in LORA_RANK.items()
    }


@pytest.fixture(scope="session")
def classes_model(tmp_path_factory) -> Path:
    """`model.pt` that tells benign and malignant apart, with random weights, and its card."""
    return save_untrained(tmp_path_factory.mktemp("classes") / "model.pt", "automedsam", **TOLD)[0]


@pytest.fixture(scope="session")
def server(models, classes_model, tmp_path_factory):
    """The server; skips where no environment for it is named."""
    if not os.environ.get(PYTHON):
        pytest.skip(f"no environment of MONAI Label ({PYTHON}); run 'make monailabel-test'")
    root = tmp_path_factory.mktemp("monailabel")
    settings = PhantomSettings(normal=0, lesions=1, size=(96, 120))
    generate_phantom(root / "phantom", count=16, seed=3, settings=settings)
    for phase, model in models.items():
        export_monailabel(model, root / "apps", coarse=models["phase1"] if phase in FED else None)
    export_monailabel(classes_model, root / "apps", name=CLASSES)
    export_monailabel(models["adapt"], root / "apps", name=ASKED)
    models = models | {CLASSES: classes_model, ASKED: models["adapt"]}
    app, pictures = root / "apps" / "monaibundle", root / "phantom" / "images"
    for path, suffix in zip(sorted(pictures.iterdir())[-len(KINDS) :], KINDS, strict=True):
        Image.open(path).save(path.with_suffix(suffix), quality=95)
        path.unlink()
    (pictures / "inner").mkdir()
    Image.open(sorted(pictures.glob("*.png"))[0]).save(pictures / "inner" / "lower.png")
    with started(Server("", app, pictures, root / "server.log", models)) as server:
        yield server


@contextmanager
def started(server: Server, *options: str, **environment: str) -> Iterator[Server]:
    """A server of the app and pictures of `server`, on a free port, with more options and variables."""
    port, root = free_port(), server.log.parent
    where = ("--app", server.app, "--studies", server.pictures, "--host", "127.0.0.1", "--port", str(port))
    more = {"MONAI_LABEL_AUTO_UPDATE_SCORING": "false", "PYTHONPATH": "", **environment}
    with server.log.open("wb") as log:
        process = subprocess.Popen(
            [os.environ[PYTHON], "-m", "monailabel.main", "start_server", *where, *options],
            cwd=root,  # outside of the checkout: the package must come from the bundles
            env={**os.environ, **more},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            token = environment.get("ULTRAREFINER_TOKEN", "")
            yield wait_for(replace(server, url=f"http://127.0.0.1:{port}", token=token), process)
        finally:
            process.terminate()
            process.wait(60)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(server: Server, process: subprocess.Popen) -> Server:
    def answers():
        if process.poll() is not None:
            pytest.fail(f"the server did not start: {server.log.read_text(errors='replace')[-4000:]}")
        try:
            return server.get("/info/").ok
        except requests.RequestException:
            return False

    until(START_S, answers)
    return server
