"""What a run says of itself: name, parameters, tags, artifacts and facts for MLflow and `run.json`."""

import json
import os
from datetime import datetime
from pathlib import Path
from typing import Any

from ultrarefiner_monai import __version__
from ultrarefiner_monai.bundle.preflight.data import EXCLUDED
from ultrarefiner_monai.bundle.preflight.plan import Plan
from ultrarefiner_monai.files import file_sha256

EXECUTED = "executed_config.json"
SUMMARY = "metrics.json"  # of an evaluation
KINDS = {"train": "training", "evaluate": "evaluation"}


def tracking_uri(plan: Plan, uri: str | None = None) -> str:
    """MLflow store of a run of `plan`, see `store_uri`."""
    return store_uri(plan.project, uri)


def store_uri(project: Path, uri: str | None = None) -> str:
    """MLflow store: `uri`, else `MLFLOW_TRACKING_URI`, else `mlruns.db` of the project."""
    return uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{project / 'mlruns.db'}"


def run_name(plan: Plan, seed: int) -> str:
    """Unique name of a run: phase or cascade, fold, seed and start time."""
    return f"{plan.system}-fold{plan.trained_on['fold']}-seed{seed}-{datetime.now():%Y%m%dT%H%M%S}"


def run_parameters(plan: Plan, **settings: Any) -> dict[str, Any]:
    """Parameters that the tracker notes: the plan's decisions and `settings`."""
    names = ("epochs", "coarse_variant", "coarse_size", "variant", "image_size")
    decided = {name: getattr(plan, name) for name in names if getattr(plan, name) is not None}
    weights = {name: file_sha256(Path(path)) for name, path in _weights(plan).items()}
    return {"phase": plan.system, **plan.trained_on, **decided, **settings, "version": __version__, **weights}


def _weights(plan: Plan) -> dict[str, str]:
    """Files of weights a run starts from."""
    files = {
        "sam_weights_sha256": plan.sam_weights,
        "phase1_sha256": plan.phase1_checkpoint,
        "phase2_sha256": plan.phase2_checkpoint,
    }
    return {name: path for name, path in files.items() if path}


def run_tags(plan: Plan, split: str | None = None) -> dict[str, str]:
    """Tags to filter runs by: what it is, what it is evaluated on, and what sets a demonstration or a partial data set apart."""
    tags = {
        "kind": KINDS[plan.mode],
        "phase": plan.system,
        "dataset": plan.trained_on["dataset"],
        "fold": str(plan.trained_on["fold"]),
        "demonstration": str(_is_demonstration(plan)).lower(),
        "substitutions": "; ".join(plan.substitutions) or "none",
    }
    if split is not None:
        tags |= {"split": split, "evaluated_on": plan.dataset}
    if plan.absent:
        tags["absent_items"] = json.dumps(plan.absent)
    if plan.excluded:
        tags["excluded_items"] = str(len(plan.excluded))
    return tags


def _is_demonstration(plan: Plan) -> bool:
    """Whether the embedded data set or anything else took the place of the real thing."""
    return plan.demonstration or bool(plan.substitutions)


def run_artifacts(plan: Plan, split: str | None = None) -> list[Path]:
    """Files that the tracker stores when a training, or the evaluation of `split`, ends; those that exist by then."""
    folder = Path(plan.scores_dir(split) if split else str(plan.output_dir))
    return [folder / name for name in (EXECUTED, SUMMARY, "per_image.csv", "reliability.json", EXCLUDED)]


def run_data(plan: Plan, split: str = "train") -> dict[str, str]:
    """The manifest's items of `split` as what MLflow lists as the input of a run."""
    return {"name": plan.dataset, "digest": plan.content.sha256, "context": split}


def run_facts(plan: Plan) -> dict[str, Any]:
    """What `run.json` says of any run of `plan`."""
    return {
        "kind": KINDS[plan.mode],
        "phase": plan.system,
        **plan.trained_on,
        "demonstration": _is_demonstration(plan),
        "substitutions": plan.substitutions,
        "absent_items": plan.absent,
        "excluded_items": len(plan.excluded),
    }
