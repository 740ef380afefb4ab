"""The keys of a running configuration: mistyped ones, which MONAI would ignore, are refused, and values read as meant."""

import gc
import inspect
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser, ConfigWorkflow

from ultrarefiner_monai.errors import DataError, one_line, one_line_errors
from ultrarefiner_monai.systems import Stage, find_stage
from ultrarefiner_monai.systems.keys import configuration, is_expression, keys_of, read


@one_line_errors
def check_keys() -> None:
    """Compare the top-level keys of the running configuration with those that its files define, and read their values.

    Meant as the first step of a bundle's `initialize`, before anything takes a value; the running parser is found on the
    call stack, since MONAI gives expressions no name for it. Values are checked by the table of keys (`systems.keys`), and
    the expressions that a user typed once all plain values are right: they may need the plan.

    Raises:
        SystemExit: one line on every key that is unknown (with the nearest known one) or has a value it cannot have.
    """
    parser = running_parser()
    stage = stage_of(parser)
    folder = Path(str(parser.get_parsed_content("bundle_root"))) / "configs"
    files = [configuration(stage, name, folder=folder) for name in _files_of(parser, stage)]
    if not (own := reduce(or_, files)):
        raise DataError(
            f"bundle_root: expected a folder with the configurations of {stage.name}, found none in {folder}"
        )
    given = {key: value for key, value in parser.get().items() if key != ConfigParser.meta_key}
    for key, value in read(stage.name, given, own).items():
        if value is not given[key]:
            parser.config[key] = value  # type: ignore[index]  # parser[key] = value would forget what is resolved already
            parser.ref_resolver.items[key].update_config(value)
    typed = [key for key in keys_of(stage.name, own) if all(given.get(key) != file.get(key) for file in files)]
    expressions = {key: _resolved(parser, key) for key in typed if is_expression(given.get(key))}
    parser.ref_resolver.resolved_content |= read(stage.name, expressions, own)
    _check_device(parser.get("device"))


def stage_of(parser: ConfigParser) -> Stage:
    """The stage whose configuration this is: its plan says so.

    Raises:
        DataError: it does not, or names a stage of no system.
    """
    plan = parser.get("plan", {})
    return find_stage(str(plan.get("stage", plan.get("phase"))))[1]


def running_parser() -> ConfigParser:
    """The parser whose expression is being evaluated, found on the call stack."""
    frame = inspect.currentframe()
    while frame is not None:
        owner = frame.f_locals.get("self")
        if isinstance(owner, ConfigParser):
            return owner
        frame = frame.f_back
    raise RuntimeError("only meaningful inside an expression of a configuration")


def configuration_folder() -> Path | None:
    """Folder of the files that the running configuration was read from; None where it is not a workflow's.

    A parser does not remember its files, the workflow that it belongs to does.
    """
    parser = running_parser()
    for owner in gc.get_referrers(parser):  # the workflow, or the dictionary of its attributes
        attributes = vars(owner) if isinstance(owner, ConfigWorkflow) else owner
        if isinstance(attributes, dict) and attributes.get("parser") is parser and "config_root_path" in attributes:
            return Path(attributes["config_root_path"]).resolve()
    return None


def _files_of(parser: ConfigParser, stage: Stage) -> tuple[str, ...]:
    """Which of the bundle's files the running configuration was put together from."""
    if "train" not in parser.get():
        return ("inference",)
    names = (*stage.configs, "multi_gpu_train")
    return (*names, "evaluate") if parser.get("mode") == "evaluate" else names


def _resolved(parser: ConfigParser, key: str) -> Any:
    """What a user's expression stands for."""
    try:
        return parser.get_parsed_content(key)
    except Exception as error:
        raise DataError(f"{key}: {parser[key]!r} cannot be resolved ({one_line(error)})") from error


def _check_device(device: Any) -> None:
    """Refuse a GPU that is not there."""
    found = torch.cuda.device_count()
    if str(device).startswith("cuda") and int(str(device).partition(":")[2] or 0) >= found:
        raise DataError(f"device: expected one of {found} GPUs that torch finds, or cpu, found {device!r}")
