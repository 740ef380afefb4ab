"""The arrows of the house: each room imports only from rooms on lower floors, and what must start fast loads little."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import ultrarefiner_monai

PACKAGE = Path(ultrarefiner_monai.__file__).parent
GROUND = {"errors", "texts", "files", "schemas", "parallel", "devices", "colours", "shipped", "masks", "lazy", "peers"}
FLOORS = (  # from the ground up; rooms of one floor know nothing of each other
    GROUND,
    {"networks"},
    {"losses"},
    {"metrics", "data", "tracking", "systems"},
    {"transforms"},
    {"models"},
    {"handlers"},
    {"bundle"},
    {"cross_validation", "deploy"},
    {"reports"},
    {"cli"},
)
FLOOR_OF = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
ALONE = {  # rooms that need still less than their floor allows
    "networks": set(),
    "losses": {"networks"},
    "metrics": set(),
    "tracking": set(),
    "systems": set(),
    "data": set(),
    "models": {"networks", "systems"},
}


def room_of(module: str) -> str:
    """First part of a dotted name below the package; empty for the package itself."""
    return [*module.split("."), ""][1]


def imports() -> Iterator[tuple[str, str]]:
    """Every import of the package's own modules, inside functions too: (importing module, imported module)."""
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                found = [node.module or ""] if node.level == 0 else ["relative"]
            else:
                found = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            yield from ((name, module) for module in found if module.split(".")[0] == PACKAGE.name)


def test_every_room_stands_on_a_floor():
    rooms = {path.stem if path.is_file() else path.name for path in PACKAGE.iterdir()}
    assert rooms - {"__init__", "__main__", "__pycache__", "_shipped", "py"} == FLOOR_OF.keys()


def test_imports_point_down():
    upward = [
        f"{name} -> {module}"
        for name, module in imports()
        if (own := room_of(name)) in FLOOR_OF
        and (other := room_of(module)) not in ("", own)
        and not (own in GROUND and other in GROUND)
        and FLOOR_OF[other] >= FLOOR_OF[own]
    ]
    assert not upward


@pytest.mark.parametrize("room", ALONE)
def test_some_rooms_need_little(room):
    allowed = GROUND | ALONE[room] | {room, ""}
    assert not {module for name, module in imports() if room_of(name) == room and room_of(module) not in allowed}


def test_no_folder_is_a_crowd():
    crowds = {
        str(folder.relative_to(PACKAGE)): count
        for folder in [PACKAGE, *PACKAGE.rglob("*/")]
        if folder.name != "__pycache__" and (count := len(list(folder.glob("*.py")))) > 12
    }
    assert not crowds


def test_docstrings_share_one_markup():
    """Code stands in single backticks; no role or double backtick of another tool."""
    marked = {
        f"{path.relative_to(PACKAGE)}: {found[0]}"
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and (found := re.search(r"``|:\w+:`", ast.get_docstring(node) or ""))
    }
    assert not marked


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("data", "torch monai nibabel mlflow"),
        ("data.predictions", "torch monai nibabel mlflow"),
        ("data.phantom", "torch monai nibabel mlflow"),
        ("systems", "torch monai numpy mlflow"),
        ("cli", "torch monai mlflow"),
        ("models.segmenter", "monai mlflow ignite"),
        ("deploy.python", "monai mlflow ignite pydicom"),
        ("networks", "monai mlflow transformers"),
        ("tracking", "monai mlflow ignite"),
    ],
)
def test_what_a_room_does_not_load(module, unwanted):
    code = f"import sys, ultrarefiner_monai.{module}; print(*({set(unwanted.split())!r} & sys.modules.keys()))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not found


def test_test_modules_have_names_of_their_own():
    """Two of one name cannot be collected together, which shows only where all are."""
    names = [path.name for path in Path(__file__).parent.rglob("*.py") if path.name != "conftest.py"]
    assert len(names) == len(set(names))
