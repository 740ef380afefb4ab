"""What a bundle does inside a MONAI Label server: the pieces that its two configurations and the server's app put together.

Nothing here imports MONAI Label. A served bundle is a folder with `models/model.pt` and its card, and where another stage
feeds that of the model, `models/<stage>/model.pt`, the network that proposes what is refined.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import Compose, ConcatItemsd, MapTransform, Transform
from torch import Tensor, nn

from ultrarefiner_monai.data.images import read_grey
from ultrarefiner_monai.deploy.monailabel.clicks import PromptsOfRequest, is_asked
from ultrarefiner_monai.deploy.monailabel.labels import read_label
from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.masks import THRESHOLD, check_threshold, without_islands
from ultrarefiner_monai.metrics.classes import class_mask, image_class
from ultrarefiner_monai.models.card import build_network, read_card, spacing_of, value_at
from ultrarefiner_monai.models.ensemble import Ensemble, entropy
from ultrarefiner_monai.models.inferers import AutocastInferer, OutputsInferer
from ultrarefiner_monai.networks.letterbox import undo_letterbox
from ultrarefiner_monai.networks.prompts.corrections import with_clicks
from ultrarefiner_monai.systems import Stage, find_stage
from ultrarefiner_monai.systems.classes import ORGANS
from ultrarefiner_monai.transforms.letterboxd import Letterboxd
from ultrarefiner_monai.transforms.load import LoadGreyd

MODEL = Path("models", "model.pt")
BOXES_ALONE = "lite_medsam"  # the one SAM whose weights know no points
FINDER = "finder"  # folder of the model whose lesions a network is asked about; of any stage


def card_of(bundle: str | Path) -> dict[str, Any]:
    """The card of the model that the folder `bundle` serves."""
    return read_card(Path(bundle) / MODEL)


def stage_of(bundle: str | Path) -> Stage:
    """The stage of the model that the folder `bundle` serves."""
    return find_stage(card_of(bundle)["stage"])[1]


def classes_of(bundle: str | Path) -> tuple[str, ...]:
    """Names of the classes that the model told apart that the folder `bundle` serves."""
    return stage_of(bundle).classes_of(card_of(bundle)["network"])


def tells_organs(bundle: str | Path) -> bool:
    """Whether those are organs, of which an image may show several and is none."""
    return card_of(bundle).get("labels") == ORGANS


def islands_of(bundle: str | Path) -> float:
    """Share of evidence below which a part of a mask is left out, see `masks.without_islands`."""
    return card_of(bundle).get("islands", 0.0)


def proposer(bundle: str | Path, stage: Stage) -> Path | None:
    """`model.pt` of the network whose maps the stage reads, which may be absent; None for stages that read none.

    It proposes what is refined, or finds the lesions that a network is asked about.
    """
    if not stage.reads_map:
        return None
    return Path(bundle, "models", next(iter(stage.feeds.values()), FINDER), "model.pt")


def untrained_network(bundle: str | Path) -> nn.Module:
    """The network that `bundle` serves, built from its card; the server loads the weights."""
    return build_network(card_of(bundle))


def options_of(card: Mapping[str, Any]) -> dict[str, Any]:
    """What a client shows as options of a model, with their defaults: threshold, mask shown, options of its stage."""
    _, stage = find_stage(card["stage"])
    masks = [*stage.outputs[::-1], *stage.classes_of(card["network"])]
    shown = {"show": masks} if len(masks) > 1 else {}
    own = {name: value_at(card["network"], path) for name, path in stage.options.items()}
    return {"threshold": THRESHOLD, **shown, **own}


def preprocessing(bundle: str | Path, labelled: bool = False) -> Compose:
    """Transforms of a request, or of a `labelled` image for training.

    Paths under `image` and `label` become what the network takes, (C, S, S), C = 2 where another stage feeds it, and the
    mask (1, S, S).
    """
    card = card_of(bundle)
    stage, size = stage_of(bundle), card["image_size"]
    keys, coarse = ["image"], proposer(bundle, stage)
    steps: list[Transform] = [LoadGreyd("image")]
    if coarse is not None:
        # A network that is asked about lesions learns from those of the label; one that refines never sees the truth.
        steps.append(CoarseMapd("coarse", str(coarse), request=not labelled or stage.prompted))
        keys.append("coarse")
    if labelled:
        steps.append(LoadLabeld("label"))
    elif stage.clickable:
        variant = value_at(card["network"], stage.settings["variant"])
        steps.append(PromptsOfRequest(size, stage.prompted, points_beside_box=variant != BOXES_ALONE))
    every = [*keys, "label"] if labelled else keys
    steps.append(Letterboxd(every, size, binary_keys="label", spacing=spacing_of(card)))  # which pictures do not tell
    return Compose([*steps, ConcatItemsd(keys, "image")] if coarse is not None else steps)


class LoadLabeld(MapTransform):
    """Read a label, a path, as the mask (1, H, W) of the image under `image`: float32 in {0, 1}.

    Raises:
        DataError: it cannot be read or does not lie on its image.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of `data` with the labels read."""
        height, width = data["image"].shape[1:]
        masks = {key: read_label(data[key], (width, height)) for key in self.key_iterator(data)}
        return {**data, **{key: MetaTensor(torch.from_numpy(mask)[None].float()) for key, mask in masks.items()}}


class CoarseMapd(MapTransform):
    """Write the map (1, H, W) that is refined, or whose lesions a network is asked about.

    It is the mask that came with the request (`used` says `label`), the network's proposal (`finder`), or blank where clicks
    and a box say all.

    Args:
        keys: the key to write.
        model: `model.pt` of the network that proposes.
        request: whether a path under `label` is the map; in the training of what is refined it is the truth.

    Raises:
        DataError: no mask, click or box came and there is no network, or the mask is of no use.
    """

    def __init__(self, keys: KeysCollection, model: str, request: bool) -> None:
        super().__init__(keys)
        self.model = Path(model)
        self.request = request

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of `data` with the map; the image, (1, H, W), is under `image`."""
        image, used = data["image"], []
        height, width = image.shape[1:]
        if self.request and isinstance(data.get("label"), str):
            coarse, used = read_label(data["label"], (width, height)).astype(np.float32), ["label"]
        elif self.model.is_file():
            coarse, used = _ensemble(self.model)(image[0].as_subclass(Tensor).numpy()).probability, ["finder"]
        elif self.request and is_asked(data):
            coarse = np.zeros((height, width), np.float32)
        else:
            raise DataError(
                "this model does not find lesions by itself: click on one ('foreground'), draw a box around it ('roi'), send a "
                f"mask as 'label', or export the model with --coarse MODEL ({self.model.parent.name})"
            )
        return {**data, "used": used, self.keys[0]: MetaTensor(torch.from_numpy(coarse)[None], meta=dict(image.meta))}


class AdjustedInferer(OutputsInferer):
    """Logits of all outputs and classes (B, outputs + K, S, S), with the options that the client has chosen.

    Args:
        bundle: the served folder.
        options: as `options_of` lists them; those that are not the stage's own are left to others.
    """

    def __init__(self, bundle: str | Path, options: Mapping[str, Any]) -> None:
        super().__init__(amp=True)
        self.system, self.stage = find_stage(card_of(bundle)["stage"])
        self.options = {name: options[name] for name in self.stage.options if name in options}

    def __call__(self, inputs: Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> Tensor:
        """Call `network`, which is left as it is, with the `prompts` that `inputs` may bring in their meta.

        Raises:
            DataError: options that the network refuses.
        """
        if self.options:
            try:
                network = self.system.function("adjuster")(network, self.options)
            except (TypeError, ValueError) as error:
                raise DataError(f"options {self.options}: {error}") from error
        if (prompts := getattr(inputs, "meta", {}).get("prompts")) is not None:
            kwargs["prompts"] = prompts.to(inputs.device)
        return super().__call__(inputs, network, *args, **kwargs)

    def _whole(self, inputs: Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> Tensor:
        call = OutputsInferer if self.stage.in_parts else AutocastInferer
        return call._whole(self, inputs, network, *args, **kwargs)


class MaskForClientd(MapTransform):
    """Turn logits (C, S, S) into the mask that the server's writer takes: uint8 (W, H) at the image's own size, lesion 1.

    `threshold` and `show`, an output or a class, of the request decide; `result` tells the client what came of it. Of a class
    the lesion's pixels are shown that it is likeliest in. A mask that was sent and is `kept` is added, and where the network does
    not follow a click, the click's disc is put into the mask. The writer transposes, as for all of MONAI, which reads (W, H).

    Args:
        keys: the logits.
        outputs: names of their first channels; the last is shown where the request names none.
        classes: names of the channels that follow.
        organs: whether they are organs, of which the image is none.
        islands: share of evidence below which a part of a mask is left out, see `masks.without_islands`; what a user has clicked
            at or boxed stays whole.
    """

    def __init__(
        self,
        keys: KeysCollection,
        outputs: Sequence[str],
        classes: Sequence[str] = (),
        organs: bool = False,
        islands: float = 0.0,
    ) -> None:
        super().__init__(keys)
        self.islands = islands
        self.organs = organs
        self.outputs = list(outputs)
        self.classes = list(classes)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of `data` with the mask; the image that the network saw is under `image`."""
        item = dict(data)
        threshold = item.get("threshold", THRESHOLD)
        with suppress(TypeError, ValueError):  # a client may write it as text
            threshold = float(threshold)
        threshold = check_threshold(threshold)
        show = item.get("show")
        image = item["image"]
        height, width = (int(side) for side in image.meta["spatial_shape"])
        for key in self.key_iterator(item):
            logits = item[key].as_subclass(Tensor)
            maps = undo_letterbox(logits.sigmoid(), (height, width)).cpu().numpy()
            outputs, classes = np.split(maps, [len(self.outputs)])
            asked = "clicks" in item or "used" in item
            shown = without_islands(outputs, 0 if asked else self.islands, threshold)
            chosen = self.outputs.index(show) if show in self.outputs else -1
            probability, mask = outputs[chosen], shown[chosen] >= threshold
            if show in self.classes:
                mask = class_mask(mask, classes) == 1 + self.classes.index(show)
            if "clicks" in item:
                mask = mask | item.get("kept", False)
                mask = with_clicks(mask, *item["clicks"])
            item[key] = mask.T.astype(np.uint8)
            item["result"] = {
                "lesion_pixels": int(mask.sum()),
                "uncertainty": uncertainty(probability),
                **({"prompts": item["used"]} if "used" in item else {}),
                **({} if self.organs else image_class(shown[-1], dict(zip(self.classes, classes, strict=True)))),
            }
        image.meta["spatial_shape"] = (width, height)
        return item


def uncertainty(probability: np.ndarray) -> float:
    """Mean entropy in bits a pixel of a probability map, 0 to 1 (uncertainty sampling, Settles 2009, section 3.1).

    It grows with the length of a blurred outline, so it prefers large lesions among equally blurred ones.
    """
    return float(entropy(probability).mean(dtype=np.float64))


def predict_file(bundle: str | Path, image: str | Path) -> np.ndarray:
    """Probability (H, W) of what `bundle` serves for an image file; DataError where there is none."""
    return ensemble_of(bundle)(read_grey(image)).probability


def ensemble_of(bundle: str | Path, device: str | None = None) -> Ensemble:
    """What `bundle` serves, on a `device`; DataError where weights are missing."""
    coarse = proposer(bundle, stage_of(bundle))
    return _ensemble(Path(bundle) / MODEL, coarse if coarse and coarse.is_file() else None, device)


def _ensemble(model: Path, coarse: Path | None = None, device: str | None = None) -> Ensemble:
    """The network of `model`, with the one that proposes what it refines; read once until `model` changes."""
    return _read_ensemble(model, coarse, device, model.stat().st_mtime_ns)


@lru_cache(maxsize=4)
def _read_ensemble(model: Path, coarse: Path | None, device: str | None, changed: int) -> Ensemble:
    return Ensemble(model, coarse, device=device)
