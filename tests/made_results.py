"""A cross-validation as `ultrarefiner cv` leaves it, with masks whose scores are known."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ultrarefiner_monai.cross_validation.tasks import CrossValidation
from ultrarefiner_monai.data.manifests.items import SCHEMA
from ultrarefiner_monai.data.predictions.index import PredictionIndex
from ultrarefiner_monai.data.predictions.maps import write_map
from ultrarefiner_monai.files import file_sha256
from ultrarefiner_monai.systems import Stage, System, find_system

HEIGHT, WIDTH = 30, 40
EVIL = "<script>alert('x')</script>"  # an id that must not become a script
MIDDLE = 3  # pixels by which every mask between the first and the last output misses the truth
SHIFTS = {  # pixels by which the masks of the first and the last output miss the truth, which is 10 x 10 in all images
    "a1": (2, 1),
    "a2": (2, 0),
    "b1": (4, 1),
    "b2": (0, 2),
    "c1": (1, 1),
    "c2": (3, 2),
    EVIL: (2, 4),
    "d2": (5, 10),
    "t1": (3, 1),
    "t2": (1, 2),
    "u1": (2, 1),
    "u2": (4, 3),
}
PATIENTS = {EVIL: "d"}
MODELS = {"phase1": "1" * 64, "phase2": "2" * 64, "phase3": "3" * 64}
ROLES = {"quick": {}, "builder": "", "resolver": "", "exporter": ""}  # which reports do not ask for
ONE = System(  # of one output a stage, the second starting from the first
    name="one",
    title="One",
    reference="",
    stages=(
        Stage("adapt", bundle="adapt", outputs=("mask",)),
        Stage("distill", bundle="distill", outputs=("mask",), starts={"teacher_checkpoint": "adapt"}),
    ),
    **ROLES,
)
THREE = System(
    name="three",
    title="Three",
    reference="",
    stages=(Stage("steps", bundle="steps", outputs=("unet", "step1", "step2")),),
    **ROLES,
)


def square(shift: int = 0) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[10:20, 10 + shift : 20 + shift] = True
    return mask


def dice(shift: int) -> float:
    """Of two squares of side 10 that lie `shift` pixels apart."""
    return (10 - shift) / 10


def item(name: str, number: int, place: int | None) -> dict[str, Any]:
    files = {"id": name, "image": f"images/p{number}.png", "label": f"masks/p{number}.png", "sha256": "0" * 64}
    patient = PATIENTS.get(name, name[0])
    facts = {"class": "malignant" if number % 2 else "benign", "patient": patient, "group": patient}
    return {**files, **facts, "width": WIDTH, "height": HEIGHT} | ({} if place is None else {"fold": place})


def write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


class MadeResults:
    """Two folds of four images each and four test images, of two images a patient."""

    def __init__(self, base: Path, stages: Sequence[str] | None = None, system: System | None = None) -> None:
        self.system = system or find_system()
        self.folder, self.root, self.manifest = base / "study", base / "PHANTOM", base / "PHANTOM.json"
        names = list(SHIFTS)
        self.items = [item(name, i, None if i >= 8 else i // 4) for i, name in enumerate(names)]
        self._write_release()
        self._write_manifest()
        if system is not None:
            write_json(self.folder / "system.json", {"system": system.name})
        for stage in stages or [stage.name for stage in self.system.stages]:
            for fold in (0, 1):
                self._write_run(stage, fold)
                self.write_maps(stage, fold)
            self.write_maps(stage, None)

    def of(self, fold: int | None) -> list[dict[str, Any]]:
        return [item for item in self.items if item.get("fold") == fold]

    def write_maps(self, stage: str, fold: int | None, model: str | None = None, items: Any = None) -> None:
        outputs = self.system.stage(stage).outputs
        for number, name in enumerate(outputs):
            folder = CrossValidation("PHANTOM", None, self.folder, system=self.system).maps(stage, fold, name)
            sha256 = file_sha256(self.manifest)
            split = "test" if fold is None else "val"
            index = PredictionIndex("PHANTOM", stage, fold, split, sha256, model or MODELS.get(stage, stage))
            for entry in self.of(fold) if items is None else items:
                first, last = SHIFTS[entry["id"]]
                shift = first if number == 0 else last if name == outputs[-1] else MIDDLE
                write_map(folder / index.add(entry), np.where(square(shift), 0.9, 0.1))
            index.write(folder)

    def _write_release(self) -> None:
        for kind in ("images", "masks"):
            (self.root / kind).mkdir(parents=True)
        (self.root / "cases.csv").write_text("", encoding="utf-8")
        noise = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH), dtype=np.uint8)
        for entry in self.items:
            Image.fromarray(noise).save(self.root / entry["image"])
            Image.fromarray(square().astype(np.uint8) * 255).save(self.root / entry["label"])

    def _write_manifest(self) -> None:
        lists = {"training": self.items[:8], "testing": self.items[8:], "normal": [], "excluded": []}
        write_json(self.manifest, {"schema": SCHEMA, "name": "PHANTOM", "num_folds": 2, "seed": 42, **lists})

    def _write_run(self, stage: str, fold: int) -> None:
        folder = self.folder / stage / f"fold{fold}"
        outputs = self.system.stage(stage).outputs
        card = {
            "system": self.system.name,
            "stage": stage,
            "dataset": "PHANTOM",
            "fold": fold,
            "version": "9.9",
            "epoch": 2,
        }
        card |= {"manifest_sha256": file_sha256(self.manifest), "sha256": MODELS.get(stage, stage)}
        card |= {"metric": {f"{outputs[-1]}_dice": 0.5}}
        write_json(folder / "model.json", card)
        config = {"dataset": "PHANTOM", "data_root": str(self.root), "manifest": str(self.manifest), "seed": 7}
        write_json(folder / "executed_config.json", config | {"epochs": 2, "network": "$build()", "loss": {"a": 1}})
        write_json(folder / "finished.json", {})
        names = ("train_loss", *(f"val_{output}_dice" for output in outputs))
        lines = [{"step": step, **dict.fromkeys(names, step / 10 + fold)} for step in (1, 2, 2)]
        (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)) + '\n{"step": 3, "trai')
