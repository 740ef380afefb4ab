"""BTCV (Landman et al. 2015): `img/img0001.nii.gz` with `label/label0001.nii.gz`, or nnU-Net's layout of the same cases.

Abdominal CT, 30 labelled cases with 13 organs.
"""

from pathlib import Path

from ultrarefiner_monai.data.releases.readers import Info
from ultrarefiner_monai.data.releases.readers.volume_cases import case_of, cases, table_of, without_suffix
from ultrarefiner_monai.data.releases.records import Source

INFO = {
    "BTCV": Info(
        description="Abdominal CT volumes with 13 organs (Beyond the Cranial Vault, MICCAI 2015)",
        reference="10.7303/syn3193805",
        licence="registration at Synapse, on its terms",
        modality="CT",
        complete=(30,),
    )
}
LAYOUTS = (("img", "label"), ("imagesTr", "labelsTr"))
ORGANS = (
    "spleen",
    "right kidney",
    "left kidney",
    "gallbladder",
    "esophagus",
    "liver",
    "stomach",
    "aorta",
    "inferior vena cava",
    "portal and splenic veins",
    "pancreas",
    "right adrenal gland",
    "left adrenal gland",
)


def identify(image: str) -> str:
    """Id of a case: its file's name without the suffix, such as "img0001"."""
    return case_of(image)


def labels(root: Path) -> dict[str, str]:
    """Labels by number: those of `dataset.json`, or the release's own."""
    return table_of(root, ORGANS)


def scan(root: Path) -> list[Source]:
    """List the cases of either layout."""
    own = cases(root, "img", "label", identify=without_suffix, label_stem=lambda case: case.replace("img", "label", 1))
    return own or cases(root, "imagesTr", "labelsTr")
