"""A study of a server in, the masks of its ultrasound out, as of the same files from a folder, and back to the server."""

import json
from io import BytesIO

import numpy as np
import pytest

from ultrarefiner_monai.deploy.predict.outputs import Outputs
from ultrarefiner_monai.deploy.predict.prediction import predict
from ultrarefiner_monai.errors import DataError

pytest.importorskip("dicomweb_client", reason="DICOM is an optional extra")
pytest.importorskip("highdicom", reason="DICOM is an optional extra")
import pydicom

from ultrarefiner_monai.deploy.dicomweb import prediction as module
from ultrarefiner_monai.deploy.dicomweb.prediction import predict_series
from ultrarefiner_monai.deploy.dicomweb.server import Server


@pytest.fixture
def model(make_model):
    return make_model("phase1")[0]


def run(pacs, model, out, *asked, form="dicom-seg", **options):
    return predict_series(Server(pacs.url), asked or [pacs.study], model, Outputs(out, form), **options)


def counts(summary):
    return {one.series: (one.found, one.predicted, one.skipped, one.stored) for one in summary.series}


def test_a_study_is_predicted_and_its_segmentations_are_stored(pacs, model, tmp_path):
    summary = run(pacs, model, tmp_path / "out", store=True)
    first, second = pacs.series
    expected = {first: (2, 2, 0, 2), second: (1, 1, 0, 1), "1.2.3.3": (1, 0, 1, 0), "1.2.3.4": (1, 0, 1, 0)}
    assert counts(summary) == expected and summary.exit_code == 0
    text = str(summary)
    assert "left out: 2 instances (CT, SR)" in text
    assert f"series {first}: found 2, predicted 2, skipped 0, stored 2" in text
    new = [content for uid, content in pacs.server.files.items() if uid not in pacs.sources]
    assert len(new) == 3
    locally = tmp_path / "local"
    for uid, path in pacs.sources.items():
        if uid in pacs.images:
            predict(path, model, Outputs(locally, "dicom-seg"), overwrite=True)
            there = next(
                seg
                for seg in map(pydicom.dcmread, map(BytesIO, new))
                if seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence[0].ReferencedSOPInstanceUID == uid
            )
            here = pydicom.dcmread(locally / "masks" / f"{path.stem}.dcm")
            np.testing.assert_array_equal(there.pixel_array, here.pixel_array)
            assert there.pixel_array.any() and there.StudyInstanceUID == pacs.study
    done = json.loads((tmp_path / "out/dicomweb.json").read_text())
    assert [one["instance"] for one in done["stored"]] == [
        one.uid for one in Server(pacs.url).instances(pacs.study) if one.uid in pacs.images
    ]
    assert {one["is"] for one in done["left_out"]} == {"CT", "SR"} and done["failures"] == []


def test_without_store_nothing_is_sent_and_what_was_fetched_is_kept(pacs, model, tmp_path):
    summary = run(pacs, model, tmp_path / "out", f"{pacs.study}/{pacs.series[0]}", form="png")
    assert counts(summary) == {pacs.series[0]: (2, 2, 0, 0)}
    assert {kind for kind, _, _ in pacs.server.asked} == {"list", "fetch"}
    kept = {path.stem: path.read_bytes() for path in (tmp_path / "out/instances" / pacs.series[0]).iterdir()}
    assert kept == {uid: pacs.sources[uid].read_bytes() for uid in pacs.images[:2]}
    masks = {path.name for path in (tmp_path / "out/masks").iterdir()}
    single, several = pacs.images[:2]
    assert masks == {f"{single}.png", f"{several}_frame0001.png", f"{several}_frame0002.png"}


def test_segmentations_of_an_earlier_run_are_left_out(pacs, model, tmp_path):
    run(pacs, model, tmp_path / "one", store=True)
    again = run(pacs, model, tmp_path / "two", store=False, any_modality=True)
    assert sorted({kind for _, kind in again.left_out}) == ["SEG", "SR"]
    assert len(again.left_out) == 4 and len(again.predicted.rows) == 5  # four frames of ultrasound, and the CT


def test_results_that_are_there_are_refused_before_the_server_is_asked(pacs, model, tmp_path):
    run(pacs, model, tmp_path / "out", f"{pacs.study}/{pacs.series[1]}", form="png")
    pacs.server.asked.clear()
    with pytest.raises(DataError, match=r"instances, .*measures\.csv, .*report\.json: already there"):
        run(pacs, model, tmp_path / "out")
    assert not pacs.server.asked
    assert run(pacs, model, tmp_path / "out", overwrite=True).exit_code == 0


@pytest.mark.parametrize("word", ["../1.2", "1.2/", "1.2/../3", "1.2/3/4", "scan.dcm", "1.2?x=1", "9" * 65])
def test_words_that_are_no_identifiers_are_refused(word, pacs, model, tmp_path):
    with pytest.raises(DataError, match="expected STUDY or STUDY/SERIES"):
        run(pacs, model, tmp_path / "out", word)
    assert not pacs.server.asked and not (tmp_path / "out").exists()


def test_what_cannot_be_stored_is_refused_first(pacs, model, tmp_path):
    with pytest.raises(DataError, match="add --format dicom-seg"):
        run(pacs, model, tmp_path / "out", form="png", store=True)
    assert not pacs.server.asked


@pytest.mark.parametrize(("asked", "reason"), [("1.2.3.9", "of 0 instances: check"), ("1.2.3.4", "of 1 instances: SR")])
def test_nothing_to_predict_is_told(asked, reason, pacs, model, tmp_path):
    with pytest.raises(DataError, match=f"nothing to predict {reason}"):
        run(pacs, model, tmp_path / "out", f"{pacs.study}/{asked}")
    assert not (tmp_path / "out").exists()


def test_a_model_that_is_none_is_refused_before_the_server_is_asked(pacs, model, tmp_path):
    model.with_suffix(".json").unlink()
    for wrong, told in ((tmp_path / "absent.pt", r"expected a model\.pt"), (model, r"model\.json")):
        with pytest.raises(DataError, match=told):
            run(pacs, wrong, tmp_path / "out")
    assert not pacs.server.asked and not (tmp_path / "out").exists()


def test_what_is_fetched_has_a_limit(pacs, model, tmp_path, monkeypatch):
    limit = pacs.sources[pacs.images[0]].stat().st_size + 5000
    monkeypatch.setattr(module, "MAX_TOTAL", limit)
    with pytest.raises(DataError, match="more than 0 MiB in all; name fewer series"):
        run(pacs, model, tmp_path / "out")
    assert 0 < sum(path.stat().st_size for path in tmp_path.glob("out/**/*.dcm")) <= limit
