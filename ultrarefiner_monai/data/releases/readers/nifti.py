"""Volumes in nnU-Net's raw layout: `imagesTr/a_0000.nii.gz`, `labelsTr/a.nii.gz`, `dataset.json` with the table of labels.

One channel an image. `imagesTs` is the test set of `--folds official` where `labelsTs` holds its labels.
"""

from pathlib import Path

from ultrarefiner_monai.data.releases.readers import Info
from ultrarefiner_monai.data.releases.readers.volume_cases import case_of, cases, table_of
from ultrarefiner_monai.data.releases.records import Source

INFO = {
    "NIFTI": Info(
        description="a user's own volumes in nnU-Net's layout",
        reference="not stated",
        licence="not stated",
        modality="not stated",
    )
}
LAYOUTS = (("imagesTr", "labelsTr", "dataset.json"),)


def identify(image: str) -> str:
    """Id of a case: its file's name without the suffix and the channel."""
    return case_of(image)


def labels(root: Path) -> dict[str, str]:
    """Labels by number, of `dataset.json`.

    Raises:
        DataError: there is none.
    """
    return table_of(root)


def scan(root: Path) -> list[Source]:
    """List the cases of the training set, and of the test set where it has labels."""
    tested = cases(root, "imagesTs", "labelsTs", "test")
    return cases(root, "imagesTr", "labelsTr", "train") + [case for case in tested if case.masks]
