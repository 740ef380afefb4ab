"""What choices of a training are worth: variants of one fold, trained and scored on its validation images, as a table.

A variant that is done is left out when a script runs again, one that was interrupted goes on; several processes can do
different variants in one folder.
"""

import argparse
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ultrarefiner_monai.cross_validation.tasks import run_bundle
from ultrarefiner_monai.files import read_json, write_atomically, write_json
from ultrarefiner_monai.systems import find_stage
from ultrarefiner_monai.texts import csv_text

Keys = Mapping[str, Any]


def command_line(page: str, variants: Iterable[str]) -> argparse.ArgumentParser:
    """What all ablations are asked: RELEASE OUT [VARIANT ...] [--fold] [--image_size]."""
    parser = argparse.ArgumentParser(description=page, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("release")
    parser.add_argument("out", type=Path)
    parser.add_argument("variants", nargs="*", choices=[*variants, []], default=[])
    parser.add_argument("--fold", type=int, default=3)
    parser.add_argument("--image_size", type=int, default=128)
    return parser


def keys_of(asked: argparse.Namespace) -> dict[str, Any]:
    """The keys that the command line decides; the folder of the study is made."""
    asked.out = asked.out.resolve()
    asked.out.mkdir(parents=True, exist_ok=True)
    keys = {"dataset": "BUSBRA", "data_root": asked.release, "allow_missing": True, "fold": asked.fold}
    return keys | {"image_size": asked.image_size} | ({"epochs": asked.epochs} if "epochs" in asked else {})


def train_and_score(
    stage: str, name: str, keys: Keys, out: Path, ways: Mapping[str, Keys], folders: Mapping[str, str]
) -> None:
    """Train a variant into `out/name`, and write the scores of its best epoch to `out/name.json`, by way of asking.

    Args:
        stage: of a system.
        name: of the variant.
        keys: of its configuration.
        out: folder of the study.
        ways: name -> further keys of an evaluation.
        folders: name -> folder of the evaluation's scores in the training's own.
    """
    done = out / f"{name}.json"
    if done.is_file():
        return
    places = {"output_dir": str(out / name), "tracking_uri": f"sqlite:///{out / name}.db"}
    own = {**keys, **places, "log_model": False}
    found = find_stage(stage)[1]
    run_bundle(found.bundle, *found.configs, **own, resume=(out / name).is_dir())
    scores = {}
    for way, more in ways.items():
        run_bundle(found.bundle, *found.configs, "evaluate", **{**own, **more}, split="val", overwrite=True)
        metrics = read_json(out / name / folders[way] / "metrics.json", dict, "run it again")["metrics"]
        scores[way] = {metric: entry["value"] for metric, entry in metrics.items()}
    write_json(done, scores)


def write_table(out: Path, variants: Iterable[str], columns: Sequence[str]) -> None:
    """Write `out/ablation.csv`: a row a variant and way of asking, of the variants that are done."""
    rows = [
        {"variant": name, "asked": way, **{column: scores.get(column) for column in columns}}
        for name in variants
        if (out / f"{name}.json").is_file()
        for way, scores in read_json(out / f"{name}.json", dict, "remove it").items()
    ]
    write_atomically(out / "ablation.csv", csv_text(rows, ["variant", "asked", *columns]).encode())
