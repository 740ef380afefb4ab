"""A MONAI Label server on this machine, in its own environment, that serves one small model of each phase."""

import os
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests
from untrained import save_untrained

from ultrarefiner_monai.data.phantom.phantom import PhantomSettings, generate_phantom
from ultrarefiner_monai.deploy.monailabel.export import export_monailabel

PYTHON = "MONAILABEL_PYTHON"  # the interpreter of the server's environment, set by `make monailabel-test`
START_S = 300
LORA_RANK = {"phase1": 0, "phase2": 2, "phase3": 0}
TOLD = {
    "version": "0.1.0",
    "dataset": "PHANTOM",
    "fold": 0,
    "manifest_sha256": "0" * 64,
    "epoch": 1,
    "metric": {"dice": 0.5},
}


@dataclass
class Server:
    """A running server: its address, its app, its pictures, its log and the models as they were exported."""

    url: str
    app: Path
    pictures: Path
    log: Path
    models: dict[str, Path]

    def post(self, path: str, **arguments) -> requests.Response:
        return requests.post(f"{self.url}{path}", timeout=300, **arguments)

    def get(self, path: str, **arguments) -> requests.Response:
        return requests.get(f"{self.url}{path}", timeout=60, **arguments)


@pytest.fixture(scope="session")
def models(tmp_path_factory) -> dict[str, Path]:
    """`model.pt` of each phase, with random weights that give uneven masks, and its card."""
    folder = tmp_path_factory.mktemp("models")
    return {
        phase: save_untrained(folder / phase / "model.pt", phase, lora_rank=rank, **TOLD)[0]
        for phase, rank in LORA_RANK.items()
    }


@pytest.fixture(scope="session")
def server(models, tmp_path_factory):
    """The server; skips where no environment for it is named."""
    python = os.environ.get(PYTHON)
    if not python:
        pytest.skip(f"no environment of MONAI Label ({PYTHON}); run 'make monailabel-test'")
    root = tmp_path_factory.mktemp("monailabel")
    settings = PhantomSettings(normal=0, lesions=1, size=(96, 120))
    generate_phantom(root / "phantom", count=12, seed=3, settings=settings)
    for phase, model in models.items():
        export_monailabel(model, root / "apps", coarse=models["phase1"] if phase == "phase2" else None)
    app, pictures = root / "apps" / "monaibundle", root / "phantom" / "images"
    with (root / "server.log").open("wb") as log:
        port = free_port()
        address = ("--host", "127.0.0.1", "--port", str(port))
        process = subprocess.Popen(
            [python, "-m", "monailabel.main", "start_server", "--app", app, "--studies", pictures, *address],
            cwd=root,  # outside of the checkout: the package must come from the bundles
            env={**os.environ, "MONAI_LABEL_AUTO_UPDATE_SCORING": "false", "PYTHONPATH": ""},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            yield wait_for(Server(f"http://127.0.0.1:{port}", app, pictures, root / "server.log", models), process)
        finally:
            process.terminate()
            process.wait(60)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(server: Server, process: subprocess.Popen) -> Server:
    end = time.monotonic() + START_S
    while time.monotonic() < end and process.poll() is None:
        try:
            server.get("/info/").raise_for_status()
            return server
        except requests.RequestException:
            time.sleep(1)
    pytest.fail(f"the server did not start: {server.log.read_text(errors='replace')[-4000:]}")
