"""`ultrarefiner manifests`: build a dataset's manifest, check a release against it, show what it holds."""

import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

from ultrarefiner_monai.data.datasets import FIVE
from ultrarefiner_monai.data.manifests.items import side_of
from ultrarefiner_monai.data.manifests.manifest import Manifest, load_manifest, shipped_manifest
from ultrarefiner_monai.data.releases.roots import Location
from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.files import json_text, write_output

if TYPE_CHECKING:
    from ultrarefiner_monai.data.manifests.splits import Options
    from ultrarefiner_monai.data.releases.copies.pairs import CopyPair
    from ultrarefiner_monai.data.releases.release import Release


class Manifests:
    """Manifests of datasets: items, patients, groups, folds and hashes."""

    def build(
        self,
        name: str,
        root: Location | None = None,
        inventory: Location | None = None,
        out: str = "data_manifests",
        images: str | None = None,
        masks: str | None = None,
        mask: str | None = None,
        organ: str | None = None,
        clip: Sequence[float] | None = None,
        table: str | None = None,
        image_column: str | None = None,
        patient_column: str | None = None,
        class_column: str | None = None,
        split_column: str | None = None,
        fold_column: str | None = None,
        folds: int | Literal["official"] = 5,
        seed: int = 42,
        test_fraction: float = 0.2,
        exclude_duplicates: bool = False,
        skip_bad: bool = False,
        report: str | None = None,
        group: Literal["near_duplicates", "copies"] = "near_duplicates",
        workers: int | None = None,
        cache: bool = True,
    ) -> None:
        """Build OUT/NAME.json from the files of a release or of your own data, or from a CSV inventory of a release.

        Args:
            name: BUSI, BUSBRA, BUS, BUS_UC, BUS_UCLM, UDIAT, PHANTOM, several joined by + (BUSI+BUSBRA), or ALL five; BTCV,
                AMOS or NIFTI (volumes); or a name of your own for your own data.
            root: release folder, a folder above it (of several releases, too), an archive, or "{NAME: PLACE, ...}".
            inventory: CSV table with the facts of the release, or "{NAME: TABLE, ...}"; no file is read then.
            out: folder of the manifest, or its file, which ends with .json.
            images: folder of your own images, below the root, where it is not found by its name.
            masks: folder of your own masks, below the root.
            mask: what mask files mean: alpha (lesion in the alpha channel), inverted (lesion dark), half (JPEG or resampled:
                half of the largest value and more), nonzero (numbered classes); new masks are written into the root.
            organ: of volumes, name of the one label that is segmented; by default all labels together are.
            clip: of volumes, two grey values that become 0 and 1, such as -160,240 for a CT; by default each one's percentiles.
            table: CSV file with a row for each of your own images: patient, class, split or fold.
            image_column: column that names the image; by default found by its name, like the others.
            patient_column: column of the patient's code.
            class_column: column with benign, malignant or normal.
            split_column: column with train, val or test, which --folds official keeps.
            fold_column: column of the fold, which --folds official keeps.
            folds: number of folds, or "official" for the split the authors published, or your table or folders tell.
            seed: seed of the shuffle.
            test_fraction: share of the images kept for testing (not with "official").
            exclude_duplicates: keep one image of each group of confirmed near-duplicates.
            skip_bad: leave out images whose files are missing or unreadable, in place of refusing the release.
            report: folder for NAME/duplicates.json and NAME/duplicates.html, the pairs of near-duplicates and copies; the
                images are searched for crops, zooms, rotations and mirror images of each other, which takes minutes.
            group: "near_duplicates" keeps those together, "copies" also what that search finds.
            workers: threads that read files; one a core by default.
            cache: reuse what is known of files by their content, kept below XDG_CACHE_HOME; false reads everything.
        """
        from ultrarefiner_monai.data.manifests.splits import Options
        from ultrarefiner_monai.data.releases.fact_cache import cache_folder
        from ultrarefiner_monai.data.releases.own import COLUMNS, OwnOptions
        from ultrarefiner_monai.data.releases.release import read_release

        names = (image_column, patient_column, class_column, split_column, fold_column)
        columns = {what: told for what, told in zip(COLUMNS, names, strict=True) if told is not None}
        if columns and table is None:
            raise DataError(f"--{next(iter(columns))}_column names a column of a table; give --table FILE, too")
        own = OwnOptions(images, masks, None if table is None else Path(table), columns)
        known = cache_folder() if cache else None
        read = partial(
            read_release, cache=known, workers=workers, skip_bad=skip_bad, own=own, mask=mask, organ=organ, clip=clip
        )
        write = partial(_write, Options(folds, seed, test_fraction), exclude_duplicates, report, group, workers)
        every = FIVE if name == "ALL" else (name,)
        paths = _outputs(out, every)
        failed = []
        for one, path in zip(every, paths, strict=True):
            try:
                write(path, read(one, root, inventory))
            except DataError as error:
                failed.append(error)
        if failed:
            raise DataError("; ".join(map(str, failed)))

    def verify(
        self,
        name: str,
        root: Location,
        allow_missing: bool = False,
        workers: int | None = None,
        json: str | None = None,
        copies: bool = False,
    ) -> None:
        """Read every file a manifest lists and print all faults; exit status 1 if there is any.

        Args:
            name: dataset, or path of a manifest.
            root: release folder, a folder above it, or an archive, as for `build`.
            allow_missing: accept a release of which files are absent.
            workers: threads that read files; one a core by default.
            json: file for the report as JSON.
            copies: search the images for crops, zooms, rotations and mirror images of each other, which takes minutes, and
                list them; those in two folds, or in training and testing, are faults.
        """
        from ultrarefiner_monai.data.integrity.verification import verify

        report = verify(_path(name), root, allow_missing, workers, "verifying", copies)
        print(report.table())
        _write_json(json, report.document())
        if report.faults:
            sys.exit(1)

    def show(
        self,
        name: str,
        root: Location | None = None,
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
            from ultrarefiner_monai.data.manifests.figure import save_figure
            from ultrarefiner_monai.data.releases.readers import find_root

            folder = None if root is None else find_root(manifest.name, root)
            log_figure(manifest, save_figure(manifest, folder, figure), tracking_uri)
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


def log_figure(manifest: Manifest, path: str | Path, tracking_uri: str | None = None) -> str | None:
    """Store a figure and the manifest's counts as a run of MLflow, in the experiment named after the data set.

    The counts are by place, such as `fold_0_images` and `all_benign`, and of exclusions and warnings. A store that cannot
    be reached costs one warning. Returns the run's id, None without a store.

    Args:
        manifest: what the figure shows.
        path: the figure, written by `save_figure`.
        tracking_uri: MLflow store; where None, the one that `tracking.store.store_uri` decides on.
    """
    from mlflow.entities import Metric, Param

    from ultrarefiner_monai.data.manifests.summary import summarise
    from ultrarefiner_monai.tracking.mlflow_run import MlflowRun
    from ultrarefiner_monai.tracking.store import store_uri

    summary = summarise(manifest)
    counts = {"excluded": len(summary.excluded), "warnings": len(summary.warnings)}
    for place in summary.parts[0].places:
        named = {"images": place.images, "patients": place.patients, "groups": place.groups, **place.classes}
        counts |= {f"{place.name.replace(' ', '_')}_{name}": count for name, count in named.items()}
    now = int(time.time() * 1000)
    metrics = [Metric(name, count, now, 0) for name, count in counts.items()]
    told = {key: manifest.header.get(key) for key in ("split", "test_fraction")}
    told |= {"manifest_sha256": manifest.sha256, "num_folds": manifest.num_folds, "seed": manifest.seed}
    params = [Param(key, str(value)) for key, value in told.items()]

    name = f"manifest-{manifest.name}-{manifest.sha256[:8]}"
    tags = {"kind": "manifest", "dataset": manifest.name, "manifest_sha256": manifest.sha256}
    uri = store_uri(tracking_uri)
    with TemporaryDirectory() as folder:
        id_file = Path(folder) / "mlflow_run.json"
        run = MlflowRun(uri, manifest.name, name, tags, id_file, fallback=f"the figure is kept in {path}")
        run.submit(
            lambda client, run_id: client.log_batch(run_id, metrics=metrics, params=params),
            lambda client, run_id: client.log_artifact(run_id, str(path)),
        )
        run.finish("FINISHED")
    return run.run_id


def _path(name: str) -> Path:
    """Manifest file meant by a dataset's name or by a path."""
    return Path(name) if name.endswith(".json") else shipped_manifest(name)


def _outputs(out: str, names: Sequence[str]) -> list[Path]:
    """Manifest file of each data set: `out` itself where it is a file's name, else one each in the folder `out`."""
    if not out.lower().endswith(".json"):
        return [Path(out) / f"{name}.json" for name in names]
    if len(names) > 1:
        raise DataError(f"--out {out}: one file for the manifests of {', '.join(names)}; name a folder")
    if Path(out).is_dir():
        raise DataError(f"--out {out}: a folder is there; name a file, or move the folder away")
    return [Path(out)]


def _write(
    options: "Options",
    exclude_duplicates: bool,
    report: str | None,
    group: str,
    workers: int | None,
    path: Path,
    release: "Release",
) -> None:
    """Write the manifest of one release, and the report of its near-duplicates and copies if one is wanted."""
    from ultrarefiner_monai.data.manifests.build import build_document, write_manifest
    from ultrarefiner_monai.data.manifests.duplicate_report import write_report
    from ultrarefiner_monai.data.manifests.summary import summarise, table
    from ultrarefiner_monai.data.releases.release import further_copies, incomplete
    from ultrarefiner_monai.data.releases.roots import resolve

    searched = group == "copies" or (report and release.root is not None)
    found = further_copies(release, workers) if searched else None
    if found and group == "copies":
        release, found = replace(release, found=found), ()
    write_manifest(build_document(release, options, exclude_duplicates), path)
    print(f"wrote {path}")
    print(table(summarise(load_manifest(path))))
    for line in incomplete(release):
        print(line)
    if found:
        print(_note(load_manifest(path), found))
    if report:
        folder = Path(report) / release.name
        write_report(release.pairs, None if release.root is None else partial(resolve, release.root), folder, found)
        print(f"wrote {folder / 'duplicates.html'}")


def _note(manifest: Manifest, found: Sequence["CopyPair"]) -> str:
    """The line about copies that were found and that the split does not go by."""
    side = {item["id"]: side_of(item) for item in manifest.items()}
    apart = sum(len({side[name] for name in pair.ids if name in side}) > 1 for pair in found)
    line = (
        f"note: {len(found)} further pairs of copies were found by content, {apart} of them on two sides of the split"
    )
    return f"{line} (--group copies keeps them together)"


def _write_json(path: str | None, document: Any) -> None:
    if path:
        write_output("report", path, json_text(document).encode())
        print(f"wrote {path}")
