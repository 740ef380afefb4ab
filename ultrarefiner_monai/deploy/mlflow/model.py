"""A trained model in MLflow: logged by a training, loaded by `mlflow.pyfunc` or served by `mlflow models serve`."""

import base64
import importlib.metadata
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.pyfunc import PythonModel, save_model
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
from PIL import Image

from ultrarefiner_monai.data.decoders import decoding
from ultrarefiner_monai.data.decoding import MAX_16_BIT, decode
from ultrarefiner_monai.data.images import to_grey
from ultrarefiner_monai.deploy.export.closure import closure, copy_files, names_of
from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.masks import THRESHOLD, check_threshold, without_islands
from ultrarefiner_monai.metrics.classes import image_class
from ultrarefiner_monai.models.card import read_card, spacing_of
from ultrarefiner_monai.models.segmenter import load_segmenter
from ultrarefiner_monai.shipped import PACKAGE
from ultrarefiner_monai.systems import Stage, find_stage
from ultrarefiner_monai.systems.classes import ORGANS

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

NAME = "model"
TAGS = ("phase", "system", "stage", "dataset", "fold", "sha256")  # of the card
EXAMPLE_SHAPE = (96, 120)  # px
# Columns of a model that has to know the size of a pixel, as `predict` names them.
PIXEL = ("spacing_y_mm", "spacing_x_mm")
ANSWER = {"mask": DataType.string, "probability": DataType.string, "lesion_pixels": DataType.long}  # columns
ANSWER_OF_CLASSES = {"class": DataType.string, "class_probability": DataType.double}
# What predicting imports; the rest of setup.cfg is for training and reports.
REQUIREMENTS = (
    *("mlflow", "numpy", "pandas", "peft", "pillow", "safetensors", "scipy", "segment-anything", "torch"),
    "transformers",
)


class SegmentationModel(PythonModel):
    """Images in, masks out: a table with a column `image` of PNG or JPEG files as base64 text.

    A stage that another one feeds, such as phase 2, needs a column `coarse` too: the probability map that it refines, or of one
    that is asked about lesions the map that shows them, as a grey PNG of the image's size (with 16 bits 65535 is 1). A model that
    was trained with a `spacing` needs columns `spacing_y_mm` and `spacing_x_mm`: the size of the image's pixels.

    The answer has a line an image: `mask`, a PNG (0 and 255) and `probability`, a 16-bit PNG (65535 is 1), both as base64 text
    at the image's own size, `lesion_pixels`, and of a model that tells classes apart `class` and `class_probability` of the
    image. The parameter `threshold` is the probability from which a pixel is lesion.
    """

    def load_context(self, context: Any) -> None:
        """Rebuild the network from the model's card and load its weights."""
        self.segmenter = load_segmenter(context.artifacts["weights"], amp=context.model_config["amp"])

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Segment every image of the column `image`.

        Raises:
            MlflowException: a cell is no image, a size differs, or the threshold is no probability; a server answers with the
                line and status 400.
        """
        inputs = enumerate(model_input.to_dict("records"))
        try:
            threshold = check_threshold((params or {}).get("threshold", THRESHOLD))
            answers = [self._segment(row, number, threshold) for number, row in inputs]
        except DataError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from error
        names = ANSWER if self.segmenter.organs or not self.segmenter.classes else ANSWER | ANSWER_OF_CLASSES
        return pd.DataFrame(answers, columns=list(names))

    def _segment(self, row: dict[str, str], number: int, threshold: float) -> dict[str, Any]:
        given = [name for name in ("image", "coarse") if row.get(name) is not None]
        whites = {"coarse": MAX_16_BIT}  # a probability, as this model answers with, whatever its maximum
        planes = {name: decode_grey(row[name], f"{name} of line {number}", whites.get(name)) for name in given}
        sizes = [float(size) for name in PIXEL if (size := row.get(name)) is not None]
        pixel = sizes if len(sizes) == len(PIXEL) else None
        prediction = self.segmenter.predict(planes["image"], planes.get("coarse"), pixel=pixel)
        probability = prediction.probability
        lesion = without_islands(probability, self.segmenter.islands, threshold)
        mask = lesion >= threshold
        levels = np.rint(np.nan_to_num(probability) * MAX_16_BIT).astype(np.uint16)
        return {
            "mask": encode_png(mask.astype(np.uint8) * 255),
            "probability": encode_png(levels),
            "lesion_pixels": int(mask.sum()),
            **({} if self.segmenter.organs else image_class(lesion, prediction.classes)),
        }


def decode_grey(text: str, name: str, white: int | None = None) -> np.ndarray:
    """Grey values (H, W) float32 in [0, 1] of an image file in base64 text, read as the training reads its images.

    Args:
        text: the file.
        name: what an error calls it.
        white: the stored value that becomes 1 in files with 16 bits; None is what their maximum says.

    Raises:
        DataError: the text is no base64, or its bytes are no image.
    """
    with decoding(name, "a PNG or JPEG file as base64 text", "encode the file's bytes"):
        return to_grey(decode(BytesIO(base64.b64decode(text, validate=True))), white)


def encode_png(pixels: np.ndarray) -> str:
    """A grey PNG of (H, W) uint8 or uint16 values, as base64 text."""
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def columns_of(stage: Stage) -> list[str]:
    """The columns of a table that a model of `stage` takes."""
    return ["image", "coarse"] if stage.reads_map else ["image"]


def signature_of(stage: Stage, classes: Sequence[str], spaced: bool = False) -> ModelSignature:
    """What a model of `stage` that tells `classes` apart takes and gives; with the size of pixels where it is `spaced`."""
    answer = ANSWER | ANSWER_OF_CLASSES if classes else ANSWER
    sizes = [ColSpec(DataType.double, name) for name in PIXEL if spaced]
    return ModelSignature(
        Schema([*(ColSpec(DataType.string, name) for name in columns_of(stage)), *sizes]),
        Schema([ColSpec(kind, name) for name, kind in answer.items()]),
        ParamSchema([ParamSpec("threshold", DataType.double, THRESHOLD)]),
    )


def example_of(stage: Stage, pixel: float | None = None) -> pd.DataFrame:
    """One made image, a dark disc, as a model of `stage` takes it; no patient's, since it is published.

    `pixel`: mm along its pixels, of a model that has to know.
    """
    rows, columns = np.indices(EXAMPLE_SHAPE)
    disc = np.hypot(rows - 50, columns - 60) < 20
    made = {"image": np.where(disc, 40, 150).astype(np.uint8), "coarse": disc.astype(np.uint8) * 255}
    sizes = {} if pixel is None else {name: [pixel] for name in PIXEL}
    return pd.DataFrame({name: [encode_png(made[name])] for name in columns_of(stage)} | sizes)


def save(weights: Path, target: str | Path, amp: bool = True, model: Model | None = None) -> None:
    """Write an MLflow model: weights and card, the code that predicting needs, signature, example and requirements.

    The code is loaded from its text; nothing is pickled.

    Args:
        weights: `model.pt` with its card beside it.
        target: folder to write.
        amp: bf16 autocast, as in the training.
        model: MLflow's description to complete, None for a model outside of a store.
    """
    card = read_card(weights)
    system, stage = find_stage(card["stage"])
    classes = () if card.get("labels") == ORGANS else stage.classes_of(card["network"])
    spacing = spacing_of(card)
    pixel = None if spacing is None else spacing * min(1, card["image_size"] / max(EXAMPLE_SHAPE))
    with TemporaryDirectory() as folder:
        copy_files(closure({f"{PACKAGE.name}.deploy.mlflow.served"} | names_of(system, "builder")), Path(folder))
        save_model(
            str(target),
            python_model=str(Path(__file__).with_name("served.py")),
            artifacts={"weights": weights.as_uri(), "card": weights.with_suffix(".json").as_uri()},
            code_paths=[str(Path(folder, PACKAGE.name))],
            model_config={"amp": amp},
            signature=signature_of(stage, classes, pixel is not None),
            input_example=example_of(stage, pixel),
            pip_requirements=requirements(),
            metadata=card,
            mlflow_model=model or Model(),
        )


def requirements() -> list[str]:
    """The packages that predicting needs, at the versions at hand, without the build's own label ("+cpu")."""
    return [f"{name}=={importlib.metadata.version(name).partition('+')[0]}" for name in REQUIREMENTS]


def logged_model(output_dir: str | Path, amp: bool) -> "Callable[[MlflowClient, str], None]":
    """The operation that logs the best model of a training to its run, as `runs:/<run>/model`; once for the same weights.

    Args:
        output_dir: folder of the training, with `model.pt` and `model.json` by the time it ends.
        amp: whether the training used bf16 autocast.
    """

    def log(client: "MlflowClient", run_id: str) -> None:
        from mlflow.entities import LoggedModelOutput, LoggedModelStatus

        weights = Path(output_dir).resolve() / "model.pt"
        card = read_card(weights)
        experiment = client.get_run(run_id).info.experiment_id
        found = client.search_logged_models([experiment], filter_string=f"source_run_id = '{run_id}'")
        if any(model.tags.get("sha256") == card["sha256"] for model in found):
            return
        tags = {name: str(card[name]) for name in TAGS if name in card}
        logged = client.create_logged_model(
            experiment, NAME, source_run_id=run_id, tags=tags, model_type="segmentation"
        )
        description = Model(artifact_path=logged.artifact_location, run_id=run_id, model_id=logged.model_id)
        with TemporaryDirectory() as folder:
            save(weights, Path(folder, NAME), amp, description)
            client.log_model_artifacts(logged.model_id, str(Path(folder, NAME)))
        client.finalize_logged_model(logged.model_id, LoggedModelStatus.READY)
        client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=card["epoch"])])

    return log
