"""`ultrarefiner manifests`: build a dataset's manifest, check a release against it, show what it holds."""

import json
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ultrarefiner_monai.data.datasets import FIVE
from ultrarefiner_monai.data.manifests.manifest import load_manifest, shipped_manifest
from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.files import write_output

if TYPE_CHECKING:
    from ultrarefiner_monai.data.manifests.splits import Options
    from ultrarefiner_monai.data.releases.release import Place, Release


class Manifests:
    """Manifests of datasets: items, patients, groups, folds and hashes."""

    def build(
        self,
        name: str,
        root: "Place | None" = None,
        inventory: "Place | None" = None,
        out: str = "data_manifests",
        folds: int | str = 5,
        seed: int = 42,
        test_fraction: float = 0.2,
        exclude_duplicates: bool = False,
        skip_bad: bool = False,
        report: str | None = None,
        workers: int | None = None,
        cache: bool = True,
    ) -> None:
        """Build OUT/NAME.json from the files of a release, or from a CSV inventory of them.

        Args:
            name: BUSI, BUSBRA, BUS, BUS_UC, BUS_UCLM, UDIAT, PHANTOM, several joined by + (BUSI+BUSBRA), or ALL five.
            root: release folder, a folder above it (of several releases, too), an archive, or "{NAME: PLACE, ...}".
            inventory: CSV table with the facts of the release, or "{NAME: TABLE, ...}"; no file is read then.
            out: folder of the manifest.
            folds: number of folds, or "official" for the split the authors published.
            seed: seed of the shuffle.
            test_fraction: share of the images kept for testing (not with "official").
            exclude_duplicates: keep one image of each group of confirmed near-duplicates.
            skip_bad: leave out images whose files are missing or unreadable, in place of refusing the release.
            report: folder for NAME/duplicates.json and NAME/duplicates.html, the pairs of near-duplicates.
            workers: threads that read files; one a core by default.
            cache: reuse what is known of files by their content; False reads everything.
        """
        from ultrarefiner_monai.data.manifests.splits import Options
        from ultrarefiner_monai.data.releases.fact_cache import cache_folder
        from ultrarefiner_monai.data.releases.release import read_release

        if not isinstance(cache, bool):
            raise DataError(f"--cache {cache}: expected True or False; XDG_CACHE_HOME moves the cache")
        read = partial(read_release, cache=cache_folder() if cache else None, workers=workers, skip_bad=skip_bad)
        write = partial(_write, Options(folds, seed, test_fraction), exclude_duplicates, Path(str(out)), report)
        failed = []
        for one in FIVE if name == "ALL" else (name,):
            try:
                write(read(one, _place(root), _place(inventory)))
            except DataError as error:
                failed.append(error)
        if failed:
            raise DataError("\n".join(map(str, failed)))

    def verify(
        self,
        name: str,
        root: "Place",
        allow_missing: bool = False,
        workers: int | None = None,
        json: str | None = None,
    ) -> None:
        """Read every file a manifest lists and print all faults; exit status 1 if there is any.

        Args:
            name: dataset, or path of a manifest.
            root: release folder, a folder above it, or an archive, as for `build`.
            allow_missing: accept a release of which files are absent.
            workers: threads that read files; one a core by default.
            json: file for the report as JSON.
        """
        from ultrarefiner_monai.data.integrity.verification import verify

        report = verify(_path(name), _place(root), allow_missing, workers, progress="verifying")
        print(report.table())
        _write_json(json, report.document())
        if report.faults:
            sys.exit(1)

    def show(
        self,
        name: str,
        root: "Place | None" = None,
        figure: str | None = None,
        json: str | None = None,
        tracking_uri: str | None = None,
    ) -> None:
        """Print the counts of a manifest by fold, class, lesion size and patient; draw and track them if asked.

        Args:
            name: dataset, or path of a manifest.
            root: release folder, from which the map of lesion positions is drawn.
            figure: PNG file for the figure, which goes to MLflow, too.
            json: file for the counts as JSON.
            tracking_uri: MLflow store of the figure; the project's own by default.
        """
        from ultrarefiner_monai.data.manifests.summary import document, summarise, table

        manifest = load_manifest(_path(name))
        summary = summarise(manifest)
        print(table(summary))
        _write_json(json, document(summary))
        if figure:
            from ultrarefiner_monai.data.releases.readers import find_root
            from ultrarefiner_monai.reports.manifest_figure import log_figure, save_figure

            folder = None if root is None else find_root(manifest.name, _place(root))
            log_figure(manifest, save_figure(manifest, folder, str(figure)), tracking_uri)
            print(f"wrote {figure}")

    def diff(self, a: str, b: str, json: str | None = None) -> None:
        """Print what sets manifest B apart from A, and leaks between them; exit status 1 if there is a difference.

        Args:
            a: dataset, or path of a manifest.
            b: dataset, or path of a manifest.
            json: file for the differences as JSON.
        """
        from ultrarefiner_monai.data.manifests.diff import diff, document, table

        difference = diff(load_manifest(_path(a)), load_manifest(_path(b)))
        print(table(difference))
        _write_json(json, document(difference))
        if not difference.equal:
            sys.exit(1)


def _path(name: str) -> Path:
    """Manifest file meant by a dataset's name or by a path."""
    return Path(str(name)) if str(name).endswith(".json") else shipped_manifest(str(name))


def _place(place: Any) -> Any:
    """A place as the data package takes it; fire reads a folder named 2024 as a number."""
    if isinstance(place, Mapping):
        return {str(name): str(one) for name, one in place.items()}
    return place if place is None else str(place)


def _write(options: "Options", exclude_duplicates: bool, out: Path, report: str | None, release: "Release") -> None:
    """Write the manifest of one release, and the report of its near-duplicates if one is wanted."""
    from ultrarefiner_monai.data.manifests.build import build_document, write_manifest
    from ultrarefiner_monai.data.manifests.summary import summarise, table
    from ultrarefiner_monai.data.releases.release import incomplete

    path = out / f"{release.name}.json"
    write_manifest(build_document(release, options, exclude_duplicates), path)
    print(f"wrote {path}")
    print(table(summarise(load_manifest(path))))
    for line in incomplete(release):
        print(line)
    if report:
        _report_duplicates(release, Path(str(report)) / release.name)


def _report_duplicates(release: "Release", folder: Path) -> None:
    from ultrarefiner_monai.data.manifests.duplicate_report import write_report
    from ultrarefiner_monai.data.releases.roots import resolve

    locate = None if release.root is None else partial(resolve, release.root)
    write_report(release.pairs, locate, folder)
    print(f"wrote {folder / 'duplicates.html'}")


def _write_json(path: str | None, document: Any) -> None:
    if path:
        write_output("report", str(path), (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode())
        print(f"wrote {path}")
