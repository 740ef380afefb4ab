"""Where a stage finds the maps that another has predicted out of fold: phase 2 those of phase 1."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ultrarefiner_monai.data.manifests.items import Item
from ultrarefiner_monai.data.manifests.manifest import Manifest
from ultrarefiner_monai.data.predictions.index import INDEX_NAME
from ultrarefiner_monai.data.predictions.mean import mean_of_maps
from ultrarefiner_monai.data.predictions.pairing import pair_predictions
from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.files import read_json
from ultrarefiner_monai.schemas import NAME, TEXT, list_of, object_of

MODEL = object_of({}, {"sha256": TEXT, "outputs": list_of(NAME)})  # of a card, all that counts here


@dataclass(frozen=True)
class CoarseMaps:
    """The predictions of all folds of a stage for one manifest, of several outputs the last one's.

    Args:
        folder: holds `fold<k>/predictions`, `fold<k>/predictions_test` and `fold<k>/model.json`; of several outputs each has a
            folder of its name in these and in `test`.
        manifest: the manifest that they are of.
    """

    folder: Path
    manifest: Manifest

    def are_there(self) -> bool:
        """Whether every fold has predicted."""
        return all(folder.is_dir() for folder in self._of_folds("predictions"))

    def pair(self, items: Iterable[Item], split: str) -> list[dict[str, Any]]:
        """The items of `split` with the paths of their coarse maps, see `pair_predictions`.

        The maps of those folds are looked at that items are of. Test images get the mean of all folds' maps, which is written
        to `<folder>/test` if it is not there. Where a fold's model lies beside its maps, they must be of that very model.

        Raises:
            DataError: maps are missing, doubled, stale or of the wrong size, or `split` has none.
        """
        models: dict[int | None, str] = {fold: card.get("sha256", "") for fold, card in self._cards().items()}
        asked = list(items)
        return pair_predictions(asked, self._folders(split, asked), self.manifest, models)

    def _cards(self) -> dict[int, dict[str, Any]]:
        """The cards that lie beside the folds' maps, by fold."""
        return {
            fold: read_json(card, dict, "train this fold again", MODEL)
            for fold, card in enumerate(self._of_folds("model.json"))
            if card.is_file()
        }

    def _last(self, folder: Path) -> Path:
        """Where the last output's maps are in a folder of predictions."""
        outputs: list[str] = next((card["outputs"] for card in self._cards().values() if card.get("outputs")), [])
        return folder / outputs[-1] if outputs and (folder / outputs[-1]).is_dir() else folder

    def _of_folds(self, name: str) -> list[Path]:
        return [self.folder / f"fold{fold}" / name for fold in range(self.manifest.num_folds)]

    def _folders(self, split: str, items: Iterable[Item]) -> list[Path]:
        if split == "normal":
            raise DataError("phase 2 has no coarse maps of normal images; evaluate them with phase 1 or 3")
        if split != "test":
            folds = sorted({item["fold"] for item in items})
            return [self._last(self.folder / f"fold{fold}" / "predictions") for fold in folds]
        of_folds = [self._last(folder) for folder in self._of_folds("predictions_test")]
        several = of_folds[0].name != "predictions_test"
        mean = self.folder / "test" / of_folds[0].name if several else self._last(self.folder / "test")
        if not (mean / INDEX_NAME).is_file() and all((folder / INDEX_NAME).is_file() for folder in of_folds):
            mean_of_maps(of_folds, mean)
        return [mean]
