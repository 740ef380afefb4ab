"""MONAI Label app that serves exported UltraRefiner bundles: inference, training, and the most uncertain image next."""

import copy
import inspect
import json
import logging
import os
import time
from collections.abc import Collection, Mapping, Sequence
from functools import wraps
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, Self

import monailabel
import requests
from monailabel.config import settings
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType
from monailabel.interfaces.tasks.scoring import ScoringMethod
from monailabel.interfaces.tasks.strategy import Strategy
from monailabel.interfaces.tasks.train import TrainTask
from monailabel.interfaces.utils.app import app_instance
from monailabel.tasks.activelearning.first import First
from monailabel.tasks.activelearning.random import Random
from monailabel.tasks.infer.bundle import BundleInferTask
from monailabel.tasks.train.bundle import BundleTrainTask
from monailabel.utils.async_tasks.task import AsyncTask
from monailabel.utils.others.generic import device_list, device_map, name_to_device
from studies import Studies, told
from web import check_forms, guard

from ultrarefiner_monai.deploy.monailabel.gate import UPLOAD_MIB, origins_of, password, upload_bytes
from ultrarefiner_monai.deploy.monailabel.parts import card_of, predict_file, stage_of, uncertainty
from ultrarefiner_monai.deploy.monailabel.request import (
    BATCH,
    COMMON,
    MASK,
    OWN,
    TRAIN,
    checked,
    click_keys,
    device_key,
    is_upload,
    option_keys,
)
from ultrarefiner_monai.deploy.monailabel.training import check_labels_suffice, usable
from ultrarefiner_monai.deploy.monailabel.volumes import (
    KIND,
    check_volume_request,
    holds_volume,
    segment_volume,
    volume_uncertainty,
    write_volume,
)
from ultrarefiner_monai.errors import DataError, did_you_mean, one_line_errors

logger = logging.getLogger(__name__)

KEYS = {"infer": BATCH, "batch_infer": BATCH, "train": TRAIN}
ADDED = {"gpus", "local_rank"}  # to the request of a task, by MONAI Label on the task's way into a process of its own
CLICKED = "_clicks"  # behind the name of a model that also works without: programs list one with clicks apart
LOCAL_S = 30  # a task's process waits that long for its server
SCORED_AT_ONCE = 32  # images that a request for the next one scores by itself; the rest is left to the scoring task


def scores(bundle: str, datastore: Datastore, limit: int | None = None) -> dict[str, float]:
    """Uncertainty of the unlabelled images, each noted with the model that it is of; `limit`: how many may be new."""
    key, model = f"uncertainty_{Path(bundle).name}", card_of(bundle)["sha256"]
    images = datastore.get_unlabeled_images()
    noted = {image: datastore.get_image_info(image).get(key, {}) for image in images}
    known = {image: note["bits"] for image, note in noted.items() if note.get("model") == model}
    for image in [image for image in images if image not in known][:limit]:
        bits = score(bundle, datastore.get_image_uri(image))
        datastore.update_image_info(image, {key: {"model": model, "bits": bits}})
        known[image] = bits
    return known


def score(bundle: str, image: str) -> float:
    """Uncertainty of an image file; 0 where it cannot be predicted, which the log tells."""
    try:
        return volume_uncertainty(bundle, image) if holds_volume(image) else uncertainty(predict_file(bundle, image))
    except DataError as error:
        logger.warning("not scored: %s", error)
        return 0.0


class Uncertainty(Strategy):
    """The unlabelled image of which a model is least certain."""

    def __init__(self, bundle: str) -> None:
        super().__init__(f"The picture of which {Path(bundle).name} is least certain (mean entropy)")
        self.bundle = bundle

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any] | None:
        """Its id and score; None where every image is labelled."""
        found = scores(self.bundle, datastore, SCORED_AT_ONCE)
        if not found:
            return None
        image = max(found, key=found.__getitem__)
        return {"id": image, "uncertainty": found[image]}


class UncertaintyScoring(ScoringMethod):
    """Score all unlabelled images in the background."""

    def __init__(self, bundle: str) -> None:
        super().__init__(f"Mean entropy of {Path(bundle).name}'s probability maps")
        self.bundle = bundle

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, float]:
        """Uncertainty of each image by its id."""
        return scores(self.bundle, datastore)


class Inference(BundleInferTask):
    """A bundle's masks; no client chooses another file of weights.

    MONAI Label calls what takes `foreground` and `background` "deepgrow"; programs offer that with their tools for clicks.
    """

    def __init__(self, bundle: str, conf: dict[str, str]) -> None:
        self.stage = stage_of(bundle)
        super().__init__(bundle, conf, type=InferType.DEEPGROW if self.stage.prompted else "")
        if self.is_valid():
            del self._config["model_filename"]

    def __call__(
        self, request: dict[str, Any], callbacks: Mapping[Any, Any] | None = None
    ) -> tuple[str | None, dict[str, Any]]:
        """The file of a mask, and what the client is told; volumes go through the network slice by slice."""
        if not holds_volume(request["image"]):
            return super().__call__(request, callbacks)
        start, device = time.monotonic(), name_to_device(request.get("device", "cuda"))
        labels, grid, found = segment_volume(self.bundle_path, request, card_of(self.bundle_path), device)
        labels = labels.astype(request.get("result_dtype", "uint8"))
        with NamedTemporaryFile(suffix=request["result_extension"], delete=False) as file:  # which the server removes
            write_volume(labels, grid, file.name, request.get("result_compress", True))
        seconds = {"total": round(time.monotonic() - start, 2)}
        return file.name, {**found, "label_names": self.labels, "latencies": seconds, "centroids": {}}

    def clicked(self) -> Self:
        """The same model for programs' tools for clicks; its network is in memory once."""
        twin = copy.copy(self)
        twin.type = InferType.DEEPGROW
        return twin


class Training(BundleTrainTask):
    """A training of a bundle's model with the labels that can be used."""

    def config(self) -> dict[str, Any]:
        """The keys of a request that have an effect, with their defaults."""
        return {"device": device_list(), "max_epochs": 50, "val_split": 0.2}

    def _fetch_datalist(self, request: dict[str, Any], datastore: Datastore) -> list[dict[str, str]]:
        return usable(super()._fetch_datalist(request, datastore))

    def _partition_datalist(
        self, datalist: Sequence[Any], request: dict[str, Any], shuffle: bool = False
    ) -> tuple[Sequence[Any], Sequence[Any] | None]:
        parts = super()._partition_datalist(datalist, request, shuffle)
        if not parts[0]:
            raise DataError(f"val_split {request['val_split']}: nothing left to learn from; choose a smaller one")
        return parts


class MyApp(MONAILabelApp):
    """Serve the bundles in `model/`, or those that `--conf models NAME,NAME` names.

    `--conf origins URL,URL` names the pages of other sites that may ask, `--conf upload_mib N` the largest upload.
    """

    @one_line_errors
    def __init__(self, app_dir: str, studies: str, conf: dict[str, str]) -> None:
        folder = Path(app_dir).resolve() / "model"
        found = sorted(path.name for path in folder.iterdir() if (path / "configs" / "inference.json").is_file())
        wanted = [name.strip() for name in conf["models"].split(",")] if "models" in conf else found
        if unknown := [name for name in wanted if name not in found]:
            raise SystemExit(f"models {', '.join(unknown)}: not in {folder}, which has {', '.join(found) or 'none'}")
        if "://" in studies:
            raise SystemExit(f"studies {studies}: expected a folder of images")
        self.bundles = {name: str(folder / name) for name in wanted}
        self.token = password(os.environ)
        self.origins, self.limit = (
            origins_of(conf.get("origins", "")),
            upload_bytes(conf.get("upload_mib", str(UPLOAD_MIB))),
        )
        check_tasks()
        super().__init__(
            app_dir=app_dir,
            studies=studies,
            conf=conf,
            name="UltraRefiner",
            description="Breast-ultrasound lesion segmentation. Research software, not for clinical use.",
            version=monailabel.__version__,
        )

    def init_datastore(self) -> Datastore:
        """The study folder."""
        reload, read_only = settings.MONAI_LABEL_DATASTORE_AUTO_RELOAD, settings.MONAI_LABEL_DATASTORE_READ_ONLY
        return Studies(self.studies, reload, read_only)

    def _load_sessions(self, load: bool = False) -> None:
        """None: a session keeps what a client uploads; here volumes lie in the study folder, or come with their request."""

    def server_mode(self, mode: bool) -> None:
        """What MONAI Label calls once, when its web server starts."""
        super().server_mode(mode)
        from monailabel.app import app  # only where it runs: importing it makes one

        check_forms(lambda request: self.checked("infer", request))
        guard(app, self.token, self.origins, self.limit)

    def _local_request(self, url: str, params: dict[str, Any] | None, action: str) -> dict[str, Any] | None:
        """As MONAI Label does, with the password."""
        address = f"http://127.0.0.1:{settings.MONAI_LABEL_SERVER_PORT}{url}"
        headers = {} if self.token is None else {"Authorization": f"Bearer {self.token}"}
        answer = requests.post(address, json=params or {}, headers=headers, timeout=LOCAL_S)
        if not answer.ok:
            logger.warning("%s could not be started: %s", action.lower(), answer.text)
        return answer.json() if answer.ok else None

    def init_infers(self) -> dict[str, InferTask]:
        """One task a bundle, and one more where clicks correct what it gives without them."""
        tasks = {name: Inference(path, self.conf) for name, path in self.bundles.items()}
        return {f"{name}{CLICKED}": task.clicked() for name, task in tasks.items() if task.stage.corrected} | tasks

    def init_trainers(self) -> dict[str, TrainTask]:
        """One task a bundle."""
        return {name: Training(path, self.conf) for name, path in self.bundles.items()}

    def init_strategies(self) -> dict[str, Strategy]:
        """MONAI Label's own, and the uncertainty of each bundle."""
        strategies: dict[str, Strategy] = {"first": First(), "random": Random()}
        return strategies | {f"uncertainty_{name}": Uncertainty(path) for name, path in self.bundles.items()}

    def init_scoring_methods(self) -> dict[str, ScoringMethod]:
        """The uncertainty of each bundle."""
        return {f"uncertainty_{name}": UncertaintyScoring(path) for name, path in self.bundles.items()}

    def checked(self, method: str, request: Mapping[str, Any], own: Collection[str] = ()) -> dict[str, Any]:
        """A copy of a request with values of the right kind.

        Args:
            method: "infer", "batch_infer", "train", "scoring" or "activelearning".
            request: as the client sent it, and MONAI Label completed it.
            own: what MONAI Label may have added.

        Raises:
            DataError: it names a model, an image or a key that is unknown, or a value that does not fit.
        """
        kind, known = {
            "infer": ("model", self._infers),
            "batch_infer": ("model", self._infers),
            "train": ("model", self._trainers),
            "scoring": ("method", self._scoring_methods),
            "activelearning": ("strategy", self._strategies),
        }[method]
        name = str(request.get(kind))
        if name not in known:
            raise DataError(f"unknown {kind} '{name}': {did_you_mean(name, known)}")
        keys = [*KEYS.get(method, COMMON)]
        if kind == "model":
            keys.append(device_key([*device_map(), *device_map().values()]))
        if known is self._infers:
            card = card_of(self._infers[name].bundle_path)
            keys += [*option_keys(card), *(click_keys(card) if method == "infer" else [])]
        return {kind: name, **checked({key: value for key, value in request.items() if key != kind}, keys, own)}

    def infer(self, request: dict[str, Any], datastore: Datastore | None = None) -> dict[str, Any]:
        """As MONAI Label does; a mistake in the request is told to the client in one line (status 400)."""
        files = {str(request[key]): f"the {key} that was sent" for key in ("image", "label") if key in request}
        with told({path: name for path, name in files.items() if is_upload(path)}):
            request = self.checked("infer", request, OWN)
            image = str(request.get("image"))
            if not (image in self.datastore().list_images() or is_upload(image)):
                raise DataError(f"image '{image}': not in the study folder; GET /datastore/?output=all lists what is")
            path = image if is_upload(image) else self.datastore().get_image_uri(image)
            if volume := holds_volume(path):
                check_volume_request(request, card_of(self._infers[request["model"]].bundle_path))
            return super().infer({"result_extension": KIND if volume else MASK, **request}, datastore)

    def batch_infer(self, request: dict[str, Any], datastore: Datastore | None = None) -> dict[str, Any]:
        """On one device: without a GPU MONAI Label's choice among several fails."""
        return super().batch_infer({**self.checked("batch_infer", request, OWN), "multi_gpu": False}, datastore)

    def next_sample(self, request: dict[str, Any]) -> dict[str, Any]:
        """As MONAI Label does, if there is such a strategy."""
        with told():
            return super().next_sample(self.checked("activelearning", request))

    @one_line_errors
    def train(self, request: dict[str, Any]) -> dict[str, Any]:
        """Train on one device: with several MONAI Label wants a configuration for them and else does nothing."""
        asked = {key: value for key, value in request.items() if key not in ADDED}
        return super().train({**self.checked("train", asked, OWN), "multi_gpu": False})

    def check_task(self, method: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """As `checked`, of a task for the background."""
        asked = self.checked(method, request)
        if method == "train":
            check_labels_suffice(self.bundles[asked["model"]])
            if not self.datastore().datalist():
                raise DataError("no labelled images to learn from: label some first")
        return asked


def check_tasks() -> None:
    """Let the tasks that MONAI Label does in the background be checked before they are, while their client still listens.

    There is no other place between a request and its task.
    """
    start = inspect.unwrap(AsyncTask.run)

    @wraps(start)
    def run(method: str, request: Any = None, params: Any = None, **more: Any) -> Any:
        with told():
            sent = json.loads(json.dumps({**(request or {}), **(params or {})}))  # plain values, as the task gets them
            asked = app_instance().check_task(method, sent)
            try:
                return start(method, request=asked, **more)
            except SystemExit as error:  # of a training that the client waits for
                raise DataError(str(error)) from error

    AsyncTask.run = staticmethod(run)
