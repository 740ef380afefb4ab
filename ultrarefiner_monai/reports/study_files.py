"""What the folder of a study holds: its runs, cards, settings and curves, its manifest and where its images lie."""

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ultrarefiner_monai.bundle.paths import BUNDLES, project_root
from ultrarefiner_monai.bundle.preflight.data import EXCLUDED, default_place
from ultrarefiner_monai.bundle.run_facts import EXECUTED, store_uri
from ultrarefiner_monai.cross_validation.tasks import DONE, OWN, FOLDERS as PLACES, Study
from ultrarefiner_monai.data.datasets import PHASES
from ultrarefiner_monai.data.manifests.manifest import Manifest
from ultrarefiner_monai.data.predictions.index import INDEX_NAME
from ultrarefiner_monai.data.releases.readers import find_root
from ultrarefiner_monai.data.releases.roots import Root
from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.files import without_folders
from ultrarefiner_monai.tracking.metrics_file import read_epochs
from ultrarefiner_monai.tracking.mlflow_run import PROCESS_DEFAULTS, without_credentials

PROJECT = project_root(str(BUNDLES / PHASES[0]))
FOLD = re.compile(r"fold(\d+)")
NO_SETTING = {*PLACES, *OWN, "imports", "manifest", "mode", "split"} - {"dataset"}


@dataclass(frozen=True)
class RunFiles:
    """One fold of a phase: empty mappings and lists stand for files that are absent or unreadable.

    `card` is its `model.json`, `config` its `executed_config.json`, `epochs` the numbers in its `metrics.jsonl`,
    `excluded` the items it left out, `tags` and `params` what MLflow keeps of it.
    """

    phase: str
    fold: int
    folder: Path
    finished: bool
    card: dict[str, Any]
    config: dict[str, Any]
    epochs: dict[int, dict[str, Any]]
    excluded: list[dict[str, Any]]
    tags: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)

    @property
    def settings(self) -> dict[str, Any]:
        """The configuration keys of the run that are plain values; of a path only the name, its folders are the machine's."""
        return {
            key: without_folders(value)
            for key, value in self.config.items()
            if key not in NO_SETTING and _is_plain(value)
        }


@dataclass(frozen=True)
class StudyFiles:
    """A study's folder.

    `manifest` is None where it cannot be read, `root` where the images are not found; `notes` tell why, in words.
    """

    study: Study
    runs: tuple[RunFiles, ...]
    manifest: Manifest | None
    root: Root | None
    notes: tuple[str, ...]

    def phases(self) -> list[str]:
        """Phases that any fold has predicted with; phase 1 only before phase 2 has, which holds its maps as coarse ones."""
        found = [phase for phase in PHASES if any(self.has_maps(phase, run.fold) for run in self.runs_of(phase))]
        return found[1:] if len(found) > 1 and found[0] == PHASES[0] else found

    def runs_of(self, phase: str) -> list[RunFiles]:
        """The runs of a phase by fold."""
        return [run for run in self.runs if run.phase == phase]

    def told(self, text: str) -> str:
        """The text with paths below the study, its images, its manifest and the project as they are below these folders.

        A report is sent to others, to whom the folders of the machine say nothing.
        """
        roots = self.root.values() if isinstance(self.root, Mapping) else [self.root]
        manifest = self.study.shared.get("manifest")
        named = [self.study.out, self.study.data_root, manifest and Path(manifest).parent, PROJECT, *roots]
        folders = {place.absolute() for name in named if name for place in (Path(name), Path(name).resolve())}
        for folder in sorted(folders, key=lambda folder: -len(str(folder))):
            if folder.name:
                text = text.replace(f"{folder}{os.sep}", "").replace(str(folder), folder.name)
        return text

    def has_maps(self, phase: str, fold: int | None) -> bool:
        """Whether there are predictions of a fold's validation images, or (None) of the test images."""
        return (self.study.maps(phase, fold, "refined") / INDEX_NAME).is_file()


def read_study(folder: str | Path, data_root: str | None = None, manifest: str | None = None) -> StudyFiles:
    """Read what a study has written so far.

    Args:
        folder: its `--out`.
        data_root: where the images lie now; None is where they lay when the study ran.
        manifest: where its manifest lies now; None is where it lay.

    Raises:
        DataError: no study there, or `data_root` is no release of its data set.
    """
    folder = Path(folder)
    runs = [_read_run(phase, *place) for phase in PHASES for place in _folds(folder / phase)]
    if not runs:
        raise DataError(f"study {folder}: {_found(folder)}; name the folder that ultrarefiner cv wrote its results to")
    dataset = next((name for run in runs for name in (run.card.get("dataset"), run.config.get("dataset")) if name), "")
    config: Mapping[str, Any] = next((run.config for run in runs if run.config), {})
    shared = {"manifest": manifest or config.get("manifest")}
    study = Study(dataset, data_root or config.get("data_root"), folder, shared=shared)
    known, notes = _attempt(lambda: _same_manifest(study, runs))
    if data_root is not None:
        root: Root | None = find_root(dataset, data_root)
    else:
        root, more = _attempt(lambda: find_root(dataset, _place(study)))
        notes += [f"{note}; name it with --data_root" for note in more]
    tracked, more = _tracked(runs)
    return StudyFiles(study, tuple(tracked), known, root, tuple(notes + more))


def _folds(folder: Path) -> list[tuple[int, Path]]:
    if not folder.is_dir():
        return []
    found = ((FOLD.fullmatch(child.name), child) for child in folder.iterdir() if child.is_dir())
    return sorted((int(match[1]), child) for match, child in found if match)


def _read_run(phase: str, fold: int, folder: Path) -> RunFiles:
    return RunFiles(
        phase,
        fold,
        folder,
        finished=(folder / DONE).is_file(),
        card=read_json(folder / "model.json", dict),
        config=read_json(folder / EXECUTED, dict),
        epochs=read_epochs(folder),
        excluded=read_json(folder / EXCLUDED, list),
    )


def read_json(path: Path, kind: type) -> Any:
    """JSON content of the kind (dict or list), an empty one where the file is absent, unreadable or of another kind."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return kind()
    return content if isinstance(content, kind) else kind()


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(_is_plain(part) and not isinstance(part, list) for part in value)
    return not isinstance(value, dict) and not (isinstance(value, str) and value[:1] in "$@" and value)


def _found(folder: Path) -> str:
    if not folder.is_dir():
        return "no such folder"
    names = sorted(child.name for child in folder.iterdir())
    return f"expected phase1/fold0 and the like, found {', '.join(names[:5]) or 'nothing'}"


def _attempt(read: Any) -> tuple[Any, list[str]]:
    """What a function returns, or None and the reason why not."""
    try:
        return read(), []
    except DataError as error:
        return None, [str(error)]


def _same_manifest(study: Study, runs: Sequence[RunFiles]) -> Manifest:
    """The manifest, if it is the one that the study was made with: another may list other images under the same ids."""
    found = study.manifest
    made_with = next((sha256 for run in runs if (sha256 := run.card.get("manifest_sha256"))), found.sha256)
    if made_with != found.sha256:
        raise DataError(
            f"the manifest {found.path.name} has changed since (SHA-256 {found.sha256[:12]}, expected {made_with[:12]}); "
            "name the old one with --manifest"
        )
    return found


def _place(study: Study) -> str | Path:
    """Where the images lay when the study ran."""
    place = study.data_root or default_place(PROJECT, study.dataset)
    if place is None:
        raise DataError(f"the images of {study.dataset} are not in {PROJECT / 'data'}")
    return place


def _tracked(runs: Sequence[RunFiles]) -> tuple[list[RunFiles], list[str]]:
    """The runs with what MLflow keeps of them, and why not where it does not."""
    found, reasons = [], []
    for run in runs:
        try:
            data = _stored(run)
            found.append(replace(run, tags=data.tags, params=data.params))
        except Exception as error:  # of any kind of store: whatever it is, the report goes on without it
            found.append(run)
            reasons.append(without_credentials(str(error).partition("\n")[0]))
    lost = f"MLflow's record of {len(reasons)} of {len(runs)} runs cannot be read"
    return found, [f"{lost} ({reasons[0]})"] if reasons else []


def _stored(run: RunFiles) -> Any:
    """Tags and parameters that MLflow keeps of a run."""
    run_id = read_json(run.folder / "mlflow_run.json", dict).get("run_id")
    uri = store_uri(PROJECT, run.config.get("tracking_uri"))
    database = uri.removeprefix("sqlite:///")
    if run_id is None:
        raise DataError("no run was recorded")
    if database != uri and not Path(database).is_file():  # MLflow would make an empty one
        raise DataError("its database is not where it was")
    from mlflow.tracking import MlflowClient  # seconds, which a study without a record need not pay

    for name, value in PROCESS_DEFAULTS.items():
        os.environ.setdefault(name, value)
    return MlflowClient(uri).get_run(run_id).data
