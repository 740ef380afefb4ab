"""What travels with an exported model: all that its code imports, and no more of the package than that."""

import json
import subprocess
import sys

import pytest

from ultrarefiner_monai.data.releases.readers import READERS
from ultrarefiner_monai.deploy.export.bundle import DEMONSTRATION
from ultrarefiner_monai.deploy.export.closure import closure, copy_files, names_in, names_of
from ultrarefiner_monai.shipped import BUNDLES, PACKAGE
from ultrarefiner_monai.systems import find_stage, find_system

NAME = PACKAGE.name
SYSTEM = find_system()


def modules(files):
    """Dotted names below the package."""
    return {".".join(file.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__") for file in files}


def rooms(files):
    return {name.split(".")[0] for name in modules(files)}


def of_bundle(stage, without=()):
    text = "".join(path.read_text() for path in (BUNDLES / find_stage(stage)[1].bundle / "configs").glob("*.json"))
    return closure(names_in(text) | names_of(SYSTEM, "builder", "describer", "resolver"), without)


@pytest.mark.parametrize(
    ("names", "room"),
    [
        ({f"{NAME}.deploy.monailabel.parts"} | names_of(SYSTEM, "builder", "adjuster"), "deploy.monailabel.parts"),
        ({f"{NAME}.deploy.mlflow.served"} | names_of(SYSTEM, "builder"), "deploy.mlflow.model"),
        ({f"{NAME}.deploy.predict.predict"} | names_of(SYSTEM, "builder"), "deploy.predict.prediction"),
    ],
)
def test_every_module_of_a_closure_is_imported_from_a_copy_of_it_alone(names, room, tmp_path):
    files = closure(names)
    assert room in modules(files)
    assert not rooms(files) & {"bundle", "handlers", "tracking", "reports", "cli", "cross_validation"}
    check_that_all_are_imported(files, tmp_path)


def check_that_all_are_imported(files, folder):
    copy_files(files, folder)
    names = sorted(f"{NAME}.{name}" if name != "__init__" else NAME for name in modules(files))
    code = "import importlib, sys; [importlib.import_module(name) for name in sys.argv[1:]]"
    code += f"; import {NAME}; print({NAME}.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", code, *names], cwd=folder, capture_output=True, text=True, env={"PYTHONPATH": ""}
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(folder / NAME / "__init__.py")


def test_modules_that_are_imported_by_name_travel_too():
    """A bundle once came without the readers of the data sets, and could not train where the package was not installed."""
    assert {f"data.releases.readers.{name}" for name in READERS.values()} <= modules(of_bundle("phase1"))


def test_a_bundle_of_a_real_data_set_has_nothing_of_the_demonstration_nor_of_the_tools(tmp_path):
    files = of_bundle("phase3", DEMONSTRATION)
    assert not rooms(files) & {"reports", "cli", "cross_validation"}
    unwanted = {"data.phantom", "data.phantom.phantom", "data.releases.copies.near_duplicates", "transforms.simulate"}
    assert not modules(files) & (unwanted | {"bundle.preflight.simulated_predictions", "data.manifests.build"})
    assert {"bundle.evaluation", "handlers.checkpoint", "deploy.mlflow.served", "networks.transunet_npz"} <= modules(
        files
    )
    check_that_all_are_imported(files, tmp_path)


def test_a_demonstration_brings_what_it_needs():
    assert {"data.phantom.b_mode", "bundle.preflight.simulated_predictions"} <= modules(of_bundle("phase2"))


def test_names_in_configurations_are_found_also_behind_an_alias():
    text = json.dumps(
        {"imports": [f"$import {NAME}.data as d"], "a": "$d.load_manifest(1) + add.x", "b": "monai.data.x"}
    )
    assert names_in(text) == {f"{NAME}.data", f"{NAME}.data.load_manifest"}
    found = modules(closure({f"{NAME}.data.load_manifest"}))
    assert "data.manifests.manifest" in found and "data.releases.readers" not in modules(
        closure({f"{NAME}.data.DATASETS"})
    )


def test_what_lies_beside_a_module_and_is_named_by_it_comes_along(tmp_path):
    files = closure({f"{NAME}.deploy.monailabel.export"})
    app = PACKAGE / "deploy" / "monailabel" / "app"
    assert app in files
    copy_files(files, tmp_path)
    assert (tmp_path / app.relative_to(PACKAGE.parent) / "requirements.txt").is_file()


def test_imports_for_annotations_alone_do_not_count(tmp_path):
    assert "losses.refined" in modules(closure({f"{NAME}.losses.RefinedLoss"}))
    assert not rooms(closure({f"{NAME}.losses.RefinedLoss"})) & {"networks"}  # named under TYPE_CHECKING


def test_names_of_other_packages_are_passed_over():
    assert closure({"torch.nn.Linear", "ultrarefiner_monai_other.thing"}) == set()
