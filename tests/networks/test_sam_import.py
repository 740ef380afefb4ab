"""segment-anything imports where torchvision is absent, broken or fine."""

import subprocess
import sys
from pathlib import Path

import pytest

from ultrarefiner_monai.networks.sam import segment_anything_import
from ultrarefiner_monai.networks.sam.segment_anything_import import import_segment_anything

SCRIPT = """
from ultrarefiner_monai.networks.sam.segment_anything_import import import_segment_anything
registry = import_segment_anything("build_sam").sam_model_registry
assert "vit_b" in registry
import_segment_anything("modeling").MaskDecoder
"""


@pytest.mark.parametrize(
    "torchvision",
    ["raise ModuleNotFoundError(\"No module named 'torchvision'\")", "raise RuntimeError('operator torchvision::nms')"],
    ids=["absent", "built for another torch"],
)
def test_network_modules_import_without_a_working_torchvision(torchvision: str, tmp_path: Path) -> None:
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text(torchvision)
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{SCRIPT}"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr


def test_a_missing_package_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "segment_anything"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(segment_anything_import, "PACKAGE", "segment_anything_of_nowhere")
    with pytest.raises(ImportError, match="pip install segment-anything"):
        import_segment_anything("modeling")
