"""MONAI Label app that serves exported UltraRefiner bundles: inference, training, and the most uncertain image next."""

import logging
import sys
from pathlib import Path
from typing import Any

import monailabel
from fastapi import HTTPException
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.infer_v2 import InferTask
from monailabel.interfaces.tasks.scoring import ScoringMethod
from monailabel.interfaces.tasks.strategy import Strategy
from monailabel.interfaces.tasks.train import TrainTask
from monailabel.tasks.activelearning.first import First
from monailabel.tasks.activelearning.random import Random
from monailabel.tasks.infer.bundle import BundleInferTask
from monailabel.tasks.train.bundle import BundleTrainTask

logger = logging.getLogger(__name__)

SCORED_AT_ONCE = 32  # images that a request for the next one scores by itself; the rest is left to the scoring task


def scores(bundle: str, datastore: Datastore, limit: int | None = None) -> dict[str, float]:
    """Uncertainty of the unlabelled images, each noted with the model that it is of; `limit`: how many may be new."""
    from ultrarefiner_monai.deploy.monailabel.parts import card_of

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
    from ultrarefiner_monai.deploy.monailabel.parts import predict_file, uncertainty
    from ultrarefiner_monai.errors import DataError

    try:
        return uncertainty(predict_file(bundle, image))
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


class MyApp(MONAILabelApp):
    """Serve the bundles in `model/`, or those that `--conf models NAME,NAME` names."""

    def __init__(self, app_dir: str, studies: str, conf: dict[str, str]) -> None:
        folder = Path(app_dir).resolve() / "model"
        found = sorted(path.name for path in folder.iterdir() if (path / "configs" / "inference.json").is_file())
        wanted = [name.strip() for name in conf["models"].split(",")] if "models" in conf else found
        if unknown := [name for name in wanted if name not in found]:
            raise SystemExit(f"models {', '.join(unknown)}: not in {folder}, which has {', '.join(found) or 'none'}")
        self.bundles = {name: str(folder / name) for name in wanted}
        sys.path.append(str(folder.parent))  # the package travels with the app
        super().__init__(
            app_dir=app_dir,
            studies=studies,
            conf=conf,
            name="UltraRefiner",
            description="Breast-ultrasound lesion segmentation. Research software, not for clinical use.",
            version=monailabel.__version__,
        )

    def init_infers(self) -> dict[str, InferTask]:
        """One task a bundle."""
        return {name: BundleInferTask(path, self.conf) for name, path in self.bundles.items()}

    def init_trainers(self) -> dict[str, TrainTask]:
        """One task a bundle."""
        return {name: BundleTrainTask(path, self.conf) for name, path in self.bundles.items()}

    def init_strategies(self) -> dict[str, Strategy]:
        """MONAI Label's own, and the uncertainty of each bundle."""
        strategies: dict[str, Strategy] = {"first": First(), "random": Random()}
        return strategies | {f"uncertainty_{name}": Uncertainty(path) for name, path in self.bundles.items()}

    def init_scoring_methods(self) -> dict[str, ScoringMethod]:
        """The uncertainty of each bundle."""
        return {f"uncertainty_{name}": UncertaintyScoring(path) for name, path in self.bundles.items()}

    def infer(self, request: dict[str, Any], datastore: Datastore | None = None) -> dict[str, Any]:
        """As MONAI Label does; a mistake in the request is told to the client in one line (status 400)."""
        from ultrarefiner_monai.errors import DataError

        try:
            return super().infer(request, datastore)
        except DataError as error:
            raise HTTPException(status_code=400, detail=str(error)) from error

    def train(self, request: dict[str, Any]) -> dict[str, Any]:
        """Train on one device: with several MONAI Label wants a configuration for them and else does nothing."""
        if not self.datastore().datalist():
            raise SystemExit("no labelled pictures to learn from: label some first")
        return super().train({**request, "multi_gpu": False})
