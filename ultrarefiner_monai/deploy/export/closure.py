"""The modules of this package that some names need, read from the sources: what travels with an exported model."""

import ast
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path

from ultrarefiner_monai.shipped import PACKAGE, copy_folder
from ultrarefiner_monai.systems import SYSTEMS, System

DOTTED = re.compile(rf"{PACKAGE.name}(?:\.\w+)+")


def names_in(text: str) -> set[str]:
    """Dotted names of this package in a configuration's text, also those that follow `import ... as alias`."""
    for module, alias in re.findall(rf"import ({DOTTED.pattern}) as (\w+)", text):
        text = re.sub(rf"\b{alias}\.(?=\w)", f"{module}.", text)
    return set(DOTTED.findall(text))


def names_of(system: System, *roles: str) -> set[str]:
    """What looking a system up imports, and its functions that play these roles."""
    return {*SYSTEMS.values(), *(getattr(system, role).replace(":", ".") for role in roles)}


def closure(names: Iterable[str], without: Sequence[str] = ()) -> set[Path]:
    """Files of this package that importing the names needs: modules, and what they find beside them.

    Imports inside functions count, too; those for annotations alone (`if TYPE_CHECKING`) do not.

    Args:
        names: dotted names of modules or of things in them; those of other packages are passed over.
        without: modules and packages that are left out, with what they alone need.
    """
    left_out = {file for name in without if (file := _file_of(name))}
    found: set[Path] = set()
    todo = [file for name in names if (file := _file_of(name))]
    while todo:
        file = todo.pop()
        if file not in found and not left_out & {file, file.parent / "__init__.py"}:
            found.add(file)
            todo += _needed_by(file) if file.suffix == ".py" else ()
    return found


def copy_files(files: Iterable[Path], folder: Path) -> None:
    """Copy files and folders of this package into `folder`, which will hold the package."""
    for source in files:
        target = folder / source.relative_to(PACKAGE.parent)
        target.parent.mkdir(parents=True, exist_ok=True)
        copy_folder(source, target) if source.is_dir() else shutil.copyfile(source, target)


def _file_of(name: str) -> Path | None:
    """The file of the module that defines what a dotted name means; None for one of another package."""
    first, *rest = name.split(".")
    if first != PACKAGE.name:
        return None
    folder = PACKAGE
    while rest and (folder / rest[0] / "__init__.py").is_file():
        folder /= rest.pop(0)
    if rest and (folder / f"{rest[0]}.py").is_file():
        return folder / f"{rest[0]}.py"
    lazy = _lazy_names(folder / "__init__.py")
    if rest and rest[0] in lazy:
        return _file_of(".".join((*folder.relative_to(PACKAGE.parent).parts, lazy[rest[0]])))
    return folder / "__init__.py"


def _needed_by(file: Path) -> Iterator[Path]:
    """Files that a module needs at once or when it runs, first of all the package that it is in."""
    package = file.parent.parent if file.name == "__init__.py" else file.parent
    if package != PACKAGE.parent:
        yield package / "__init__.py"
    todo: list[ast.AST] = [_tree(file)]
    while todo:
        node = todo.pop()
        names: list[str] = []
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            todo += node.orelse
            continue
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Call) and ast.unparse(node).startswith("import_module(f'{__name__}."):
            yield from file.parent.glob("*.py")  # one of them, by a name that is known when it is used
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "with_name":
            beside = (
                file.with_name(one.value)
                for one in node.args
                if isinstance(one, ast.Constant) and isinstance(one.value, str)
            )
            yield from (path for path in beside if path.exists())
        yield from filter(None, map(_file_of, names))
        todo += ast.iter_child_nodes(node)


def _lazy_names(init: Path) -> dict[str, str]:
    """Public name -> module of a package that imports them `lazily`."""
    calls = (node for node in ast.walk(_tree(init)) if isinstance(node, ast.Call))
    found = [call.args[1] for call in calls if isinstance(call.func, ast.Name) and call.func.id == "lazily"]
    return ast.literal_eval(found[0]) if found else {}


@cache
def _tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))
