"""One model or several as one: the mean of their probabilities, and how far they agree."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import tee
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.models.segmenter import Prediction, load_segmenter

if TYPE_CHECKING:
    from ultrarefiner_monai.networks.prompts.lesions import LesionPrompts

Models = str | Path | Sequence[str | Path]


class Consensus(NamedTuple):
    """What an ensemble says of an image.

    `probability` (H, W) float32: mean of the models'. `deviation` (H, W) float32: their standard deviation, in
    [0, 0.5], 0 of one model. `quality`: mean of the IoUs that the networks predict for their own masks, NaN without any.
    `classes`: mean probability (H, W) of each class by name; empty where none are told apart.
    """

    probability: np.ndarray
    deviation: np.ndarray
    quality: float
    classes: Mapping[str, np.ndarray] = MappingProxyType({})


class Ensemble:
    """Models of one stage, such as those of all folds; one that others feed gets the mean of their maps, as in training.

    Args:
        models: weights, `model.pt` files or what `find_models` takes.
        coarse: weights of the stage that feeds this one, such as phase 1 for phase 2; for models that are asked about lesions,
            those whose lesions are meant, of any stage that needs no map itself. Without them each call names the prompts.
        amp: bf16 autocast, as the bundles have by default.
        device: None is the first CUDA device, or the CPU.

    Raises:
        DataError: weights are missing, damaged, of different stages or of different classes, or what feeds them is missing.
    """

    def __init__(
        self, models: Models, coarse: Models | None = None, amp: bool = True, device: str | None = None
    ) -> None:
        _check_device(device)
        self.paths = find_models(models)
        self.coarse_paths = [] if coarse is None else find_models(coarse)
        self._segmenters = [load_segmenter(path, amp, device) for path in self.paths]
        self._coarse = [load_segmenter(path, amp, device) for path in self.coarse_paths]
        self._check_stages()

    @property
    def stage(self) -> str:
        """Name of the models' stage, such as "phase3"."""
        return self._segmenters[0].stage.name

    @property
    def name(self) -> str:
        """Stage and number of models, such as "phase3 x 5"."""
        return self.stage if len(self.paths) == 1 else f"{self.stage} x {len(self.paths)}"

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes that the models tell apart, in their order."""
        return self._segmenters[0].classes

    @property
    def organs(self) -> bool:
        """Whether these are organs, of which an image may show several."""
        return self._segmenters[0].organs

    @property
    def clip(self) -> tuple[float, float] | None:
        """Grey values of a volume that become 0 and 1; None: its percentiles."""
        return self._segmenters[0].clip

    @property
    def islands(self) -> float:
        """Share of evidence below which a part of a mask is left out, see `masks.without_islands`."""
        return self._segmenters[0].islands

    @property
    def spacing(self) -> float | None:
        """Mm that a pixel of the networks' input stands for; None: the long side of an image fills it."""
        return self._segmenters[0].spacing

    @property
    def device(self) -> str:
        """Where the networks are."""
        return str(self._segmenters[0].device)

    def __call__(
        self, grey: np.ndarray, prompts: "LesionPrompts | None" = None, pixel: Sequence[float] | None = None
    ) -> Consensus:
        """Segment an image (H, W) in [0, 1].

        Args:
            grey: the image.
            prompts: in its pixels, where the models are asked about lesions.
            pixel: size (y, x) of its pixels in mm, see `Segmenter.predict`.

        Raises:
            DataError: the models give no numbers for it, are not asked as they are to be, or do not see an image of that size.
        """
        maps = [segmenter.predict(grey, pixel=pixel).probability for segmenter in self._coarse]
        coarse = _mean(maps) if maps else None
        return _consensus([segmenter.predict(grey, coarse, prompts, pixel) for segmenter in self._segmenters])

    def predict_volume(self, slices: Iterable[np.ndarray], pixel: Sequence[float] | None = None) -> Iterator[Consensus]:
        """Segment a volume's slices, see `Segmenter.predict_volume`.

        Raises:
            DataError: as of a single image.
        """
        if self._coarse:
            yield from (self(plane, pixel=pixel) for plane in slices)
            return
        copies = tee(slices, len(self._segmenters))
        of_models = (each.predict_volume(copy, pixel) for each, copy in zip(self._segmenters, copies, strict=True))
        yield from map(_consensus, zip(*of_models, strict=True))

    def _check_stages(self) -> None:
        if len(stages := sorted({segmenter.stage.name for segmenter in self._segmenters})) > 1:
            raise DataError(f"an ensemble needs models of one stage, found {', '.join(stages)}; name those of one")
        for path, segmenter in zip(self.paths, self._segmenters, strict=True):
            if segmenter.classes != self.classes:
                raise DataError(
                    f"{path}: tells {_named(segmenter.classes)} apart, {self.paths[0]} {_named(self.classes)}; an ensemble "
                    "needs models of the same classes in the same order"
                )
            if segmenter.clip != self.clip:
                raise DataError(
                    f"{path}: learned from grey values {segmenter.clip or 'of percentiles'}, {self.paths[0]} from "
                    f"{self.clip or 'those of percentiles'}; an ensemble needs models that see a volume alike"
                )
            if segmenter.spacing != self.spacing:
                raise DataError(
                    f"{path}: sees {_seen(segmenter.spacing)}, {self.paths[0]} {_seen(self.spacing)}; an ensemble needs models "
                    "of one spacing"
                )
        feeding = list(self._segmenters[0].stage.feeds.values())
        if feeding and not self._coarse:
            raise DataError(
                f"{self.paths[0]}: {self.stage} refines the map of {feeding[0]} and finds nothing by itself; name a model "
                f"of {feeding[0]}, too (--coarse MODEL), or predict with a stage that needs none"
            )
        if self._coarse and not self._segmenters[0].stage.reads_map:
            raise DataError(f"{self.paths[0]}: {self.stage} needs no coarse model; leave --coarse or --auto out")
        for path, segmenter in zip(self.coarse_paths, self._coarse, strict=True):
            if segmenter.stage.reads_map:
                raise DataError(f"{path}: a model of {segmenter.stage.name} finds nothing by itself; name another")
            if feeding and segmenter.stage.name not in feeding:
                raise DataError(
                    f"{path}: expected a model of {feeding[0]} as the coarse one, found {segmenter.stage.name}"
                )


def _consensus(predictions: Sequence[Prediction]) -> Consensus:
    """What the models' predictions of an image say together."""
    maps = [prediction.probability for prediction in predictions]
    known = [prediction.quality for prediction in predictions if not math.isnan(prediction.quality)]
    probability = _mean(maps)
    if not np.isfinite(probability).all():
        raise DataError("the model's probability is not a number; its weights are of no use, take another model")
    deviation = np.std(maps, axis=0, dtype=np.float64).astype(np.float32)
    classes = {name: _mean([prediction.classes[name] for prediction in predictions]) for name in predictions[0].classes}
    return Consensus(probability, deviation, float(np.mean(known)) if known else math.nan, classes)


def find_models(models: Models) -> list[Path]:
    """The weights meant by files, folders with a `model.pt`, exported bundles, or folders with one a fold (`fold*/model.pt`).

    Raises:
        DataError: there are none.
    """
    if not isinstance(models, str | Path):
        return [path for one in models for path in find_models(one)]
    named = Path(models)
    if named.is_file():
        return [named]
    own, folds = named / "model.pt", sorted(named.glob("fold*/model.pt"), key=lambda path: (len(str(path)), str(path)))
    for one in (own, named / "models" / "model.pt"):  # of a training, of an exported bundle
        if one.is_file():
            return [one]
    if not folds:
        stages = sorted({path.parents[1].name for path in named.glob("*/fold*/model.pt")})
        instead = f"name one of its folders {', '.join(stages)}" if stages else "train a model or correct the path"
        raise DataError(f"model {named}: expected a model.pt, or a folder with model.pt or fold*/model.pt; {instead}")
    return folds


def entropy(probability: np.ndarray) -> np.ndarray:
    """Uncertainty of a probability map in bits, float32 in [0, 1]: -p log2 p - (1 - p) log2 (1 - p).

    Of an ensemble's mean p it is the predictive entropy (Lakshminarayanan et al., "Simple and scalable predictive
    uncertainty estimation using deep ensembles", NeurIPS 2017).
    """
    from scipy.special import entr

    p = probability.astype(np.float64)
    return ((entr(p) + entr(1 - p)) / math.log(2)).clip(0, 1).astype(np.float32)


def _seen(spacing: float | None) -> str:
    return "the whole width" if spacing is None else f"{spacing:g} mm a pixel"


def _named(classes: Sequence[str]) -> str:
    return ", ".join(classes) or "no classes"


def _check_device(device: str | None) -> None:
    try:
        torch.zeros((), device=device)
    except (AssertionError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        raise DataError(f"device {device}: cannot be used ({reason}); name cpu, cuda, or none at all") from None


def _mean(maps: Sequence[np.ndarray]) -> np.ndarray:
    """Mean of maps (H, W), summed in double precision, float32; of one map that map."""
    return np.asarray(np.mean(maps, axis=0, dtype=np.float64), dtype=np.float32)
