"""The examples of docstrings do what they show, and the page of Python names has every public one."""

import doctest
import importlib
import json
import re
from pathlib import Path

import pytest
from untrained import save_untrained

import ultrarefiner_monai

PACKAGE = Path(ultrarefiner_monai.__file__).parent
ROOT = Path(__file__).parents[1]
API = (ROOT / "docs/reference/api.md").read_text(encoding="utf-8")
EXAMPLES = [
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
    for path in sorted(PACKAGE.rglob("*.py"))
    if re.search(r"^ +>>> ", path.read_text(encoding="utf-8"), re.M)
]
ROOMS = ("data", "losses", "metrics", "models", "networks", "transforms")  # whose names anybody may import


def names_on_the_page() -> set[str]:
    """Dotted names: those of its directives, and the `__all__` of modules that it documents with all their members."""
    found, module = set(), ""
    for directive, name, members in re.findall(r"^\.\. (\w+):: (\S+)(\n   :members:$)?", API, re.M):
        if directive == "currentmodule":
            module = name
        elif directive != "automodule":
            found.add(f"{module}.{name}")
        else:
            module = name
            if members:
                found |= {f"{name}.{each}" for each in getattr(importlib.import_module(name), "__all__", ())}
    return found


def public_names() -> set[str]:
    """What the package and its rooms export: listed in `__all__`, or imported when it is used."""
    found = set()
    for room in ("", *(f".{room}" for room in ROOMS)):
        path = PACKAGE / room.removeprefix(".") / "__init__.py"
        text = path.read_text(encoding="utf-8")
        listed = getattr(importlib.import_module(f"ultrarefiner_monai{room}"), "__all__", ())
        lazy = re.findall(r'"(\w+)": "[\w.]+"', text.partition("lazily(")[2]) if "lazily(" in text else ()
        found |= {f"ultrarefiner_monai{room}.{name}" for name in (*listed, *lazy)}
    return found


def configured_names() -> set[str]:
    """What the bundles' configurations name as `_target_` of this package."""
    files = (ROOT / "bundles").glob("*/configs/*.json")
    texts = [json.dumps(json.loads(path.read_text(encoding="utf-8"))) for path in files]
    return {name for text in texts for name in re.findall(r'"_target_": "(ultrarefiner_monai\.[\w.]+)"', text)}


@pytest.mark.parametrize("module", EXAMPLES)
def test_examples_of_docstrings(module, tmp_path, monkeypatch):
    """In an empty folder, but for a `model.pt`."""
    save_untrained(tmp_path / "model.pt", "phase1")
    monkeypatch.chdir(tmp_path)
    done = doctest.testmod(importlib.import_module(module))
    assert done.attempted and not done.failed


def test_some_docstrings_have_examples():
    wanted = {"deploy.python", "masks", "metrics.segmentation", "networks.prompts.generator"}
    assert {f"ultrarefiner_monai.{name}" for name in wanted} <= set(EXAMPLES)


def test_every_public_name_is_on_the_page():
    wanted = public_names()
    assert {"ultrarefiner_monai.load", "ultrarefiner_monai.transforms.Letterboxd"} <= wanted
    assert sorted(wanted - names_on_the_page()) == []


def test_what_configurations_name_is_on_the_page():
    assert sorted(configured_names() - names_on_the_page()) == []


def test_the_page_names_nothing_that_is_not_there():
    for name in sorted(names_on_the_page()):
        module, _, attribute = name.rpartition(".")
        assert getattr(importlib.import_module(module), attribute).__doc__, f"{name} has no docstring"
