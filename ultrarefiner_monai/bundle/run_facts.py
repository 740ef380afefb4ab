"""What a run says of itself: name, parameters, tags, artifacts and facts for MLflow and `run.json`."""

import json
import logging
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from ultrarefiner_monai import __version__
from ultrarefiner_monai.bundle.config_keys import running_parser
from ultrarefiner_monai.bundle.preflight import Plan
from ultrarefiner_monai.bundle.preflight.data import EXCLUDED
from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.files import file_sha256, json_or_empty
from ultrarefiner_monai.systems.keys import keys_of
from ultrarefiner_monai.systems.system import PROMPT_MAPS, PROMPT_SOURCE
from ultrarefiner_monai.tracking import Tracker
from ultrarefiner_monai.tracking.store import store_uri

logger = logging.getLogger(__name__)

EXECUTED = "executed_config.json"
SUMMARY = "metrics.json"  # of an evaluation
KINDS = {"train": "training", "evaluate": "evaluation"}
# Keys that do not decide what is learnt, and those that the plan completes; it completes the stage's own, too.
NOT_TOLD = {
    *("_meta_", "bundle_root", "dataset", "data_root", "manifest", "allow_missing", "skip_bad", "strict", "fold"),
    *("epochs", "val_interval", "panel_interval", "workers", "cache_rate", "cache_embeddings", "output_dir"),
    "resume",
    "overwrite",
    "checkpoint_interval",
    *("tracking_uri", "parent_run", "log_model", "mode", "split", "checkpoint", "images", "device", "dataset_dir"),
}


def make_tracker(plan: Plan, split: str | None = None, model: str | None = None, **learnt: Any) -> Tracker:
    """The tracker of a training, or of the evaluation of `split`; its store and parent run are keys of the configuration.

    Args:
        plan: of the run.
        split: what is evaluated; None is a training.
        model: dotted name of a function of output folder and `amp` that makes the operation which logs the trained model;
            the key `log_model` switches it off.
        learnt: parameters that are known better than the configuration's key of the same name tells.
    """
    parser = running_parser()
    uri, parent_run, seed = (parser.get_parsed_content(key) for key in ("tracking_uri", "parent_run", "seed"))
    resume = split is None and parser.get_parsed_content("resume")
    trained_on = plan.trained_on
    name = f"{plan.name}-fold{trained_on['fold']}-seed{seed}-{datetime.now():%Y%m%dT%H%M%S}"
    folder = plan.output_dir if split is None else plan.scores_dir(split)
    return Tracker(
        uri=store_uri(uri, plan.request.project),
        experiment=plan.dataset if split is None else trained_on["dataset"],
        run_name=name if split is None else f"{name}-{split}",
        output_dir=folder,
        params=run_parameters(plan, **learnt),
        tags=run_tags(plan, split),
        parent_run=parent_run,
        resume=resume,
        artifacts=[Path(folder, file) for file in (EXECUTED, SUMMARY, "per_image.csv", "reliability.json", EXCLUDED)],
        data={"name": plan.dataset, "digest": plan.manifest.sha256, "context": split or "train"},
        model=_logging(model, folder) if model and parser.get_parsed_content("log_model") else None,
    )


def _logging(name: str, folder: str) -> Any:
    """The operation that logs the model in `folder`, made by the function `name`."""
    module, _, function = name.rpartition(".")
    return getattr(import_module(module), function)(folder, running_parser().get_parsed_content("amp"))


def run_parameters(plan: Plan, **learnt: Any) -> dict[str, Any]:
    """Parameters that the tracker notes: what the plan has decided, and hashes of the weights that the run starts from.

    Beside them stand the plain keys of the running configuration that decide what is learnt, or what `learnt` says of them.
    """
    parser = running_parser()
    told = NOT_TOLD | set(plan.stage.own_keys)
    settings = {key: value for key, value in parser.get().items() if key not in told and _is_plain(value)}
    starts = {f"{stage}_sha256": plan.starts[key] for key, stage in plan.stage.starts.items()}
    files = {name: path for name, path in {**plan.networks.weights, **starts}.items() if path}
    hashes = {name: file_sha256(Path(path)) for name, path in files.items()}
    decided = {"epochs": plan.epochs, "threads": torch.get_num_threads(), **plan.networks.parameters}
    return {"phase": plan.name, **plan.trained_on, **decided, **settings, **learnt, "version": __version__, **hashes}


def compare_keys(plan: Plan) -> None:
    """Say which keys that decide what is learnt have changed since the training that `plan` goes on with last began.

    Raises:
        DataError: it was validated with other prompts, so that its best epoch means nothing beside those to come.
    """
    path = Path(plan.output_dir, EXECUTED)
    before, now = json_or_empty(path, dict, code=True), running_parser().get()
    keys = {*keys_of(plan.stage.name, now), *plan.stage.completed} - NOT_TOLD
    for key in sorted(keys & before.keys()):
        if before[key] == now[key]:
            continue
        if key in (PROMPT_SOURCE, PROMPT_MAPS):
            raise DataError(
                f"{path}: validated with {key} = {before[key]}, expected {now[key]}: the best epoch of both cannot be told; "
                "change it back, or begin anew (--overwrite true)"
            )
        logger.warning("%s: made with %s = %s, going on with %s", path, key, before[key], now[key])


def _is_plain(value: Any) -> bool:
    return not isinstance(value, dict | list) and not (isinstance(value, str) and value.startswith(("$", "@", "%")))


def run_tags(plan: Plan, split: str | None = None) -> dict[str, str]:
    """Tags to filter runs by: what it is, what it is evaluated on, and what sets a demonstration or a partial data set apart."""
    tags = {
        "kind": KINDS[plan.request.mode],
        "phase": plan.name,
        "dataset": plan.trained_on["dataset"],
        "fold": str(plan.trained_on["fold"]),
        "demonstration": str(plan.is_demonstration).lower(),
        "substitutions": "; ".join(plan.substitutions) or "none",
        **asked_about(plan),
    }
    if split is not None:
        tags |= {"split": split, "evaluated_on": plan.dataset}
    if plan.absent:
        tags["absent_items"] = json.dumps(plan.absent)
    if plan.excluded:
        tags["excluded_items"] = str(len(plan.excluded))
    return tags


def run_facts(plan: Plan) -> dict[str, Any]:
    """What `run.json` says of any run of `plan`."""
    return {
        "kind": KINDS[plan.request.mode],
        "phase": plan.name,
        **plan.trained_on,
        "seed": running_parser().get_parsed_content("seed"),
        "threads": torch.get_num_threads(),
        "demonstration": plan.is_demonstration,
        "substitutions": list(plan.substitutions),
        "absent_items": plan.absent,
        "excluded_items": len(plan.excluded),
        **asked_about(plan),
    }


def asked_about(plan: Plan) -> dict[str, str]:
    """What a network is asked with in validation and test; empty where it is asked nothing."""
    return {"prompts": plan.prompts} if plan.prompts else {}
