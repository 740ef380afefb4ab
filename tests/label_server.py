"""A client of a MONAI Label server that tests have started."""

import io
import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import requests
from PIL import Image

TRAINED_S = 300
CLASSES = "classes"  # under which name the server has a model that tells some apart
ASKED = "asked"  # and one that is asked about lesions, without a model that finds them


@dataclass
class Server:
    """A running server: its address, its app, its pictures, its log, the models as they were exported, its password."""

    url: str
    app: Path
    pictures: Path
    log: Path
    models: dict[str, Path]
    token: str = ""

    def send(self, method: str, path: str, **arguments) -> requests.Response:
        arguments = {"timeout": 300, "auth": ("anybody", self.token) if self.token else None, **arguments}
        return requests.request(method, f"{self.url}{path}", **arguments)

    def post(self, path: str, **arguments) -> requests.Response:
        return self.send("POST", path, **arguments)

    def get(self, path: str, **arguments) -> requests.Response:
        return self.send("GET", path, **arguments)

    def put(self, path: str, **arguments) -> requests.Response:
        return self.send("PUT", path, **arguments)

    def delete(self, path: str, **arguments) -> requests.Response:
        return self.send("DELETE", path, **arguments)

    def picture(self, image: str) -> Path:
        return next(self.pictures.glob(f"{image}.*"))

    def truth(self, image: str) -> Path:
        return self.pictures.parent / "masks" / f"{image}.png"

    def ask(self, phase: str, image: str = "", files: dict | None = None, **params) -> requests.Response:
        where = {"image": image, "output": "image"}
        return self.post(f"/infer/{phase}", params=where, data={"params": json.dumps(params)}, files=files)

    def infer(self, phase: str, image: str = "", files: dict | None = None, **params) -> np.ndarray:
        answer = self.ask(phase, image, files, **params)
        assert answer.status_code == 200, answer.text
        mask = Image.open(io.BytesIO(answer.content))
        assert (mask.format, mask.mode) == ("PNG", "L")
        assert set(np.unique(mask)) <= {0, 1}
        return np.asarray(mask)

    def send_label(self, image: str, name: str, content: bytes, tag: str = "final") -> requests.Response:
        return self.put("/datastore/label", params={"image": image, "tag": tag}, files={"label": (name, content)})

    def put_label(self, image: str, mask: np.ndarray) -> None:
        answer = self.send_label(image, f"{image}.png", png(mask))
        assert answer.status_code == 200, answer.text

    def label(self, image: str) -> np.ndarray:
        """The label as the server gives it back: PNG with 0 and 1."""
        answer = self.get("/datastore/label", params={"label": image, "tag": "final"})
        mask = Image.open(io.BytesIO(answer.content))
        assert (mask.format, mask.mode) == ("PNG", "L")
        assert set(np.unique(mask)) <= {0, 1}
        return np.asarray(mask)

    def images(self) -> dict:
        return self.get("/datastore/", params={"output": "all"}).json()["objects"]

    def unlabelled(self) -> list[str]:
        return sorted(image for image, found in self.images().items() if "final" not in found.get("labels", {}))

    def model(self, phase: str) -> Path:
        return self.app / "model" / phase / "models" / "model.pt"

    def train(self, phase: str, **params) -> dict:
        """A training from its start to its end."""
        answer = self.post(f"/train/{phase}", json=params)
        assert answer.status_code == 200, answer.text
        return until(TRAINED_S, lambda: (task := self.get("/train/").json())["status"] in ("DONE", "ERROR") and task)


def png(mask: np.ndarray, lesion: int = 255) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8) * np.uint8(lesion)).save(buffer, format="PNG")
    return buffer.getvalue()


def until(seconds: float, done):
    """What `done` gives once it is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := done():
            return found
        time.sleep(0.5)
    pytest.fail(f"not done within {seconds} s")
