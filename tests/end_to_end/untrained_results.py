"""A cross-validation as `ultrarefiner cv` leaves it, tracked runs included, in seconds: blurred truths stand for predictions."""

import json
from pathlib import Path

import numpy as np
from ignite.engine import Engine
from scipy.ndimage import gaussian_filter
from small_releases import TINY

from ultrarefiner_monai.cross_validation.conduct import conduct
from ultrarefiner_monai.cross_validation.scores import predictions
from ultrarefiner_monai.cross_validation.tasks import DONE, CrossValidation
from ultrarefiner_monai.data.images import read_mask
from ultrarefiner_monai.data.manifests.build import build_document, write_manifest
from ultrarefiner_monai.data.manifests.items import masks_of
from ultrarefiner_monai.data.manifests.splits import Options
from ultrarefiner_monai.data.phantom.phantom import generate_phantom
from ultrarefiner_monai.data.predictions.index import PredictionIndex
from ultrarefiner_monai.data.predictions.maps import write_map
from ultrarefiner_monai.data.releases.readers import find_root
from ultrarefiner_monai.data.releases.release import read_release
from ultrarefiner_monai.data.releases.roots import resolve
from ultrarefiner_monai.handlers import CompareMasks, Tracker, TrackValidation

SHIFT = {"coarse": 5, "refined": 2}  # pixels by which a stage's masks miss the truth, at most
MODEL = "0" * 64


class UntrainedStudy(CrossValidation):
    """A cross-validation whose folds predict and track without having been trained."""

    def run_fold(self, phase: str, fold: int) -> None:
        folder = self.folder(phase, fold)
        for split, place in (("val", "predictions"), ("test", "predictions_test")):
            outputs = self.system.stage(phase).outputs
            for output in outputs:
                self._predict(folder / place / (output if len(outputs) > 1 else ""), phase, fold, split, output)
        card = {"phase": phase, "dataset": self.dataset, "fold": fold, "epoch": 2, "sha256": MODEL}
        config = {"dataset": self.dataset, "data_root": self.data_root, "seed": 42, **self.shared}
        for name, content in (("model.json", card), ("executed_config.json", config), (DONE, {})):
            (folder / name).write_text(json.dumps(content))
        self._track(folder, phase, fold)

    def _predict(self, folder: Path, phase: str, fold: int, split: str, channel: str) -> None:
        index = PredictionIndex(self.dataset, phase, fold, split, self.manifest.sha256, MODEL)
        generator = np.random.default_rng(fold)
        for item in self.manifest.split(split, fold):
            root = find_root(self.dataset, str(self.data_root))
            truth = read_mask([resolve(root, mask) for mask in masks_of(item)]).astype(np.float32)
            shift = generator.integers(-SHIFT[channel], SHIFT[channel] + 1, 2)
            write_map(folder / index.add(item), gaussian_filter(np.roll(truth, shift, (0, 1)), 2).clip(0, 1))
        index.write(folder)

    def _track(self, folder: Path, phase: str, fold: int) -> None:
        tracker = Tracker(
            uri=self.shared["tracking_uri"],
            experiment=self.dataset,
            run_name=f"{phase}-fold{fold}-seed42",
            output_dir=folder,
            params={"phase": phase, "fold": fold},
            tags={"kind": "training"},
            parent_run=self.parent_run,
            artifacts=[folder / "per_image.csv"],
        )
        tracker.log_metrics({"train_loss": 0.5}, 1)
        root = find_root(self.dataset, str(self.data_root))
        evaluator = Engine(
            lambda _, batch: [dict(zip(("pred", "truth"), item["maps"].read(root), strict=True)) for item in batch]
        )
        CompareMasks(folder, self.system.stage(phase).outputs).attach(evaluator)
        TrackValidation(tracker).attach(evaluator)
        evaluator.run([[{**one.item, "maps": one} for one in predictions(self, self.manifest, phase, fold)]])
        tracker.finish()


def make_results(base: Path) -> CrossValidation:
    """Two folds through three phases on twelve pictures of the phantom, everything below `base`."""
    root, manifest = base / "PHANTOM", base / "PHANTOM.json"
    generate_phantom(root, count=12, seed=3)
    write_manifest(build_document(read_release("PHANTOM", str(root)), Options(folds=2)), manifest)
    shared = {"manifest": str(manifest), "tracking_uri": f"sqlite:///{base / 'mlruns.db'}"}
    cv = UntrainedStudy("PHANTOM", str(root), base / "study", None, shared, TINY)
    conduct([cv])
    return cv
