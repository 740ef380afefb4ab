"""What a cross-validation needs, known before it begins: networks with their weights, data without faults, disk space."""

import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from monai.bundle import ConfigParser
from torch import nn

from ultrarefiner_monai.bundle.embeddings import embedding_bytes
from ultrarefiner_monai.bundle.preflight import Plan, Request, Substitutions, rehearse
from ultrarefiner_monai.bundle.preflight.classes import check_classes, check_labels
from ultrarefiner_monai.bundle.preflight.data import find_data
from ultrarefiner_monai.cross_validation.tasks import CrossValidation, config_files
from ultrarefiner_monai.data.manifests import Manifest
from ultrarefiner_monai.data.manifests.items import Item
from ultrarefiner_monai.data.predictions.coarse_maps import CoarseMaps
from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.shipped import BUNDLES
from ultrarefiner_monai.systems.keys import configuration, is_expression
from ultrarefiner_monai.systems.system import PROMPT_MAPS

MAP_BYTES = 4  # of a pixel of a probability map, float32 before it is packed
MOMENTS = 2  # that AdamW keeps of each weight that it trains; SGD keeps one
REST = 16 * 2**20  # bytes of a training's panels, TensorBoard files, tables and logs
DATA_KEYS = ("manifest", "allow_missing", "skip_bad")
GIB = 2**30


def check_needs(cv: CrossValidation, stages: Iterable[str], only_folds: Sequence[int] | None = None) -> int:
    """Check that the stages can train, each as its own preflight would decide, and say how much they will write.

    Nothing is written but, in their own folder, the mean of maps that are named. A stage with an expression of MONAI's among
    its values is left out: only a running configuration knows what it stands for.

    Args:
        cv: the cross-validation.
        stages: those to do. Folds that are done need nothing.
        only_folds: see `CrossValidation.tasks`.

    Returns:
        Bytes that they still need, from above: of a training its model, MLflow's copy of it, and the last two checkpoints;
        of the maps four bytes a pixel; and the cache of embeddings.

    Raises:
        DataError: settings that cannot be, weights that are missing or of another network, or faulty data.
    """
    requests, undone, embedding_sizes = {}, {}, {}
    need = largest = 0
    for name in stages:
        folds = [fold for fold in cv.undone(name) if only_folds is None or fold in only_folds]
        if not folds or any(map(is_expression, cv.values[name].values())):
            continue
        undone[name] = folds
        requests[name] = request = _request(cv, name, folds[0])
        network = _network(cv, name, rehearse(request))
        keys = configuration(request.stage) | cv.values[name]
        model, checkpoint = _bytes(network, averaged=bool(keys["weight_average"]))
        need += sum(max(2 * (model + checkpoint) + REST - _written(cv.folder(name, fold)), 0) for fold in folds)
        largest = max(largest, checkpoint)  # one is written beside the other two
        if keys.get("cache_embeddings"):
            embedding_sizes[name] = embedding_bytes(network), keys.get("views", 1)
    manifests = dict.fromkeys(requests, cv.manifest)
    if cv.data_root is not None:  # the embedded data set is made when it is used
        manifests = _check_data(cv, requests)
    maps = sum(_map_bytes(manifests[name], folds) * len(cv.channels_of(name)) for name, folds in undone.items())
    embeddings = [
        size * (len(manifests[name].items()) + (views - 1) * len(manifests[name].training))
        for name, (size, views) in embedding_sizes.items()
    ]
    return need + maps + largest + max(embeddings, default=0)


def check_space(needs: Mapping[Path, int]) -> None:
    """Refuse to begin where a disk has too little room.

    Args:
        needs: bytes by the folder that they will be written to, which need not exist.

    Raises:
        DataError: it would be full before the end.
    """
    disks: dict[int, int] = {}
    for out, need in needs.items():
        place = next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.is_dir())
        disk = place.stat().st_dev
        disks[disk] = disks.get(disk, 0) + need
        if disks[disk] > (free := shutil.disk_usage(place).free):
            raise DataError(
                f"{out}: needs about {disks[disk] / GIB:.1f} GiB of disk space, {free / GIB:.1f} GiB are free; free some, or "
                "name an --out on another disk"
            )


def _check_data(cv: CrossValidation, requests: Mapping[str, Request]) -> dict[str, Manifest]:
    """Check the data of each stage to train, once for all that want the same, and the classes and maps of each of its folds.

    Maps of any model that lesions are asked about by (`prompt_maps`) must cover the test images, too, not only in the end.

    Returns:
        The items that each stage will find, without absent and excluded ones.
    """
    found: dict[tuple, Manifest] = {}
    of_stages = {}
    for name, request in requests.items():
        wanted = tuple(getattr(request, key) for key in DATA_KEYS)
        if wanted not in found:
            found[wanted] = find_data(request, request.fold, Substitutions(strict=True)).manifest
        of_stages[name] = found[wanted]
        if (maps := request.own.get(PROMPT_MAPS)) is not None:
            CoarseMaps(Path(maps), found[wanted]).pair(found[wanted].split("test", 0), "test")
        check_labels(request, found[wanted])
        for fold in cv.undone(name) if not found[wanted].organs(cv.classes_of(name)) else ():
            for split in ("train", "val"):
                check_classes(cv.dataset, cv.classes_of(name), found[wanted].split(split, fold))
    return of_stages


def _request(cv: CrossValidation, stage: str, fold: int) -> Request:
    """What the training of a fold will ask for."""
    found = cv.system.stage(stage)
    starts = {key: str(cv.folder(name, fold) / "model.pt") for key, name in found.starts.items()}
    keys = configuration(found) | cv.overrides(stage, fold) | starts
    return Request.of(stage, keys | {"bundle_root": str(BUNDLES / found.bundle), "resume": True})


def _network(cv: CrossValidation, stage: str, plan: Plan) -> nn.Module:
    """The network that a configuration makes, its weights files read and compared, without memory for its parameters."""
    found = cv.system.stage(stage)
    parser = ConfigParser(ConfigParser.load_config_files(config_files(found.bundle, *found.configs)))
    parser.update({**cv.values[stage], "plan": plan, "device": torch.device("meta")})
    try:
        with torch.device("meta"):
            return parser.get_parsed_content("network")
    except SystemExit as error:
        raise DataError(str(error)) from None


def _bytes(network: nn.Module, averaged: bool) -> tuple[int, int]:
    """Bytes of a network's model.pt and of its checkpoint with the optimizer's state, and the average of its weights."""
    model = sum(tensor.nbytes for tensor in network.state_dict().values())
    trained = sum(parameter.nbytes for parameter in network.parameters() if parameter.requires_grad)
    return model, model + (MOMENTS + averaged) * trained


def _map_bytes(manifest: Manifest, folds: Sequence[int]) -> int:
    """Bytes of an output's maps: of each fold's validation and test images, and the means over the folds."""
    of_folds = sum(_pixels(manifest.split("val", fold)) for fold in folds)
    return MAP_BYTES * (of_folds + (len(folds) + 1) * _pixels(manifest.split("test", 0)))


def _pixels(items: Sequence[Item]) -> int:
    return sum(item["width"] * item["height"] for item in items)


def _written(folder: Path) -> int:
    """Bytes that a training which was begun has written already."""
    return sum(file.stat().st_size for file in folder.glob("*") if file.is_file())
