"""What a reader must know before believing a study: what is missing, replaced or wrong, and what was checked."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from ultrarefiner_monai.cross_validation.scores import CHANNELS
from ultrarefiner_monai.data.manifests.manifest import Manifest
from ultrarefiner_monai.data.predictions.index import PredictionIndex
from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.reports.statistics import FEW_PATIENTS
from ultrarefiner_monai.reports.study_files import RunFiles, StudyFiles
from ultrarefiner_monai.reports.study_scores import Scores
from ultrarefiner_monai.reports.tables import OUT_OF_FOLD, PLACES, TEST

SHOWN = 5  # ids named before a warning says how many more there are
CHECKED = (
    "No patient and no group of near-duplicates is in two folds, or in both training and test set.",
    "Each validation image was predicted by the model of its own fold, which has not seen it; test images belong to no fold.",
    "All runs and predictions are of this manifest.",
    "All predictions are of the weights that lie beside them.",
    "Phase 3 of each fold starts from that fold's own phases 1 and 2.",
)

Warned = tuple[str, str]  # kind, text


def warnings_of(files: StudyFiles, scores: Scores) -> tuple[list[dict[str, str]], list[str]]:
    """Warnings (`kind`, `text`), gravest first, and what was checked and found in order."""
    manifest = files.manifest
    faults = {} if manifest is None else _faults(files, manifest)
    found: list[Warned] = [("leak or mix-up", text) for texts in faults.values() for text in texts]
    found += [("substitution", text) for text in _substitutions(files)]
    found += [("missing", text) for text in _missing(files)]
    found += [] if manifest is None else [("absent", text) for text in _absent(files, manifest, scores)]
    found += [("excluded", text) for text in _excluded(files)]
    found += [("note", files.told(text)) for text in (*files.notes, *scores.notes, *_few_patients(scores))]
    started = any(run.phase == "phase3" and run.params for run in files.runs)
    checked = CHECKED if started else CHECKED[:-1]
    passed = [] if manifest is None else [text for text in checked if text not in faults]
    return [{"kind": kind, "text": text} for kind, text in found], passed


def _faults(files: StudyFiles, manifest: Manifest) -> dict[str, list[str]]:
    """What contradicts the sentences of CHECKED; the first of them was checked when the manifest was read."""
    _, own_fold, same_manifest, same_weights, own_phases = CHECKED
    found: dict[str, list[str]] = {}
    for run in files.runs:
        if run.card.get("manifest_sha256") not in (None, manifest.sha256):
            text = f"{_name(run)} was trained on another version of the manifest"
            found.setdefault(same_manifest, []).append(text)
        for start in ("phase1", "phase2") if run.phase == "phase3" else ():
            made = next((one.card.get("sha256") for one in files.runs_of(start) if one.fold == run.fold), None)
            if made and run.params.get(f"{start}_sha256", made) != made:
                text = f"{_name(run)} started from other weights than {start} of fold {run.fold}"
                found.setdefault(own_phases, []).append(text)
    for name, index, made_by in _indices(files):
        strangers = _strangers(index, manifest, None if made_by is None else made_by.fold)
        if strangers:
            more = f" and {len(strangers) - SHOWN} more" if len(strangers) > SHOWN else ""
            text = f"{name}: {', '.join(strangers[:SHOWN])}{more} do not belong there by the manifest"
            found.setdefault(own_fold, []).append(text)
        if index.manifest_sha256 != manifest.sha256:
            found.setdefault(same_manifest, []).append(f"{name}: made from another version of the manifest")
        if made_by is not None and made_by.card.get("sha256") not in (None, index.model_sha256):
            found.setdefault(same_weights, []).append(f"{name}: made by other weights than its model.pt")
    return found


def _indices(files: StudyFiles) -> Iterator[tuple[str, PredictionIndex, RunFiles | None]]:
    """Every index of predictions: its name in words, and its run (None for the test set)."""
    for phase in sorted({run.phase for run in files.runs}):
        runs: list[RunFiles | None] = [*files.runs_of(phase), None]
        for run in runs:
            fold = None if run is None else run.fold
            if not files.has_maps(phase, fold):
                continue
            try:
                index = PredictionIndex.load(files.study.maps(phase, fold, CHANNELS[phase][-1]))
            except DataError:
                continue  # told where the scores are read
            yield f"predictions of {phase} {TEST if run is None else _name(run, short=True)}", index, run


def _strangers(index: PredictionIndex, manifest: Manifest, fold: int | None) -> list[str]:
    """Predicted ids that are no validation images of the fold, or (None) no test images."""
    items = manifest.testing if fold is None else manifest.split("val", fold) if fold < manifest.num_folds else []
    return sorted({entry["id"] for entry in index.items} - {item["id"] for item in items})


def _substitutions(files: StudyFiles) -> list[str]:
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


def _missing(files: StudyFiles) -> Iterator[str]:
    """Folds and phases that are not done."""
    unfinished = [_name(run) for run in files.runs if not run.finished]
    if unfinished:
        yield f"not finished: {', '.join(unfinished)}"
    for phase in CHANNELS:
        if not files.runs_of(phase):
            yield f"{phase} has not been run"
    if files.manifest is None:
        return
    every = set(range(files.manifest.num_folds))
    for phase in CHANNELS:
        left = sorted(every - {run.fold for run in files.runs_of(phase)})
        if left and files.runs_of(phase):
            yield f"{phase} was run for some folds only, without {', '.join(map(str, left))}"


def _absent(files: StudyFiles, manifest: Manifest, scores: Scores) -> Iterator[str]:
    """Images of the manifest that have no score where their fold was predicted."""
    for phase in scores.phases()[-1:]:
        folds = [run.fold for run in files.runs_of(phase) if files.has_maps(phase, run.fold)]
        items = [item for item in manifest.training if item["fold"] in folds]
        for place, wanted in ((OUT_OF_FOLD, items), (TEST, manifest.testing)):
            scored = len(scores.of(phase, place))
            if 0 < scored < len(wanted):
                yield (
                    f"{len(wanted) - scored} of {len(wanted)} {place} images of the manifest have no score in {phase}: "
                    f"the study saw a part of {manifest.name}, and its figures are not those of the whole"
                )
            elif wanted and not scored:
                yield f"no {place} image has a score in {phase}"


def _excluded(files: StudyFiles) -> Iterator[str]:
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


def _few_patients(scores: Scores) -> Iterator[str]:
    for phase in scores.phases()[-1:]:
        for place in PLACES:
            patients = len({row["patient"] for row in scores.of(phase, place)})
            if 0 < patients < FEW_PATIENTS:
                yield f"{place}: {patients} patients, so few that intervals are rough and too short"


def _name(run: RunFiles, short: bool = False) -> str:
    return f"fold {run.fold}" if short else f"{run.phase} fold {run.fold}"
