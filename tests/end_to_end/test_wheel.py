"""The wheel, installed where no checkout is: README's commands and a bundle run from an empty folder, writing only there.

The environment is a new one. It takes what the package needs from the environment of the tests by a path in a .pth file, which
saves installing gigabytes again; an editable install of this package is not seen that way, and the test makes sure.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from test_readme import COMMANDS, ELSEWHERE, ROOT, SLOW, on_the_phantom

pytestmark = pytest.mark.slow
SETTINGS = "--dataset PHANTOM --variant tiny --image_size 64 --epochs 1 --batch_size 8 --workers 0"


@pytest.fixture(scope="module")
def environment(tmp_path_factory) -> Path:
    """A new environment with the wheel of what git would commit and a container is built from; its folder."""
    pytest.importorskip("setuptools", minversion="70.1", reason="builds the wheel without downloading a setuptools")
    folder = tmp_path_factory.mktemp("wheel")
    wanted = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *wanted]
    for name in subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines():
        if (ROOT / name).is_file():
            (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / "source" / name)
    call(sys.executable, "-m", "venv", "--without-pip", folder / "venv")
    python = folder / "venv" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    wheels = folder / "wheels"
    call(*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", wheels, folder / "source")
    call(*pip, "--python", python, "install", "--no-deps", "--no-index", *wheels.glob("*.whl"))
    (site_packages(folder / "venv") / "tests_environment.pth").write_text(sysconfig.get_path("purelib") + "\n")
    shutil.rmtree(folder / "source")
    return folder / "venv"


def call(*command) -> None:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def site_packages(environment: Path) -> Path:
    return next((environment / "lib").glob("python*/site-packages"))


def execute(command: str, environment: Path, folder: Path) -> str:
    """Standard output of a command line that succeeds in `folder`."""
    variables = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    variables |= {"PATH": f"{environment / 'bin'}{os.pathsep}{os.environ['PATH']}", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, shell=True, cwd=folder, env=variables, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def files_of(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if "__pycache__" not in path.parts}


def test_the_package_is_the_wheels(environment, tmp_path):
    found = execute("python -c 'import ultrarefiner_monai; print(ultrarefiner_monai.__file__)'", environment, tmp_path)
    assert Path(found.strip()).is_relative_to(site_packages(environment))


def test_manifests_and_bundles_travel_with_the_wheel(environment, tmp_path):
    assert "780" in execute("ultrarefiner manifests show BUSI", environment, tmp_path)
    assert len(list(site_packages(environment).rglob("busi_copies.csv"))) == 1
    bundles = Path(execute("ultrarefiner bundles", environment, tmp_path).strip())
    assert bundles.is_relative_to(site_packages(environment))
    assert {path.name for path in bundles.iterdir()} == {"phase1", "phase2", "phase3"}
    assert not [path for path in bundles.rglob("*") if path.name in ("models", "runs")]
    assert not list(tmp_path.iterdir())


def test_a_bundle_of_the_package_writes_into_the_working_directory_only(environment, tmp_path):
    before = files_of(site_packages(environment))
    command = 'python -m monai.bundle run --config_file "$(ultrarefiner bundles)/phase1/configs/{}.json" '
    execute(command.format("train") + SETTINGS, environment, tmp_path)
    options = "--variant tiny --image_size 64 --images data/PHANTOM/images --predictions_dir masks"
    model = "--checkpoint bundles/phase1/models/PHANTOM/fold0/model.pt"
    execute(command.format("inference") + f"{options} {model}", environment, tmp_path)
    assert {"bundles", "data", "masks", "mlruns.db"} <= {path.name for path in tmp_path.iterdir()}
    assert len(list((tmp_path / "masks").iterdir())) == len(list((tmp_path / "data" / "PHANTOM" / "images").iterdir()))
    assert files_of(site_packages(environment)) == before


def test_the_commands_of_the_readme_run_in_a_folder_that_bundles_has_filled(environment, tmp_path):
    execute("ultrarefiner bundles --out .", environment, tmp_path)
    assert (tmp_path / "bundles" / "phase3" / "configs" / "train.json").is_file()
    execute("ultrarefiner phantom --out data/PHANTOM", environment, tmp_path)
    left_out = {
        *ELSEWHERE,
        *SLOW,
        "ultrarefiner doctor",
    }  # doctor ends with 1 where no weights of LiteMedSAM are installed
    commands = [
        line
        for line in COMMANDS
        if line not in left_out and not line.startswith(("ultrarefiner ui", "ultrarefiner bundles"))
    ]
    assert len(commands) >= 4
    for command in commands:
        execute(on_the_phantom(command, tmp_path), environment, tmp_path)
