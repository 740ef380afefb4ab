"""`ultrarefiner manifests`: build a dataset's manifest, check a release against it, show what it holds."""

import sys
from collections import Counter
from pathlib import Path

from ..data.manifest import Item, Manifest, available, load_manifest, shipped_manifest


class Manifests:
    """Manifests of datasets: items, patients, groups, folds and hashes."""

    def build(
        self,
        name: str,
        root: str | None = None,
        inventory: str | None = None,
        out: str = "data_manifests",
        folds: int | str = 5,
        seed: int = 42,
        test_fraction: float = 0.2,
    ) -> None:
        """Build OUT/NAME.json from the files of a release, or from a CSV inventory of them.

        Args:
            name: dataset, one of BUSI, BUSBRA, BUS, BUS_UC, BUS_UCLM, UDIAT, PHANTOM.
            root: release folder or its parent, whose files are read unless an inventory is given.
            inventory: CSV table with the facts of the release.
            out: folder of the manifest.
            folds: number of folds, or "official" for the split the authors published.
            seed: seed of the shuffle.
            test_fraction: share of the images kept for testing (not with "official").
        """
        from ..data.manifest_build import build_document, release_records, write_manifest

        records = release_records(name, root, inventory)
        path = Path(str(out)) / f"{name}.json"
        write_manifest(build_document(name, records, folds, seed, test_fraction), path)
        print(f"wrote {path}")
        _print_counts(load_manifest(path))

    def verify(self, name: str, root: str, allow_missing: bool = False) -> None:
        """Read every file a manifest lists and print all faults; exit status 1 if there is any.

        Args:
            name: dataset, or path of a manifest.
            root: release folder or its parent.
            allow_missing: accept a release of which files are absent.
        """
        from ..data.readers import find_root
        from ..data.verify import verify

        manifest = load_manifest(_path(name))
        folder = find_root(manifest.name, str(root))
        faults = verify(manifest, folder, allow_missing)
        for fault in faults:
            print(fault)
        present, absent = available(manifest, folder)
        print(f"{manifest.name}: {len(present.items())} of {len(manifest.items())} items present, {len(faults)} faults")
        if absent:
            print("absent items: " + ", ".join(f"{place} {count}" for place, count in absent.items()))
        if faults:
            sys.exit(1)

    def show(self, name: str) -> None:
        """Print the counts of a manifest by fold and class.

        Args:
            name: dataset, or path of a manifest.
        """
        _print_counts(load_manifest(_path(name)))


def _path(name: str) -> Path:
    """Manifest file meant by a dataset's name or by a path."""
    return Path(str(name)) if str(name).endswith(".json") else shipped_manifest(str(name))


def _print_counts(manifest: Manifest) -> None:
    print(f"{manifest.name}: {manifest.header.get('description', '')}")
    print(f"{manifest.num_folds} folds, seed {manifest.seed}, sha256 {manifest.sha256}")
    for fold in range(manifest.num_folds):
        _print_row(f"fold {fold}", manifest.split("val", fold))
    _print_row("test", manifest.testing)
    _print_row("normal", manifest.normal)
    for item in manifest.excluded:
        print(f"excluded {item['id']}: {item['reason']}")
    for warning in manifest.header.get("warnings", []):
        print(f"warning: {warning}")


def _print_row(place: str, items: list[Item]) -> None:
    classes = ", ".join(f"{count} {label}" for label, count in sorted(Counter(item["class"] for item in items).items()))
    patients, groups = (len({item[unit] for item in items}) for unit in ("patient", "group"))
    print(f"  {place:8}{len(items):5} images  {patients:5} patients  {groups:5} groups  {classes}")
