"""What the folder of a cross-validation holds: its runs, cards, settings and curves, its manifest and where its images lie."""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from ultrarefiner_monai.bundle.preflight.data import EXCLUDED, LEFT_OUT, default_place
from ultrarefiner_monai.bundle.run_facts import EXECUTED
from ultrarefiner_monai.cross_validation.tasks import DONE, CrossValidation, system_of
from ultrarefiner_monai.data.manifests.manifest import Manifest
from ultrarefiner_monai.data.predictions.index import INDEX_NAME
from ultrarefiner_monai.data.releases.readers import find_root
from ultrarefiner_monai.data.releases.roots import Root
from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.files import json_or_empty, without_folders
from ultrarefiner_monai.models.card import card_or_empty
from ultrarefiner_monai.schemas import TEXT, object_of, or_null, without_code
from ultrarefiner_monai.shipped import project_root
from ultrarefiner_monai.systems import find_stage, find_system
from ultrarefiner_monai.systems.system import PROMPT_SOURCE
from ultrarefiner_monai.tracking.metrics_file import read_epochs
from ultrarefiner_monai.tracking.mlflow_run import RECORDED
from ultrarefiner_monai.tracking.store import StoreError, open_store, store_uri, without_credentials
from ultrarefiner_monai.tracking.store_checks import is_here

PROJECT = project_root()
FOLD = re.compile(r"fold(\d+)")
# Keys of a configuration that say where things lie and which run it is.
NO_SETTING = {
    "data_root",
    "fold",
    "imports",
    "manifest",
    "mode",
    "output_dir",
    "parent_run",
    "overwrite",
    "resume",
    "split",
    "tracking_uri",
}
CONFIG = object_of({}, dict.fromkeys(("dataset", "data_root", "manifest", "tracking_uri"), or_null(TEXT)))

Read = TypeVar("Read")


@dataclass(frozen=True)
class RunFiles:
    """One fold of a stage: empty mappings and lists stand for files that are absent or unreadable.

    `card` is its `model.json`, `config` the data in its `executed_config.json`, `epochs` the numbers in its `metrics.jsonl`,
    `excluded` the items it left out, `tags` and `params` what MLflow keeps of it.
    """

    stage: str
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
        system, _ = find_stage(self.stage)
        own = NO_SETTING.union(*(stage.starts.keys() | stage.feeds.keys() for stage in system.stages))
        return {
            key: without_folders(value) for key, value in self.config.items() if key not in own and _is_plain(value)
        }


@dataclass(frozen=True)
class ResultFiles:
    """A cross-validation's folder.

    `manifest` is None where it cannot be read, `root` where the images are not found; `notes` tell why, in words.
    """

    cv: CrossValidation
    runs: tuple[RunFiles, ...]
    manifest: Manifest | None
    root: Root | None
    notes: tuple[str, ...]

    def stages(self) -> list[str]:
        """Stages that any fold has predicted with; those that are not scored only before one that is."""
        stages = self.cv.system.stages
        found = [
            stage for stage in stages if any(self.has_maps(stage.name, run.fold) for run in self.runs_of(stage.name))
        ]
        return [stage.name for stage in found if stage.scored] or [stage.name for stage in found]

    def runs_of(self, stage: str) -> list[RunFiles]:
        """The runs of a stage by fold."""
        return [run for run in self.runs if run.stage == stage]

    def told(self, text: str) -> str:
        """The text with paths below results, images, manifest and project as they are below these folders.

        A report is sent to others, to whom the folders of the machine say nothing.
        """
        roots = self.root.values() if isinstance(self.root, Mapping) else [self.root]
        manifest = self.cv.shared.get("manifest")
        named = [self.cv.out, self.cv.data_root, manifest and Path(manifest).parent, PROJECT, *roots]
        folders = {path.absolute() for name in named if name for path in (Path(name), Path(name).resolve())}
        for folder in sorted(folders, key=lambda folder: -len(str(folder))):
            if folder.name:
                text = text.replace(f"{folder}{os.sep}", "").replace(str(folder), folder.name)
        return text

    def has_maps(self, stage: str, fold: int | None) -> bool:
        """Whether there are predictions of a fold's validation images, or (None) of the test images."""
        return (self.cv.maps(stage, fold, self.cv.system.stage(stage).outputs[-1]) / INDEX_NAME).is_file()


def read_results(folder: str | Path, data_root: str | None = None, manifest: str | None = None) -> ResultFiles:
    """Read what a cross-validation has written so far.

    Args:
        folder: its `--out`.
        data_root: where the images lie now; None is where they lay when the cross-validation ran.
        manifest: where its manifest lies now; None is where it lay.

    Raises:
        DataError: no cross-validation there, `data_root` is no release of its data set, or `manifest` not what it was made with.
    """
    folder = Path(folder)
    system = find_system(system_of(folder))
    runs = [run for stage in system.stages for run in _runs(folder, stage.name)]
    if not runs:
        names = sorted(child.name for child in folder.iterdir()) if folder.is_dir() else []
        expected = f"expected {system.stages[0].name}/fold0 and the like, found {', '.join(names[:5]) or 'nothing'}"
        found = expected if folder.is_dir() else "no such folder"
        raise DataError(
            f"cross-validation {folder}: {found}; name the folder that ultrarefiner cv wrote its results to"
        )
    dataset = next((name for run in runs for name in (run.card.get("dataset"), run.config.get("dataset")) if name), "")
    config: Mapping[str, Any] = next((run.config for run in runs if run.config), {})
    shared = {"manifest": manifest or config.get("manifest")}
    place = data_root or config.get("data_root")
    cv = CrossValidation(dataset, place, folder, shared=shared, settings=_decisive(runs), system=system)
    known, notes = _attempt(lambda: _same_manifest(cv, runs)) if manifest is None else (_same_manifest(cv, runs), [])
    if data_root is not None:
        root: Root | None = find_root(dataset, data_root)
    else:
        root, more = _attempt(lambda: _root(cv))
        notes += [f"{note}; name it with --data_root" for note in more]
    tracked, more = _tracked(runs)
    return ResultFiles(cv, tuple(tracked), known, root, tuple(notes + more))


def in_words(stages: Sequence[str], word: str = "and") -> str:
    """Names of stages for people: "phase 1", "phases 1 and 2", "phase 1 or 3", "adapt and distill"."""
    parts = [re.fullmatch(r"(.*?)(\d*)", stage).groups() for stage in stages]  # type: ignore[union-attr]
    stem = parts[0][0]
    if len(parts) > 1 and all(number and other == stem for other, number in parts):
        return f"{stem}{'s' if word == 'and' else ''} {joined([number for _, number in parts], word)}"
    return joined([" ".join(filter(None, part)) for part in parts], word)


def joined(names: Sequence[str], word: str = "and") -> str:
    """The names as people list them: "a", "a and b", "a, b and c"."""
    return f" {word} ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _runs(folder: Path, stage: str) -> list[RunFiles]:
    """The runs of a stage by fold."""
    folds = {int(match[1]): path for path in folder.glob(f"{stage}/fold*/") if (match := FOLD.fullmatch(path.name))}
    return [
        RunFiles(
            stage,
            fold,
            path,
            finished=(path / DONE).is_file(),
            card=card_or_empty(path / "model.json"),
            config=without_code(json_or_empty(path / EXECUTED, dict, CONFIG, code=True)),
            epochs=read_epochs(path),
            excluded=json_or_empty(path / EXCLUDED, list, LEFT_OUT),
        )
        for fold, path in sorted(folds.items())
    ]


def _decisive(runs: Sequence[RunFiles]) -> dict[str, dict[str, Any]]:
    """Keys of each stage as its runs had them that decide what its maps are.

    That are the classes it tells apart, in folders of whose names maps lie, and which lesions it was asked about.
    """
    found: dict[str, dict[str, Any]] = {}
    for run in runs:
        keys = (find_stage(run.stage)[1].classes, PROMPT_SOURCE)
        if had := {key: run.config[key] for key in keys if key in run.config}:
            found.setdefault(run.stage, had)
    return found


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(_is_plain(part) and not isinstance(part, list) for part in value)
    return not isinstance(value, dict)


def _attempt(read: Callable[[], Read]) -> tuple[Read | None, list[str]]:
    """What a function returns, or None and the reason why not."""
    try:
        return read(), []
    except DataError as error:
        return None, [str(error)]


def _same_manifest(cv: CrossValidation, runs: Sequence[RunFiles]) -> Manifest:
    """The manifest, if it is the one that the results were made with: another may list other images under the same ids."""
    found = cv.manifest
    made_with = next((sha256 for run in runs if (sha256 := run.card.get("manifest_sha256"))), found.sha256)
    if made_with != found.sha256:
        raise DataError(
            f"the manifest {found.path.name} has changed since (SHA-256 {found.sha256[:12]}, expected {made_with[:12]}); "
            "name the old one with --manifest"
        )
    return found


def _root(cv: CrossValidation) -> Root:
    """Where the images lay when the cross-validation ran."""
    lay = cv.data_root or default_place(PROJECT, cv.dataset)
    if lay is None:
        raise DataError(f"the images of {cv.dataset} are not in {PROJECT / 'data'}")
    return find_root(cv.dataset, lay)


def _tracked(runs: Sequence[RunFiles]) -> tuple[list[RunFiles], list[str]]:
    """The runs with what MLflow keeps of them, and why not where it does not."""
    found, reasons = [], []
    closed: dict[str, StoreError] = {}  # asked once each: a server that is not there takes its time
    for run in runs:
        uri = store_uri(run.config.get("tracking_uri"))
        try:
            if uri in closed:
                raise closed[uri]
            data = _stored(run, uri)
            found.append(replace(run, tags=data.tags, params=data.params))
        except Exception as error:  # of any kind of store: whatever it is, the report goes on without it
            found.append(run)
            if isinstance(error, StoreError):
                closed[uri] = error
                reasons.append(f"its store {error.reason}")
            else:
                reasons.append(without_credentials(str(error).partition("\n")[0]))
    lost = f"MLflow's record of {len(reasons)} of {len(runs)} runs cannot be read"
    return found, [f"{lost} ({reasons[0]})"] if reasons else []


def _stored(run: RunFiles, uri: str) -> Any:
    """Tags and parameters that MLflow keeps of a run."""
    run_id = json_or_empty(run.folder / "mlflow_run.json", dict, RECORDED).get("run_id")
    if run_id is None:
        raise DataError("no run was recorded")
    if not is_here(uri) and uri != store_uri():
        raise DataError(
            f"its store {without_credentials(uri)} is another machine's; set MLFLOW_TRACKING_URI to it if it is yours"
        )
    return open_store(uri, recording=False).get_run(run_id).data
