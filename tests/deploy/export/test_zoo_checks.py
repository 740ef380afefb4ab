"""What MONAI's model zoo checks of a bundle before it takes it, on the exported bundle of every stage.

The zoo runs MONAI's own commands, and so do these tests. It turns networks into TorchScript by scripting unless a bundle is
excluded from that check; ours are to be excluded, since Python scripting cannot read them, and are traced here instead.
"""

import json
import urllib.request
from pathlib import Path

import pytest
import torch
from monai.bundle import ckpt_export, verify_metadata, verify_net_in_out

from ultrarefiner_monai.models.weights import read_torch
from ultrarefiner_monai.networks.uniultra import UniUltra
from ultrarefiner_monai.systems import all_stages

FORMAT = Path(__file__).parents[2] / "bundles" / "network_data_format.schema.json"
SCHEMA_MD5 = "06954cad2cc5d3784e72077ac76f0fc8"  # of meta_schema_20240725.json
REQUIRED = (
    "schema",
    "version",
    "changelog",
    "monai_version",
    "pytorch_version",
    "numpy_version",
    "required_packages_version",
    "name",
    "task",
    "description",
    "authors",
    "copyright",
    "data_source",
    "data_type",
    "image_classes",
    "label_classes",
    "pred_classes",
    "eval_metrics",
    "intended_use",
    "references",
    "network_data_format",
)


@pytest.fixture(params=all_stages())
def exported(request, export_of):
    """The bundle of a stage and its network."""
    return export_of(request.param)


def files(bundle):
    configs = bundle / "configs"
    return {"meta_file": str(configs / "metadata.json"), "config_file": str(configs / "inference.json")}


def test_1_required_files_are_there(exported):
    bundle, _ = exported
    for name in ("configs/metadata.json", "configs/inference.json", "models/model.pt", "LICENSE", "docs/README.md"):
        assert (bundle / name).stat().st_size > 0


def test_2_the_version_has_an_entry_in_the_changelog(exported):
    metadata = json.loads((exported[0] / "configs" / "metadata.json").read_text(encoding="utf-8"))
    assert metadata["changelog"][metadata["version"]]


def test_3_metadata_follow_the_schema(exported, tmp_path):
    """MONAI's command, with a schema that is there already, so that nothing is downloaded."""
    types = {name: {"type": "object"} for name in ("changelog", "required_packages_version", "eval_metrics")}
    properties = {**types, "network_data_format": json.loads(FORMAT.read_text(encoding="utf-8"))}
    schema = {"type": "object", "required": REQUIRED, "properties": properties}
    (tmp_path / "schema.json").write_text(json.dumps(schema))
    verify_metadata(meta_file=files(exported[0])["meta_file"], filepath=tmp_path / "schema.json")


@pytest.mark.slow
def test_3_metadata_follow_the_zoos_own_schema(exported, tmp_path):
    meta_file = files(exported[0])["meta_file"]
    url = json.loads(Path(meta_file).read_text(encoding="utf-8"))["schema"]
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            (tmp_path / "schema.json").write_bytes(answer.read())
    except OSError as error:
        pytest.skip(f"{url} is not reachable ({error}); the part of it in tests/bundles was used")
    verify_metadata(meta_file=meta_file, filepath=tmp_path / "schema.json", hash_val=SCHEMA_MD5)


def test_4_required_packages_are_named_with_the_versions_at_hand(exported):
    import importlib.metadata

    metadata = json.loads((exported[0] / "configs" / "metadata.json").read_text(encoding="utf-8"))
    named = {**metadata["required_packages_version"], "monai": metadata["monai_version"]}
    for package, version in {**named, "torch": metadata["pytorch_version"]}.items():
        assert importlib.metadata.version(package).partition("+")[0] == version


def test_5_one_picture_in_one_mask_out_as_the_metadata_say(exported):
    bundle, _ = exported
    verify_net_in_out("network_def", device="cpu", bundle_root=str(bundle), **files(bundle))


def test_5_the_check_sees_a_wrong_number_of_channels(export_of):
    bundle, _ = export_of("phase1")
    wrong = {"_meta_#network_data_format#outputs#pred#num_channels": 2}
    with pytest.raises(ValueError, match="output channel number"):
        verify_net_in_out("network_def", device="cpu", bundle_root=str(bundle), **files(bundle), **wrong)


@pytest.mark.filterwarnings("ignore")
def test_6_torchscript_loads_and_gives_the_same_mask(exported, tmp_path):
    bundle, network = exported
    if isinstance(network, UniUltra):
        pytest.skip(
            "the lesions of a map are found outside of torch; encoder and decoder are traced apart, see test_formats"
        )
    checkpoint = bundle / "models" / "model.pt"
    target = tmp_path / "model.ts"
    paths = {"filepath": str(target), "ckpt_file": str(checkpoint), "bundle_root": str(bundle), **files(bundle)}
    ckpt_export("network_def", use_trace=True, **paths)
    network.load_state_dict(read_torch(checkpoint))
    channels = json.loads(Path(paths["meta_file"]).read_text())["network_data_format"]["inputs"]["image"][
        "num_channels"
    ]
    image = torch.rand(1, channels, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        difference = torch.jit.load(target)(image).sigmoid() - network.eval()(image).sigmoid()
    assert difference.abs().max() <= 1e-4
