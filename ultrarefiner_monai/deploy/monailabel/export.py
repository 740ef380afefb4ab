"""A trained model as an app of a MONAI Label server."""

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ultrarefiner_monai.deploy.export.bundle import export_bundle
from ultrarefiner_monai.deploy.export.closure import closure, copy_files, names_in, names_of
from ultrarefiner_monai.deploy.model_card import describe, to_markdown
from ultrarefiner_monai.deploy.monailabel.parts import MODEL, options_of, proposer
from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.files import atomic_folder, read_json, write_json
from ultrarefiner_monai.models.card import read_card
from ultrarefiner_monai.models.segmenter import load_segmenter
from ultrarefiner_monai.schemas import as_data
from ultrarefiner_monai.shipped import PACKAGE
from ultrarefiner_monai.systems import Stage, System, find_stage

APP = "monaibundle"  # the name of MONAI Label's own app for bundles, which serves the exported ones too
TEMPLATES = Path(__file__).with_name("app")
REPAIR = "install the package anew"
APP_CODE = ("main.py", "studies.py", "web.py")
SERVED = ("inference", "train")
NOT_SERVED = ("evaluate.json", "multi_gpu_train.json")  # they change a train.json that the server's replaces
MASK = {"0": "background", "1": "lesion"}  # what a client calls a mask's values, whatever the network's channels are
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
        out: folder to write: `monaibundle/` with the app, this package's code as far as it is needed and
            `model/<name>/`, and what the server's environment needs.
        name: what clients call the model; None is its stage.
        coarse: `model.pt` of the stage that feeds the model's: it proposes what is refined where a request brings no mask.

    Raises:
        DataError: a model of that name is there, the name misleads the server, or `coarse` is of no use.
        CheckpointError: weights are absent, damaged or of another network than the card's.
    """
    model, out = Path(model), Path(out)
    card = read_card(model)
    _, stage = find_stage(card["stage"])
    name = stage.name if name is None else str(name)
    _check(name, stage, coarse)
    place = Path(APP, "model", name)
    if (out / place).exists():
        raise DataError(f"{out / place}: already there; choose another --name or remove it")
    with atomic_folder(out) as unfinished:
        _write_app(unfinished, place, model, None if coarse is None else Path(coarse))
    return COMMANDS.format(out=out, app=APP)


def _write_app(out: Path, place: Path, model: Path, coarse: Path | None) -> None:
    """Write all files of the app, the model's to `place`."""
    folder = export_bundle(model, out / place)
    card = read_card(model)
    _make_servable(folder, card, None if coarse is None else find_stage(read_card(coarse)["stage"])[0])
    if coarse is not None and (target := proposer(folder, find_stage(card["stage"])[1])) is not None:
        target.parent.mkdir(parents=True)
        for suffix in (".pt", ".json"):
            shutil.copyfile(coarse.with_suffix(suffix), target.with_suffix(suffix))
    for file in APP_CODE:
        shutil.copyfile(TEMPLATES / file, out / APP / file)
    for file in ("requirements.txt", "torchvision_schemas.py", "torchvision_schemas.pth"):
        shutil.copyfile(TEMPLATES / file, out / file)


def _check(name: str, stage: Stage, coarse: str | Path | None) -> None:
    if not NAME.fullmatch(name) or any(word in name.lower() for word in MISREAD):
        raise DataError(f"name '{name}': expected letters, digits, _ and -, and none of {', '.join(MISREAD)}")
    if coarse is None:
        return
    if not stage.reads_map:
        raise DataError(f"coarse model: {stage.name} needs none; leave --coarse out")
    found = load_segmenter(coarse, device="cpu").stage
    if found.reads_map:
        raise DataError(f"coarse model {coarse}: a model of {found.name} finds nothing by itself; name another")
    if stage.feeds and found.name not in stage.feeds.values():
        raise DataError(
            f"coarse model {coarse}: expected a model of {', '.join(stage.feeds.values())}, found {found.name}"
        )


def _make_servable(folder: Path, card: Mapping[str, Any], proposing: System | None) -> None:
    """Put the server's configurations, and the code that they and a model of `proposing` need, in place of the bundle's own.

    The code goes to the app as well: there the models of all systems find theirs in one package.
    """
    system, stage = find_stage(card["stage"])
    inference, train = (read_json(TEMPLATES / f"{name}.json", dict, REPAIR, code=True) for name in SERVED)
    inference |= {"displayable_configs": as_data(options_of(card), "options")}
    train |= {"learning_rate": stage.rate, "loss": stage.loss}
    for name, config in zip(SERVED, (inference, train), strict=True):
        write_json(folder / "configs" / f"{name}.json", config, indent=4)
    metadata = folder / "configs" / "metadata.json"
    told = read_json(metadata, dict, REPAIR)
    for output in told["network_data_format"]["outputs"].values():
        output["channel_def"] = MASK
    write_json(metadata, told, indent=4)
    for file in NOT_SERVED:
        (folder / "configs" / file).unlink()
    shutil.rmtree(folder / PACKAGE.name)
    code = [(TEMPLATES / file).read_text(encoding="utf-8") for file in APP_CODE]
    names = names_in("\n".join((json.dumps([inference, train]), *code))) | names_of(system, "builder", "adjuster")
    names |= names_of(proposing, "builder") if proposing else set()
    for target in (folder, folder.parents[1]):
        copy_files(closure(names), target)
    (folder / "docs" / "README.md").write_text(to_markdown(describe(folder / MODEL)) + USE, encoding="utf-8")
