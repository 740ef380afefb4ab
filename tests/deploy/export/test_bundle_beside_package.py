"""An exported bundle beside an installed package, run in processes of their own: it uses what is its own."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import ultrarefiner_monai

INSTALLED = Path(ultrarefiner_monai.__file__).parents[1]
TOLD = """
import ultrarefiner_monai, ultrarefiner_monai.shipped
print(json.dumps([ultrarefiner_monai.__version__, str(ultrarefiner_monai.shipped.PACKAGE.parent), *told]))
"""
WORKFLOW = """
import json, sys
from monai.bundle import ConfigWorkflow, create_workflow
told = []
for bundle in sys.argv[2].split():
    keys = {"images": sys.argv[1], "predictions_dir": f"{bundle}/masks"}
    flow = create_workflow(config_file=f"{bundle}/configs/inference.json", workflow_type="infer", **keys)
    flow.run()
    plan = flow.parser.get_parsed_content("plan")
    told += [flow.bundle_root, str(plan.models["phase1"]), str(plan.request.manifests)]
"""
PROPERTIES = """
import json, sys
from monai.bundle import ConfigWorkflow
flow = ConfigWorkflow(f"{sys.argv[2]}/configs/inference.json", workflow_type="infer")
flow.initialize()
told = [flow.bundle_root, sys.modules[type(flow.network_def).__module__].__file__]
"""
FEDERATED = """
import json, sys
from monai.fl.client import MonaiAlgo
from monai.fl.utils.constants import ExtraItems, ModelType
from monai.fl.utils.exchange_object import ExchangeObject
keys = {**json.loads(sys.argv[1]), "data_root": f"{sys.argv[2]}/../data"}
algo = MonaiAlgo(sys.argv[2], train_kwargs=keys, eval_kwargs=dict(keys))
algo.initialize(extra={ExtraItems.CLIENT_NAME: "clinic"})
algo.train(ExchangeObject(weights=algo.get_weights(extra={ExtraItems.MODEL_TYPE: ModelType.BEST_MODEL}).weights))
plan = algo.train_workflow.parser.get_parsed_content("plan")
told = [plan.output_dir, str(plan.manifest.path), sys.modules[type(algo.trainer.network).__module__].__file__]
"""


@pytest.fixture
def bundles(export_of, tmp_path):
    """Two exported bundles whose code tells them apart from each other and from the installed package."""
    exported, _ = export_of("phase1")
    places = []
    for name in ("one", "two"):
        places.append(shutil.copytree(exported, tmp_path / name / "bundle"))
        init = places[-1] / "ultrarefiner_monai" / "__init__.py"
        init.write_text(init.read_text().replace('__version__ = "', f'__version__ = "{name}'))
    return places


def python(*words, cwd):
    """Python with the package of this process installed."""
    environment = os.environ | {"PYTHONPATH": str(INSTALLED)}
    return subprocess.run(
        [sys.executable, *words], cwd=cwd, env=environment, capture_output=True, text=True, timeout=300
    )


def told(*words, cwd):
    """What a program says in its last line."""
    done = python("-c", *words, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_workflow_from_python_uses_the_bundles_files(bundles, picture, tmp_path):
    """With another bundle named on the command line, as where a notebook or a server runs it."""
    one, two = bundles
    argv = [str(picture), str(one), "--config_file", str(two / "configs" / "train.json")]
    version, package, root, model, manifests = told(WORKFLOW + TOLD, *argv, cwd=INSTALLED)
    assert version.startswith("one")
    assert [Path(package), Path(root), Path(model)] == [one, one, one / "models" / "model.pt"]
    assert Path(manifests) == one / "ultrarefiner_monai" / "_shipped" / "data_manifests"
    assert [path.name for path in (one / "masks").iterdir()] == [f"{picture.stem}.png"]


@pytest.mark.slow
def test_properties_of_a_workflow_that_has_not_run_are_the_bundles(bundles, tmp_path):
    version, package, root, network = told(PROPERTIES + TOLD, "", str(bundles[1]), cwd=tmp_path)
    assert version.startswith("two")
    assert [Path(package), Path(root)] == [bundles[1], bundles[1]]
    assert Path(network).is_relative_to(bundles[1])


@pytest.mark.slow
def test_one_process_runs_two_bundles_of_the_same_code(bundles, picture, tmp_path):
    one, two = bundles
    shutil.copyfile(one / "ultrarefiner_monai" / "__init__.py", two / "ultrarefiner_monai" / "__init__.py")
    found = told(WORKFLOW + TOLD, str(picture), f"{one} {two}", cwd=tmp_path)
    assert [Path(path) for path in found[2::3]] == [one, two]
    assert [Path(path) for path in found[3::3]] == [bundle / "models" / "model.pt" for bundle in bundles]
    assert all((bundle / "masks" / f"{picture.stem}.png").is_file() for bundle in bundles)


@pytest.mark.slow
def test_a_process_that_has_other_code_refuses_the_bundle(bundles, picture, tmp_path):
    done = python("-c", "import ultrarefiner_monai.masks" + WORKFLOW, str(picture), str(bundles[0]), cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        f"{bundles[0]}: this process has imported another ultrarefiner_monai, of {INSTALLED}, whose __init__.py is not the "
        "bundle's; run the bundle in a process that begins with it"
    )
    assert not (bundles[0] / "masks").exists()


def test_the_command_of_monai_uses_the_bundles_files_in_another_checkout(bundles, picture, tmp_path):
    config = bundles[0] / "configs" / "inference.json"
    words = ["--config_file", str(config), "--images", str(picture), "--predictions_dir", str(tmp_path / "masks")]
    with (bundles[0] / "ultrarefiner_monai" / "bundle" / "inference.py").open("a") as code:
        code.write("\nprint('the own code of', __file__)\n")
    done = python("-m", "monai.bundle", "run", *words, cwd=INSTALLED)
    assert done.returncode == 0, done.stderr
    assert f"the own code of {bundles[0]}" in done.stdout
    assert (tmp_path / "masks" / f"{picture.stem}.png").is_file()


@pytest.mark.slow
def test_a_federated_client_trains_with_the_bundles_files(bundles, training, tmp_path):
    one, _ = bundles
    shutil.copytree(training.keys["data_root"], one.parent / "data" / "PHANTOM")
    shutil.copy(training.keys["manifest"], one / "ultrarefiner_monai" / "_shipped" / "data_manifests" / "PHANTOM.json")
    keys = json.dumps({"batch_size": 4})
    version, package, output_dir, manifest, network = told(FEDERATED + TOLD, keys, str(one), cwd=tmp_path)
    assert version.startswith("one")
    assert Path(package) == one
    assert all(Path(path).is_relative_to(one) for path in (output_dir, manifest, network))
