"""What a reader must know before believing a cross-validation: what is missing, replaced or wrong, and what was checked."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ultrarefiner_monai.data.manifests.items import images_of
from ultrarefiner_monai.data.manifests.manifest import Manifest
from ultrarefiner_monai.data.predictions.index import PredictionIndex
from ultrarefiner_monai.errors import DataError, shown
from ultrarefiner_monai.metrics.scores import Row
from ultrarefiner_monai.reports.result_files import ResultFiles, RunFiles, in_words
from ultrarefiner_monai.reports.result_scores import Scores
from ultrarefiner_monai.reports.statistics import FEW_PATIENTS
from ultrarefiner_monai.reports.tables import OUT_OF_FOLD, PLACES, TEST, stages_of
from ultrarefiner_monai.systems import Stage

SHOWN = 5  # ids named before a warning says how many more there are
CHECKED = (
    "No patient and no group of near-duplicates is in two folds, or in both training and test set.",
    "Each validation image was predicted by the model of its own fold, which has not seen it; test images belong to no fold.",
    "All runs and predictions are of this manifest.",
    "All predictions are of the weights that lie beside them.",
)


class Warned(NamedTuple):
    """Something that a reader must know: of what kind, and in words."""

    kind: str
    text: str


def own_start(stage: Stage) -> str:
    """What was checked of a stage that starts from others."""
    starts = list(dict.fromkeys(stage.starts.values()))
    return f"{in_words([stage.name]).capitalize()} of each fold starts from that fold's own {in_words(starts)}."


def warnings_of(files: ResultFiles, scores: Scores) -> tuple[list[Warned], list[str]]:
    """Warnings, gravest first, and what was checked and found in order."""
    manifest = files.manifest
    faults = {} if manifest is None else _faults(files, manifest)
    found = [Warned("leak or mix-up", text) for texts in faults.values() for text in texts]
    found += [Warned("substitution", text) for text in _substitutions(files)]
    found += [Warned("missing", text) for text in _missing(files)]
    found += [] if manifest is None else [Warned("absent", text) for text in _absent(files, manifest, scores)]
    found += [Warned("excluded", text) for text in _excluded(files)]
    found += [Warned("prompted", text) for text in prompted(scores.rows)]
    found += [Warned("note", files.told(text)) for text in (*files.notes, *scores.notes)]
    for place in PLACES:
        patients = len({row["patient"] for stage in scores.stages()[-1:] for row in scores.of(stage, place)})
        if 0 < patients < FEW_PATIENTS:
            found.append(Warned("note", f"{place}: {patients} patients, so few that intervals are rough and too short"))
    started = {run.stage for run in files.runs if run.params}
    starts = [own_start(stage) for stage in files.cv.system.stages if stage.starts and stage.name in started]
    return found, [] if manifest is None else [text for text in (*CHECKED, *starts) if text not in faults]


def prompted(rows: Sequence[Row]) -> list[str]:
    """What is to be known of scores of masks that were asked for with the true lesions, a sentence a stage."""
    told = []
    for stage in stages_of(rows):
        asked = [row for row in rows if row["phase"] == stage and "ellipse" in row]
        if asked:
            ellipse, source = np.nanmean([row["ellipse"] for row in asked]), asked[0].get("prompts", "source unknown")
            told.append(
                f"{stage} was asked about the true lesions ({source}), which tells it place and size: ellipses in "
                f"their boxes have a Dice of {ellipse:.3f}, and its scores do not stand beside those of other systems"
            )
    return told


def _faults(files: ResultFiles, manifest: Manifest) -> dict[str, list[str]]:
    """What contradicts the sentences of CHECKED and `own_start`; the first was checked when the manifest was read."""
    _, own_fold, same_manifest, same_weights = CHECKED
    found: dict[str, list[str]] = {}
    for run in files.runs:
        if run.card.get("manifest_sha256") not in (None, manifest.sha256):
            text = f"{_name(run)} was trained on another version of the manifest"
            found.setdefault(same_manifest, []).append(text)
        stage = files.cv.system.stage(run.stage)
        for start in dict.fromkeys(stage.starts.values()):
            made = next((one.card.get("sha256") for one in files.runs_of(start) if one.fold == run.fold), None)
            if made and run.params.get(f"{start}_sha256", made) != made:
                text = f"{_name(run)} started from other weights than {start} of fold {run.fold}"
                found.setdefault(own_start(stage), []).append(text)
    for name, index, made_by in _indices(files):
        fold = None if made_by is None else made_by.fold
        known = images_of(manifest.testing)
        if fold is not None:
            known = manifest.split("val", fold) if fold < manifest.num_folds else []
        empty = [item for item in manifest.normal if item.get("fold") == fold]  # frames of the same patients' sequences
        strangers = sorted({entry["id"] for entry in index.items} - {item["id"] for item in (*known, *empty)})
        if strangers:
            text = f"{name}: {shown(strangers, SHOWN)} do not belong there by the manifest"
            found.setdefault(own_fold, []).append(text)
        if index.manifest_sha256 != manifest.sha256:
            found.setdefault(same_manifest, []).append(f"{name}: made from another version of the manifest")
        if made_by is not None and made_by.card.get("sha256") not in (None, index.model_sha256):
            found.setdefault(same_weights, []).append(f"{name}: made by other weights than its model.pt")
    return found


def _indices(files: ResultFiles) -> Iterator[tuple[str, PredictionIndex, RunFiles | None]]:
    """Every index of predictions: its name in words, and its run (None for the test set)."""
    for stage in files.cv.system.stages:
        runs = files.runs_of(stage.name)
        for run in [*runs, None] if runs else []:
            fold = None if run is None else run.fold
            if not files.has_maps(stage.name, fold):
                continue
            try:
                index = PredictionIndex.load(files.cv.maps(stage.name, fold, stage.outputs[-1]))
            except DataError:
                continue  # told where the scores are read
            yield f"predictions of {stage.name} {TEST if run is None else f'fold {run.fold}'}", index, run


def _substitutions(files: ResultFiles) -> list[str]:
    said = [
        (run.tags["substitutions"], _name(run)) for run in files.runs if run.tags.get("substitutions", "none") != "none"
    ]
    asked = [
        (f"asked for {wanted}, run on {found}", _name(run))
        for run in files.runs
        if (wanted := run.config.get("dataset")) and (found := run.card.get("dataset")) and wanted != found
    ]
    by_text: dict[str, list[str]] = {}
    for text, name in said + asked:
        by_text.setdefault(text, []).append(name)
    return [f"{', '.join(names)}: {text}" for text, names in by_text.items()]


def _missing(files: ResultFiles) -> Iterator[str]:
    """Folds and stages that are not done."""
    unfinished = [_name(run) for run in files.runs if not run.finished]
    if unfinished:
        yield f"not finished: {', '.join(unfinished)}"
    folds = {stage.name: {run.fold for run in files.runs_of(stage.name)} for stage in files.cv.system.stages}
    yield from (f"{stage} has not been run" for stage, done in folds.items() if not done)
    every = set() if files.manifest is None else set(range(files.manifest.num_folds))
    for stage, done in folds.items():
        if done and (left := sorted(every - done)):
            yield f"{stage} was run for some folds only, without {', '.join(map(str, left))}"


def _absent(files: ResultFiles, manifest: Manifest, scores: Scores) -> Iterator[str]:
    """Images of the manifest that have no score where their fold was predicted."""
    for stage in scores.stages()[-1:]:
        folds = [run.fold for run in files.runs_of(stage) if files.has_maps(stage, run.fold)]
        items = images_of(item for item in manifest.training if item["fold"] in folds)
        for place, wanted in ((OUT_OF_FOLD, items), (TEST, images_of(manifest.testing))):
            scored = len(scores.of(stage, place))
            if 0 < scored < len(wanted):
                yield (
                    f"{len(wanted) - scored} of {len(wanted)} {place} images of the manifest have no score in {stage}: "
                    f"the cross-validation saw a part of {manifest.name}, and its figures are not those of the whole"
                )
            elif wanted and not scored:
                yield f"no {place} image has a score in {stage}"


def _excluded(files: ResultFiles) -> Iterator[str]:
    by_id: dict[str, Any] = {
        str(entry.get("id")): "; ".join(map(str, entry.get("reasons", ())))
        for run in files.runs
        for entry in run.excluded
        if isinstance(entry, Mapping)
    }
    if files.manifest is not None:
        by_id |= {entry["id"]: entry["reason"] for entry in files.manifest.excluded}
    for name in sorted(by_id)[:SHOWN]:
        yield f"{name}: {by_id[name]}"
    if len(by_id) > SHOWN:
        yield f"{len(by_id) - SHOWN} more items are left out, see excluded.json of the runs and the manifest"
    absent = {run.tags["absent_items"] for run in files.runs if "absent_items" in run.tags}
    for counts in absent if files.manifest is None else ():
        yield f"absent items by place: {json.dumps(json.loads(counts))}"


def _name(run: RunFiles) -> str:
    return f"{run.stage} fold {run.fold}"
