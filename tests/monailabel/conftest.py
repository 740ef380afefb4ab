"""A MONAI Label server on this machine, in its own environment, that serves one small model of each phase."""

import os
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests
import torch

from ultrarefiner_monai.data.phantom import PhantomSettings, generate_phantom
from ultrarefiner_monai.deploy import build_network
from ultrarefiner_monai.deploy.monailabel_export import export_monailabel
from ultrarefiner_monai.handlers import save_model
from ultrarefiner_monai.networks import PromptGenerator

PYTHON = "MONAILABEL_PYTHON"  # the interpreter of the server's environment, set by `make monailabel-test`
START_S = 300
SIZE = 64
PROMPTS = {f"prompt_{name}": value for name, value in PromptGenerator().settings.items()}
COARSE = {"variant": "tiny", "size": SIZE}
REFINER = {"variant": "tiny", "image_size": SIZE, "sam_variant": "tiny", **PROMPTS, "fusion_mode": "mean"}
PARTS = {
    "phase1": {"coarse": COARSE},
    "phase2": {"refiner": {**REFINER, "fusion_gamma": 1.0}},
    "phase3": {"coarse": COARSE, "refiner": {**REFINER, "fusion_gamma": 1.0}},
}
LORA_RANK = {"phase1": 0, "phase2": 2, "phase3": 0}
TOLD = {"dataset": "PHANTOM", "fold": 0, "manifest_sha256": "0" * 64, "epoch": 1, "metric": {"dice": 0.5}}


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
    return {phase: save_random_model(folder / phase / "model.pt", phase) for phase in PARTS}


def save_random_model(path: Path, phase: str) -> Path:
    torch.manual_seed(5)
    card = {"phase": phase, "version": "0.1.0", **TOLD, **PARTS[phase]}
    network = build_network(card, LORA_RANK[phase])
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))  # the last layers start at zero
    return save_model(network, path, card)


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
