"""From a request to a plan: what a user may set, checked, and completed by defaults before anything is written.

On a fresh clone nothing is prepared, and each thing that is missing is replaced by the smallest thing that works, with one
warning a replacement. Naming a data root or a checkpoint, or `strict`, turns every replacement into an error.
"""

import logging
from dataclasses import fields
from pathlib import Path
from typing import Any

from ultrarefiner_monai.bundle.config_keys import running_parser
from ultrarefiner_monai.bundle.paths import check_code
from ultrarefiner_monai.bundle.preflight.classes import check_labels
from ultrarefiner_monai.bundle.preflight.data import FoundData, find_data
from ultrarefiner_monai.bundle.preflight.plan import Plan
from ultrarefiner_monai.bundle.preflight.provenance import EXTERNAL, check_models, external_origin
from ultrarefiner_monai.bundle.preflight.request import Request, Substitutions
from ultrarefiner_monai.bundle.preflight.sequences import check_sequences, check_spacing
from ultrarefiner_monai.data.predictions import CoarseMaps
from ultrarefiner_monai.errors import DataError, one_line_errors
from ultrarefiner_monai.handlers.earlier_run import refuse_work
from ultrarefiner_monai.models.card import card_or_empty
from ultrarefiner_monai.shipped import results_root
from ultrarefiner_monai.systems import find_stage
from ultrarefiner_monai.systems.system import PROMPT_MAPS

logger = logging.getLogger(__name__)


@one_line_errors
def make_plan(stage: str, **differing: Any) -> Plan:
    """The plan of the running configuration, from its top-level keys.

    Args:
        stage: name of a stage of a system.
        differing: keys of which the plan takes another value than the configuration's key of the same name.

    Raises:
        SystemExit: one line on what is wrong with the request or the data.
    """
    parser = running_parser()
    wanted = {field.name for field in fields(Request)} | set(find_stage(stage)[1].own_keys)
    keys = {key: parser.get_parsed_content(key) for key in wanted - differing.keys() if key in parser.get()}
    request = Request.of(stage, keys | differing)
    check_code(request.bundle_root)
    return decide(request)


def decide(request: Request) -> Plan:
    """Decide what a run really does.

    Raises:
        DataError: what is wrong with the request or the data.
    """
    system, stage = request.system, request.stage
    if stage.prompted and request.split == "normal":
        raise DataError(
            f"split 'normal': {stage.name} is asked about lesions, and these images have none; score another stage"
        )
    substitutions = Substitutions(request.is_strict)
    complete = system.function("resolver")
    complete(request, False, Substitutions(strict=False))  # a network that cannot be is told before the data are read
    _check_schedule(request)
    check_models(request)
    origin = external_origin(request) if request.split == EXTERNAL else {}
    data = None if request.images is not None else find_data(request, 0 if origin else request.fold, substitutions)
    if data is not None:
        check_sequences(request.own, data.manifest, request.normal_share)
        check_labels(request, data.manifest)
    dataset = origin.get("dataset", request.dataset if data is None else data.name)
    models = f"{stage.folder}/{dataset}/fold{origin.get('fold', request.fold)}"
    output_dir = request.output_dir or f"{results_root(request.bundle_root)}/{models}"
    if request.mode == "train":
        refuse_work(Path(output_dir), request.resume, request.overwrite)
    starts = {key: _start(request, key, dataset, substitutions) for key in stage.starts}
    networks = complete(request, data is not None and data.embedded, substitutions, starts)
    check_spacing(networks.settings, networks.image_size, None if data is None else data.manifest)
    feeds = {} if data is None else {key: _feed(request, key, data, output_dir, substitutions) for key in stage.feeds}
    if data is not None and (maps := request.own.get(PROMPT_MAPS)) is not None:
        _check_unprompted(Path(maps), request.fold)
        feeds[PROMPT_MAPS] = maps
    for line in substitutions.lines:
        logger.warning("substituted: %s", line)
    return Plan(request, data, networks, starts, feeds, origin, output_dir, tuple(substitutions.lines))


def rehearse(request: Request) -> Plan:
    """The plan of a training whose earlier stages are still to be done, before its data are looked at; nothing is written.

    The models that it starts from and the maps that feed it are taken for granted.

    Raises:
        DataError: what is wrong with the request.
    """
    _check_schedule(request)
    embedded = request.data_root is None and request.dataset == "PHANTOM"
    substitutions = Substitutions(request.is_strict)
    starts = {key: request.own.get(key) for key in request.stage.starts}
    networks = request.system.function("resolver")(request, embedded, substitutions, starts)
    nothing = dict.fromkeys(starts)
    return Plan(request, None, networks, nothing, {}, {}, str(request.output_dir), tuple(substitutions.lines))


def _check_unprompted(maps: Path, fold: int) -> None:
    """Refuse maps of a model that was itself asked about lesions, which may have been the true ones.

    Raises:
        DataError: they are such.
    """
    stage = card_or_empty(maps / f"fold{fold}" / "model.json").get("stage")
    if stage is not None and find_stage(stage)[1].prompted:
        raise DataError(
            f"{PROMPT_MAPS} {maps}: maps of {stage}, which was itself asked about lesions; name those of a stage that finds them"
        )


def _check_schedule(request: Request) -> None:
    if request.mode != "train":
        return
    if request.split not in (None, "val"):
        raise DataError(f"split '{request.split}' is for evaluate.json; a training is validated on 'val', its own fold")
    if request.epochs % request.val_interval:
        raise DataError(
            f"val_interval {request.val_interval} does not divide epochs {request.epochs}: "
            "the last epoch would not be validated"
        )


def _start(request: Request, key: str, dataset: str, substitutions: Substitutions) -> str | None:
    """The trained model that a training starts from: the named one, or the same fold's; None where it does without.

    An evaluation takes what is named: the models of a cascade.
    """
    named = request.own.get(key)
    if request.mode == "evaluate":
        return named
    stage = request.stage.starts[key]
    path = Path(named or request.results_of(stage) / dataset / f"fold{request.fold}" / "model.pt")
    if path.is_file():
        return str(path)
    message = f"no {stage} model at {path}"
    refusal = f"{message}; train {stage} on fold {request.fold} first or name --{key} FILE"
    if key not in request.system.instead:
        raise DataError(refusal)
    substitutions.add(f"{message}, {request.system.instead[key]}", refusal)
    return None


def _feed(request: Request, key: str, data: FoundData, output_dir: str, substitutions: Substitutions) -> str:
    """Folder of the maps that feed the stage: the named one, or the feeding stage's of the same data set."""
    stage = request.stage.feeds[key]
    folder = request.own.get(key) or str(request.results_of(stage) / data.name)
    replaceable = request.own.get(key) is None and key in request.system.instead
    if substitutions.strict or not replaceable or CoarseMaps(Path(folder), data.manifest).are_there():
        return folder
    substitutions.add(f"no out-of-fold predictions of {stage} (--{key} FOLDER), {request.system.instead[key]}")
    # Exported bundles of other data sets than the embedded one, which substitute nothing, come without this code.
    from ultrarefiner_monai.bundle.preflight.simulated_predictions import simulate_predictions

    simulate_predictions(data.manifest, data.root, stage, Path(output_dir, "simulated"))
    return f"{output_dir}/simulated"
