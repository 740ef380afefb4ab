"""AMOS (Ji et al. 2022): `imagesTr/amos_0001.nii.gz` with `labelsTr/amos_0001.nii.gz`, the same as `imagesVa`, `labelsVa`.

Abdominal CT (ids 1 to 500) and MRI (from 501) with 15 organs. The validation cases are the test set of `--folds official`;
`imagesTs` has no labels and is left alone.
"""

from pathlib import Path

from ultrarefiner_monai.data.releases.readers import Info
from ultrarefiner_monai.data.releases.readers.volume_cases import cases, table_of, without_suffix
from ultrarefiner_monai.data.releases.records import Source

INFO = {
    "AMOS": Info(
        description="Abdominal CT and MRI volumes with 15 organs (AMOS22)",
        reference="10.48550/arXiv.2206.08023",
        licence="CC BY 4.0",
        modality="CT, MRI",
    )
}
LAYOUTS = (("imagesTr", "labelsTr"),)
ORGANS = (
    "spleen",
    "right kidney",
    "left kidney",
    "gallbladder",
    "esophagus",
    "liver",
    "stomach",
    "aorta",
    "postcava",
    "pancreas",
    "right adrenal gland",
    "left adrenal gland",
    "duodenum",
    "bladder",
    "prostate/uterus",
)


def identify(image: str) -> str:
    """Id of a case: its file's name without the suffix, such as "amos_0001", where the number is no channel."""
    return without_suffix(image)


def labels(root: Path) -> dict[str, str]:
    """Labels by number: those of `dataset.json`, or the release's own."""
    return table_of(root, ORGANS)


def scan(root: Path) -> list[Source]:
    """List the labelled cases of training and validation."""
    training = cases(root, "imagesTr", "labelsTr", "train", identify=identify)
    return training + cases(root, "imagesVa", "labelsVa", "test", identify=identify)
