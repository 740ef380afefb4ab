"""What sets two manifests apart, and whether a model trained with one may be tested with the other."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from ultrarefiner_monai.data.manifests.items import LISTS, Item
from ultrarefiner_monai.data.manifests.manifest import Manifest
from ultrarefiner_monai.data.manifests.summary import aligned, dataset_of, places
from ultrarefiner_monai.errors import shown
from ultrarefiner_monai.texts import lines_of

SHOWN, LENGTH = 5, 40  # ids in a line and characters of a value that a terminal has room for; `document` holds all
EXCLUDED = "excluded"
PLACE_KEYS = ("id", "fold")  # say which item and where it is, not what it is

Change = tuple[Any, Any]  # value in A, value in B; None where there is none


@dataclass(frozen=True)
class Leak:
    """Images of one manifest's test set (`held_out` many, held-out normals among them) that the other one trains on.

    `images` are those with the same id or the same bytes; `patients` are further ones of a patient (where the release
    tells none: of a group) of whom the other trains on other images. Normals that have a fold count as trained on.
    """

    tested: str
    trained: str
    held_out: int
    images: tuple[str, ...]
    patients: tuple[str, ...]

    def __str__(self) -> str:
        line = f"{self.tested}'s test set and held-out normals in {self.trained}'s training: "
        line += f"{len(self.images)} of {self.held_out} images{_in_brackets(self.images)}"
        if not self.patients:
            return line
        return f"{line}, of patients there {len(self.patients)} more{_in_brackets(self.patients)}"


@dataclass(frozen=True)
class Diff:
    """Differences from manifest A to B.

    `header` and the `changed` items hold the values of both by key, `moved` the places of both by id. Where only one of
    the two is combined, ids of the other get its name in front.
    """

    paths: tuple[str, str]
    sha256: tuple[str, str]
    header: dict[str, Change]
    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: dict[str, dict[str, Change]]
    moved: dict[str, tuple[str, str]]
    leaks: tuple[Leak, Leak]

    @property
    def equal(self) -> bool:
        """Whether both say the same, be it in other bytes."""
        return not (self.header or self.added or self.removed or self.changed or self.moved)


def diff(a: Manifest, b: Manifest) -> Diff:
    """Compare two manifests item by item; no file is opened."""
    if _is_combined(a) != _is_combined(b):
        a, b = (manifest if _is_combined(manifest) else _as_part(manifest) for manifest in (a, b))
    facts_a, facts_b, places_a, places_b = _facts(a), _facts(b), _places(a), _places(b)
    common = sorted(places_a.keys() & places_b.keys())
    moved = {name: (places_a[name], places_b[name]) for name in common if places_a[name] != places_b[name]}
    changes = {name: _changes(facts_a[name], facts_b[name]) for name in common if EXCLUDED not in moved.get(name, ())}
    return Diff(
        paths=(str(a.path), str(b.path)),
        sha256=(a.sha256, b.sha256),
        header=_changes(_header(a), _header(b)),
        added=tuple(sorted(places_b.keys() - places_a.keys())),
        removed=tuple(sorted(places_a.keys() - places_b.keys())),
        changed={name: change for name, change in changes.items() if change},
        moved=moved,
        leaks=(_leak("A", a, "B", b), _leak("B", b, "A", a)),
    )


def document(difference: Diff) -> dict[str, Any]:
    """The differences as a JSON document."""
    return {"equal": difference.equal, **asdict(difference)}


def table(difference: Diff) -> str:
    """The differences for a terminal; begins with "equal" where there are none."""
    if difference.equal and len(set(difference.sha256)) == 1:
        return "equal"
    files = [f"{n} {path}  sha256 {s}" for n, path, s in zip("AB", difference.paths, difference.sha256, strict=True)]
    if difference.equal:
        return lines_of(["equal in content, in other bytes", *files])
    header = [f"header {key}: {_between(*change)}" for key, change in difference.header.items()]
    blocks = [files, header, _item_lines(difference), list(map(str, difference.leaks))]
    return "\n\n".join(lines_of(block) for block in blocks if block)


def _is_combined(manifest: Manifest) -> bool:
    return any("dataset" in item for item in manifest.items())


def _as_part(manifest: Manifest) -> Manifest:
    """The manifest of one data set with ids, paths, patients and groups as a combined one writes them."""
    name = manifest.name

    def part(item: Item) -> Item:
        named = {key: f"{name}/{item[key]}" for key in ("id", "image", "patient", "group")}
        label = item["label"]
        masks = [f"{name}/{mask}" for mask in label] if isinstance(label, list) else f"{name}/{label}"
        return {**item, **named, "label": masks, "dataset": name}

    excluded = [{**item, "id": f"{name}/{item['id']}"} for item in manifest.excluded]
    lists: dict[str, Any] = {key: [part(item) for item in getattr(manifest, key)] for key in LISTS}
    return replace(manifest, **lists, excluded=excluded)


def _facts(manifest: Manifest) -> dict[str, Item]:
    """What the manifest says about every id, its place apart."""
    items = (*manifest.items(), *manifest.excluded)
    return {item["id"]: {key: value for key, value in item.items() if key not in PLACE_KEYS} for item in items}


def _places(manifest: Manifest) -> dict[str, str]:
    """Where every id is: "fold 0", "test", "normal fold 0", "normal test" or "excluded"."""
    found = {item["id"]: EXCLUDED for item in manifest.excluded}
    for name, (lesions, normals) in places(manifest).items():
        found |= {item["id"]: name for item in lesions}
        found |= {item["id"]: f"normal {name}" for item in normals}
    return found


def _header(manifest: Manifest) -> dict[str, Any]:
    return {"name": manifest.name, "num_folds": manifest.num_folds, "seed": manifest.seed, **manifest.header}


def _changes(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, Change]:
    return {key: (a.get(key), b.get(key)) for key in sorted(a.keys() | b.keys()) if a.get(key) != b.get(key)}


def _leak(name_a: str, a: Manifest, name_b: str, b: Manifest) -> Leak:
    """Images that `a` holds out and `b` trains on."""
    held_out = [*a.testing, *(item for item in a.normal if "fold" not in item)]
    trained = [*b.training, *(item for item in b.normal if "fold" in item)]
    ids, contents = {item["id"] for item in trained}, {item["sha256"] for item in trained}
    patients = {(dataset_of(item, b), item["patient"]) for item in trained}
    images = {item["id"] for item in held_out if item["id"] in ids or item["sha256"] in contents}
    related = {item["id"] for item in held_out if (dataset_of(item, a), item["patient"]) in patients}
    return Leak(name_a, name_b, len(held_out), tuple(sorted(images)), tuple(sorted(related - images)))


def _item_lines(difference: Diff) -> list[str]:
    """One line a kind of change: how many items, and the first of them."""
    kinds = {"added in B": list(difference.added), "removed from A": list(difference.removed)}
    for name, change in difference.changed.items():
        for key, values in change.items():
            kinds.setdefault(f"changed {key}", []).append(f"{name} ({_between(*values)})")
    for name, (before, after) in difference.moved.items():
        kinds.setdefault(f"moved {before} -> {after}", []).append(name)
    found = sorted((kind, names) for kind, names in kinds.items() if names)
    counts = aligned([(kind, str(len(names))) for kind, names in found]) if found else []
    return [f"{count}  {shown(names, SHOWN)}" for count, (_, names) in zip(counts, found, strict=True)]


def _in_brackets(names: Sequence[str]) -> str:
    return f" ({shown(names, SHOWN)})" if names else ""


def _between(before: Any, after: Any) -> str:
    """Both values, or of two lists (warnings) what one has and the other lacks."""
    if isinstance(before, list) and isinstance(after, list):
        gone, new = ([x for x in one if x not in other] for one, other in ((before, after), (after, before)))
        return ", ".join([f"-{_short(x)}" for x in gone] + [f"+{_short(x)}" for x in new]) or "in another order"
    return f"{_short(before)} -> {_short(after)}"


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= LENGTH else f"{text[: LENGTH - 1]}…"
