"""One model or several as one: the mean of their probabilities, and how far they agree."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.models.segmenter import load_segmenter

Models = str | Path | Sequence[str | Path]


class Consensus(NamedTuple):
    """What an ensemble says of a picture.

    `probability` (H, W) float32: mean of the models'. `deviation` (H, W) float32: their standard deviation, in
    [0, 0.5], 0 of one model. `sam_iou`: mean of the IoUs that SAM predicts for its own masks, NaN without SAM.
    """

    probability: np.ndarray
    deviation: np.ndarray
    sam_iou: float


class Ensemble:
    """Models of one phase, such as those of all folds; phase 2 refines the mean of phase 1's models, as in training.

    Args:
        models: weights, `model.pt` files or what `find_models` takes.
        coarse: weights of phase 1 for phase 2.
        amp: bf16 autocast, as the bundles have by default.
        device: None is the first CUDA device, or the processor.

    Raises:
        DataError: weights are missing, damaged or of different phases, or phase 2 has nothing to refine.
    """

    def __init__(
        self, models: Models, coarse: Models | None = None, amp: bool = True, device: str | None = None
    ) -> None:
        _check_device(device)
        self.paths = find_models(models)
        self.coarse_paths = [] if coarse is None else find_models(coarse)
        self._segmenters = [load_segmenter(path, amp, device) for path in self.paths]
        self._coarse = [load_segmenter(path, amp, device) for path in self.coarse_paths]
        self._check_phases()

    @property
    def phase(self) -> str:
        """One of "phase1", "phase2" and "phase3"."""
        return self._segmenters[0].phase

    @property
    def name(self) -> str:
        """Phase and number of models, such as "phase3 x 5"."""
        return self.phase if len(self.paths) == 1 else f"{self.phase} x {len(self.paths)}"

    @property
    def device(self) -> str:
        """Where the networks are."""
        return str(self._segmenters[0].device)

    def __call__(self, grey: np.ndarray) -> Consensus:
        """Segment a picture (H, W) in [0, 1].

        Raises:
            DataError: the models give no numbers for it.
        """
        coarse = _mean([segmenter(grey) for segmenter in self._coarse]) if self._coarse else None
        predictions = [segmenter.predict(grey, coarse) for segmenter in self._segmenters]
        maps = [prediction.probability for prediction in predictions]
        known = [prediction.sam_iou for prediction in predictions if not math.isnan(prediction.sam_iou)]
        probability = _mean(maps)
        if not np.isfinite(probability).all():
            raise DataError("the model's probability is not a number; its weights are of no use, take another model")
        deviation = np.std(maps, axis=0, dtype=np.float64).astype(np.float32)
        return Consensus(probability, deviation, float(np.mean(known)) if known else math.nan)

    def _check_phases(self) -> None:
        phases = sorted({segmenter.phase for segmenter in self._segmenters})
        if len(phases) > 1:
            raise DataError(
                f"an ensemble needs models of one phase, found {', '.join(phases)}; name those of one phase"
            )
        if self.phase == "phase2" and not self._coarse:
            raise DataError(
                f"{self.paths[0]}: phase 2 refines the coarse map of phase 1 and finds nothing by itself; "
                "predict with phase 3, or name phase 1's model, too (--coarse MODEL)"
            )
        if self._coarse and self.phase != "phase2":
            raise DataError(f"{self.paths[0]}: {self.phase} needs no coarse model; leave --coarse out")
        if odd := [path for path, one in zip(self.coarse_paths, self._coarse, strict=True) if one.phase != "phase1"]:
            raise DataError(f"{odd[0]}: expected a model of phase 1 as the coarse one; name phase 1's model")


def find_models(models: Models) -> list[Path]:
    """The weights meant by files, folders with a `model.pt`, or folders with one a fold (`fold*/model.pt`).

    Raises:
        DataError: there are none.
    """
    if not isinstance(models, str | Path):
        return [path for one in models for path in find_models(one)]
    place = Path(models)
    if place.is_file():
        return [place]
    own, folds = place / "model.pt", sorted(place.glob("fold*/model.pt"), key=lambda path: (len(str(path)), str(path)))
    if own.is_file():
        return [own]
    if not folds:
        phases = sorted({path.parents[1].name for path in place.glob("phase*/fold*/model.pt")})
        instead = f"name one of its folders {', '.join(phases)}" if phases else "train a model or correct the path"
        raise DataError(f"model {place}: expected a model.pt, or a folder with model.pt or fold*/model.pt; {instead}")
    return folds


def _check_device(device: str | None) -> None:
    import torch

    try:
        torch.zeros((), device=device)
    except (AssertionError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        raise DataError(f"device {device}: cannot be used ({reason}); name cpu, cuda, or none at all") from None


def _mean(maps: Sequence[np.ndarray]) -> np.ndarray:
    """Mean of maps (H, W), summed in double precision, float32; of one map that map."""
    return np.asarray(np.mean(maps, axis=0, dtype=np.float64), dtype=np.float32)
