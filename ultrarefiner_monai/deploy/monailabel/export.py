"""A trained model as an app of a MONAI Label server."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

from ultrarefiner_monai.deploy.export.bundle import export_bundle
from ultrarefiner_monai.deploy.model_card import describe, to_markdown
from ultrarefiner_monai.deploy.monailabel.parts import COARSE_MODEL, MODEL, options_of
from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.models.card import read_card
from ultrarefiner_monai.models.segmenter import load_segmenter

APP = "monaibundle"  # the name of MONAI Label's own app for bundles, which serves the exported ones too
TEMPLATES = Path(__file__).with_name("app")
NOT_SERVED = ("evaluate.json", "multi_gpu_train.json")  # they change a train.json that the server's replaces
MISREAD = ("classification", "detection", "deepedit", "deepgrow")  # what a server takes a model for by its name
NAME = re.compile(r"[A-Za-z0-9_-]+")
USE = """
## Served by MONAI Label

`configs/inference.json` and `configs/train.json` are for a MONAI Label server; `ultrarefiner export bundle` writes those that
`python -m monai.bundle run` takes.
"""
COMMANDS = """\
python3.11 -m venv .venv-monailabel
.venv-monailabel/bin/pip install torch==2.13.0
.venv-monailabel/bin/pip install --no-deps -r {out}/requirements.txt
cp {out}/torchvision_schemas.* "$(.venv-monailabel/bin/python -c 'import site; print(site.getsitepackages()[0])')"
.venv-monailabel/bin/python -m monailabel.main start_server --app {out}/{app} --studies PICTURES --host 127.0.0.1 --port 8000
"""


def export_monailabel(
    model: str | Path, out: str | Path, name: str | None = None, coarse: str | Path | None = None
) -> str:
    """Write the app that serves a trained model, or add the model to an app that is there; returns the commands to run it.

    Args:
        model: `model.pt` with its card beside it.
        out: folder to write: `monaibundle/main.py`, `monaibundle/model/<name>/` and what the server's environment needs.
        name: what clients call the model; None is the phase.
        coarse: `model.pt` of phase 1, for phase 2: it proposes what is refined where a request brings no mask.

    Raises:
        DataError: a model of that name is there, the name misleads the server, or `coarse` is of no use.
        CheckpointError: weights are absent, damaged or of another network than the card's.
    """
    model, out = Path(model), Path(out)
    card = read_card(model)
    name = card["phase"] if name is None else str(name)
    _check(name, card, coarse)
    folder = out / APP / "model" / name
    if folder.exists():
        raise DataError(f"{folder}: already there; choose another --name or remove it")
    folder.parent.mkdir(parents=True, exist_ok=True)
    export_bundle(model, folder)
    _make_servable(folder, card)
    if coarse is not None:
        _copy_model(Path(coarse), folder / COARSE_MODEL)
    shutil.copyfile(TEMPLATES / "main.py", out / APP / "main.py")
    for file in ("requirements.txt", "torchvision_schemas.py", "torchvision_schemas.pth"):
        shutil.copyfile(TEMPLATES / file, out / file)
    return COMMANDS.format(out=out, app=APP)


def _check(name: str, card: dict[str, Any], coarse: str | Path | None) -> None:
    if not NAME.fullmatch(name) or any(word in name.lower() for word in MISREAD):
        raise DataError(f"name '{name}': expected letters, digits, _ and -, and none of {', '.join(MISREAD)}")
    if coarse is None:
        return
    if card["phase"] != "phase2":
        raise DataError(f"coarse model: only phase 2 needs one, found a model of {card['phase']}")
    if (phase := load_segmenter(coarse, device="cpu").phase) != "phase1":
        raise DataError(f"coarse model {coarse}: expected a model of phase1, found {phase}")


def _make_servable(folder: Path, card: dict[str, Any]) -> None:
    """Put the server's configurations in place of the bundle's own."""
    configs = folder / "configs"
    for file in NOT_SERVED:
        (configs / file).unlink()
    shutil.copyfile(TEMPLATES / "train.json", configs / "train.json")
    inference = json.loads((TEMPLATES / "inference.json").read_text(encoding="utf-8"))
    text = json.dumps({**inference, "displayable_configs": options_of(card)}, indent=4)
    (configs / "inference.json").write_text(text + "\n", encoding="utf-8")
    (folder / "docs" / "README.md").write_text(to_markdown(describe(folder / MODEL)) + USE, encoding="utf-8")


def _copy_model(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True)
    for suffix in (".pt", ".json"):
        shutil.copyfile(source.with_suffix(suffix), target.with_suffix(suffix))
