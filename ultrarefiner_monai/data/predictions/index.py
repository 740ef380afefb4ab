"""`predictions.json`: which model of which fold made a folder's maps, and from which manifest."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from ultrarefiner_monai.data.predictions.maps import map_name
from ultrarefiner_monai.data.releases.roots import unsafe
from ultrarefiner_monai.errors import SHOWN_PROBLEMS, DataError, shown
from ultrarefiner_monai.files import read_json, write_json
from ultrarefiner_monai.schemas import COUNT, PATH, PIXELS, TEXT, inside, list_of, object_of, of, or_null, problems

INDEX_NAME = "predictions.json"
SCHEMA = "ultrarefiner_monai/predictions/1"
AGAIN = "run the inference again"
ENTRY = object_of(
    {"id": TEXT, "file": PATH, "width": PIXELS, "height": PIXELS},
    {"dice": or_null(of("a number from 0 to 1", type="number", minimum=0, maximum=1))},
)
INDEX = object_of(
    {
        "schema": of(f"'{SCHEMA}'", const=SCHEMA),
        "dataset": TEXT,
        "stage": TEXT,
        "fold": or_null(COUNT),
        "split": TEXT,
        "manifest_sha256": TEXT,
        "model_sha256": TEXT,
    },
    {"prompts": TEXT, "items": list_of(ENTRY)},
)
SHOWN = 50  # ids named for each kind of fault before the message says "and N more"


@dataclass
class PredictionIndex:
    """What `predictions.json` says of a prediction folder.

    Attributes:
        dataset: name of the dataset.
        stage: training stage whose model predicted; older files have the number of UltraRefiner's phase.
        fold: fold of the model, which is the fold it was validated on; None for the mean of all folds' models.
        split: "val", "test", "normal" ...: which of the manifest's items were predicted.
        manifest_sha256: hash of the manifest's bytes.
        model_sha256: hash of the model's weights.
        prompts: which lesions the model was asked about (key `prompt_source`); empty, and not written, where it is asked nothing.
        items: `{"id", "file", "dice", "width", "height"}` a prediction; dice None where undefined or unknown.
    """

    dataset: str
    stage: str
    fold: int | None
    split: str
    manifest_sha256: str
    model_sha256: str
    prompts: str = ""
    items: list[dict[str, Any]] = field(default_factory=list)

    def add(self, item: Mapping[str, Any], dice: float | None = None) -> str:
        """Enter a manifest item's prediction and return the name of its map inside the folder."""
        known = None if dice is None or math.isnan(dice) else float(dice)
        size = {"width": int(item["width"]), "height": int(item["height"])}
        self.items.append({"id": item["id"], "file": map_name(item["image"]), "dice": known, **size})
        return self.items[-1]["file"]

    def write(self, folder: str | Path) -> Path:
        """Write `folder/predictions.json` atomically, items sorted by id.

        Raises:
            DataError: an image entered twice, or two images that share a map (names that differ only in the suffix).
        """
        for key in ("id", "file"):
            doubled = [name for name, count in Counter(entry[key] for entry in self.items).items() if count > 1]
            if doubled:
                raise DataError(
                    f"{folder}: predictions with the same {key}: {shown(doubled, SHOWN)}; each image is predicted once"
                )
        content = {"schema": SCHEMA, **asdict(self), "items": sorted(self.items, key=lambda entry: entry["id"])}
        if not self.prompts:
            del content["prompts"]
        path = Path(folder) / INDEX_NAME
        write_json(path, content)
        return path

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read `folder/predictions.json`.

        Raises:
            DataError: missing, unreadable, or not this schema; all that is wrong, in one line.
        """
        path = Path(folder) / INDEX_NAME
        if not path.is_file():
            raise DataError(f"{path}: missing; run the inference of the stage that makes these maps first")
        content = read_json(path, dict, AGAIN)
        if "phase" in content:
            content["stage"] = f"phase{content.pop('phase')}"
        wrong = list(problems(content, INDEX))
        wrong += [f"{inside('', key)}: unknown" for key in content if key not in INDEX["properties"]]
        wrong = wrong or [fault for entry in content.get("items", ()) if (fault := unsafe(entry["file"]))]
        if wrong:
            raise DataError(
                f"{path}: expected an index with paths inside the folder ({shown(wrong, SHOWN_PROBLEMS, '; ')}); {AGAIN}"
            )
        del content["schema"]
        return cls(**content)
