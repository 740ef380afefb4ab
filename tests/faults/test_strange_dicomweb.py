"""A DICOMweb server that is wrong, broken or hostile: one line, a bounded answer, and nothing sent to anybody else."""

import gzip
import json
import socket
from io import BytesIO

import pytest
from verbs import run_verb

from ultrarefiner_monai.errors import DataError

pytest.importorskip("dicomweb_client", reason="DICOM is an optional extra")
pytest.importorskip("highdicom", reason="DICOM is an optional extra")
from dicomweb_server import JSON, MULTIPART, listing, multipart, running, stored
from pydicom import dcmread
from pydicom.uid import DeflatedExplicitVRLittleEndian

from ultrarefiner_monai.deploy.dicomweb import server as module
from ultrarefiner_monai.deploy.dicomweb import session
from ultrarefiner_monai.deploy.dicomweb.prediction import predict_series
from ultrarefiner_monai.deploy.dicomweb.server import Server
from ultrarefiner_monai.deploy.dicomweb.session import TOKEN, NoAnswerError
from ultrarefiner_monai.deploy.predict.outputs import Outputs

pytestmark = pytest.mark.fault(32)
HTML = b"<html><body>Sign in</body></html>"


def endless(handler):
    """A body without a length that never ends."""
    handler.send_response(200)
    handler.send_header("Content-Type", MULTIPART)
    handler.send_header("Connection", "close")
    handler.end_headers()
    while True:  # until the client closes the connection
        handler.wfile.write(b"\0" * 65536)


def endless_chunks(handler):
    handler.send_response(200)
    handler.send_header("Content-Type", MULTIPART)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    while True:
        handler.wfile.write(b"10000\r\n" + b"\0" * 65536 + b"\r\n")


def broken_off(handler):
    """A body shorter than its length."""
    handler.answer(multipart(b"\0" * 100)[:80], MULTIPART, Content_Length=9999, Connection="close")
    handler.close_connection = True


def deflated(path):
    made = dcmread(path)
    made.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    with BytesIO() as file:
        made.save_as(file)
        return file.getvalue()


ANSWERS = {  # to a request for an instance whose file is `path`
    "another instance": (lambda one, path, other: one.parts(other), "SeriesInstanceUID: expected"),
    "two": (lambda one, path, other: one.parts(other, other), "More than one instance"),
    "none": (lambda one, path, other: one.parts(), "cannot be read as an answer of DICOMweb"),
    "absent": (lambda one, path, other: one.answer(b"", status=404), r"status 404 \(Not Found\); check the URL"),
    "no password": (lambda one, path, other: one.answer(b"", status=401), f"status 401 .*; set {TOKEN} or"),
    "forbidden": (lambda one, path, other: one.answer(HTML, status=403), f"status 403 .*; set {TOKEN} or"),
    "an error": (lambda one, path, other: one.answer(HTML, status=500), "status 500 .*; see the log of the server"),
    "busy": (lambda one, path, other: one.answer(b"", status=503), "status 503"),
    "a page": (lambda one, path, other: one.answer(HTML, "text/html"), "Unexpected media type"),
    "no type": (lambda one, path, other: one.answer(HTML, ""), "Unexpected media type"),
    "no DICOM": (lambda one, path, other: one.parts(HTML), "cannot be read as an answer of DICOMweb"),
    "a part without head": (lambda one, path, other: one.answer(b"--between-parts--", MULTIPART), "cannot be read"),
    "cut": (lambda one, path, other: one.answer(multipart(path.read_bytes())[:-900], MULTIPART), "is cut after"),
    "cut within": (lambda one, path, other: one.parts(path.read_bytes()[:200]), "cannot be read|expected"),
    "broken off": (lambda one, path, other: broken_off(one), "Connection broken"),
    "endless": (lambda one, path, other: endless(one), "more than 1 MiB; it is not read any further"),
    "endless chunks": (lambda one, path, other: endless_chunks(one), "more than 1 MiB; it is not read any further"),
    "compressed": (
        lambda one, path, other: one.answer(gzip.compress(path.read_bytes()), MULTIPART, Content_Encoding="gzip"),
        "found one in gzip",
    ),
    "deflated": (lambda one, path, other: one.parts(deflated(path)), "an instance that is deflated"),
}


@pytest.mark.parametrize("case", ANSWERS)
def test_what_is_not_the_instance_is_refused_in_one_line(case, pacs, monkeypatch):
    monkeypatch.setattr(session, "MAX_INSTANCE", session.MIB)
    server = Server(pacs.url)
    (wanted,) = server.instances(pacs.study, pacs.series[1])
    path, other = pacs.sources[wanted.uid], pacs.sources[pacs.images[0]].read_bytes()
    answer, reason = ANSWERS[case]
    pacs.server.faults["fetch"] = lambda handler: answer(handler, path, other)
    with pytest.raises(DataError, match=reason) as refused:
        server.fetch(wanted)
    assert str(refused.value).startswith(f"{pacs.url}: instance {wanted.uid}: ") and "\n" not in str(refused.value)
    assert not isinstance(refused.value, NoAnswerError)
    assert [kind for kind, _, _ in pacs.server.asked].count("fetch") == 1  # nothing is asked twice


LISTINGS = {
    "a page": (HTML, "text/html", "cannot be read as an answer of DICOMweb"),
    "no list": (b'"text"', JSON, "cannot be read as an answer of DICOMweb"),
    "no objects": (b"[1, 2]", JSON, "cannot be read as an answer of DICOMweb"),
    "deep": (b"[" * 100000, JSON, "cannot be read as an answer of DICOMweb"),
    "no identifiers": (b'[{"00080018": {"vr": "UI"}}]', JSON, "SeriesInstanceUID: expected digits and dots, found ''"),
}


@pytest.mark.parametrize("case", LISTINGS)
def test_what_is_no_listing_is_refused_in_one_line(case, pacs):
    content, kind, reason = LISTINGS[case]
    pacs.server.faults["list"] = lambda handler: handler.answer(content, kind)
    with pytest.raises(DataError, match=reason) as refused:
        Server(pacs.url).instances(pacs.study)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("SOPInstanceUID", "../../outside"),
        ("SOPInstanceUID", "1.2/../3"),
        ("SeriesInstanceUID", "/etc"),
        ("SeriesInstanceUID", ".."),
        ("StudyInstanceUID", "1.2.3"),
        ("SOPInstanceUID", "9" * 65),
    ],
)
def test_identifiers_that_do_not_fit_the_request_are_refused(keyword, value, pacs):
    items = json.loads(listing(pacs.server.datasets()[:1]))
    tag = module.TAGS[keyword]
    items[0][tag]["Value"] = [value]
    pacs.server.faults["list"] = lambda handler: handler.answer(json.dumps(items).encode())
    with pytest.raises(DataError, match=f"{keyword}: expected"):
        Server(pacs.url).instances(pacs.study)


def test_a_server_that_knows_no_pages_is_asked_twice(pacs):
    everything = listing(pacs.server.datasets())
    pacs.server.faults["list"] = lambda handler: handler.answer(everything)
    assert len(Server(pacs.url).instances(pacs.study)) == 5 and len(pacs.server.asked) == 2


def test_a_listing_has_a_limit(pacs, monkeypatch):
    monkeypatch.setattr(module, "MAX_INSTANCES", 4)
    with pytest.raises(DataError, match="more than 4 instances; name one series, as STUDY/SERIES"):
        Server(pacs.url).instances(pacs.study)
    monkeypatch.setattr(session, "MAX_LISTING", session.MIB)
    pacs.server.faults["list"] = lambda handler: handler.answer(b" " * (session.MIB + 1))
    with pytest.raises(DataError, match="more than 1 MiB"):
        Server(pacs.url).instances(pacs.study)


@pytest.mark.parametrize("kind", ["list", "store"])
@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed_and_the_token_stays(status, kind, pacs, monkeypatch):
    monkeypatch.setenv(TOKEN, "secret")
    with running() as other:
        place = f"{other.url}/studies"
        pacs.server.faults[kind] = lambda handler: handler.answer(b"", status=status, Location=place)
        with pytest.raises(DataError, match=f"status {status}, leads to {place}; name that as --dicomweb"):
            if kind == "list":
                Server(pacs.url).instances(pacs.study)
            else:
                Server(pacs.url).store(pacs.sources[pacs.images[0]], pacs.study)
        assert not other.asked


def test_silence_and_slowness_end(pacs, monkeypatch):
    (wanted,) = Server(pacs.url).instances(pacs.study, pacs.series[1])
    monkeypatch.setattr(session, "ANSWER_S", -1)
    with pytest.raises(DataError, match="takes more than -1 s"):
        Server(pacs.url).fetch(wanted)
    monkeypatch.setattr(module, "SILENCE_S", 0.2)
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        pytest.raises(NoAnswerError, match=r"no answer \(ReadTimeout\)"),
    ):
        Server(f"http://127.0.0.1:{silent.getsockname()[1]}").instances(pacs.study)


REFUSALS = {
    "full": (lambda one: one.answer(b"", status=507), "status 507"),
    "a conflict": (lambda one: one.answer(stored("1.2", "FailedSOPSequence"), status=409), "status 409"),
    "a reason": (
        lambda one: one.answer(stored("1.2", "FailedSOPSequence", FailureReason=0x0122)),
        r"refused, with reason 0x0122 \(DICOM PS3\.3",
    ),
    "another": (lambda one: one.answer(stored("1.2")), "does not say that it has it; look there before"),
    "nothing": (lambda one: one.answer(b""), "does not say that it has it; look there before"),
    "a page": (lambda one: one.answer(HTML, "text/html"), "does not say that it has it"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_the_server_does_not_confirm_is_not_stored(case, pacs):
    answer, reason = REFUSALS[case]
    pacs.server.faults["store"] = answer
    with pytest.raises(DataError, match=reason):
        Server(pacs.url).store(pacs.sources[pacs.images[0]], pacs.study)


def test_one_bad_instance_among_good_ones_has_its_line(pacs, make_model, tmp_path):
    bad, good = pacs.images[0], pacs.images[1:]
    content = pacs.server.files[bad]
    pacs.server.faults["fetch"] = lambda one: one.parts(
        content[:300] if bad in one.path else pacs.server.files[one.path.rpartition("/")[2]]
    )
    outputs = Outputs(tmp_path / "out", "dicom-seg")
    summary = predict_series(Server(pacs.url), [pacs.study], make_model("phase1")[0], outputs, store=True)
    assert summary.exit_code == 1 and [uid for uid, _ in summary.failures] == [bad]
    assert str(summary).count(f"failed: {pacs.url}: instance {bad}: ") == 1
    assert sorted(path.stem for path in (tmp_path / "out/masks").iterdir()) == sorted(good)
    assert len(pacs.server.files) == 5 + len(good)
    assert f"series {pacs.series[0]}: found 2, predicted 1, skipped 1, stored 1" in str(summary)


def test_a_server_that_stops_is_asked_no_more(pacs, make_model, tmp_path):
    """While it gives instances all ends; while segmentations are stored, these are on the disk."""
    model = make_model("phase1")[0]

    def hang_up(handler):
        handler.connection.shutdown(socket.SHUT_RDWR)
        handler.close_connection = True

    pacs.server.faults["store"] = hang_up
    outputs = Outputs(tmp_path / "out", "dicom-seg")
    summary = predict_series(Server(pacs.url), [pacs.study], model, outputs, store=True)
    assert summary.exit_code == 1 and len(summary.failures) == 1 and "no answer" in summary.failures[0][1]
    assert len(list((tmp_path / "out/masks").iterdir())) == 3
    assert [kind for kind, _, _ in pacs.server.asked].count("store") == 1
    pacs.server.faults["fetch"] = hang_up
    with pytest.raises(NoAnswerError, match="no answer"):
        predict_series(Server(pacs.url), [pacs.study], model, Outputs(tmp_path / "new"))
    assert not (tmp_path / "new").exists()


def test_the_verb_ends_with_its_exit_codes_and_shows_no_token(pacs, make_model, tmp_path, monkeypatch):
    monkeypatch.setenv(TOKEN, "secret")
    words = ["--model", make_model("phase1")[0], "--dicomweb", pacs.url]
    series = f"{pacs.study}/{pacs.series[1]}"
    done = run_verb(["predict", series, *words, "--format", "dicom-seg", "--store", "--out", "one"], tmp_path)
    assert (done.code, done.err) == (0, "")
    assert done.out.endswith(f"series {pacs.series[1]}: found 1, predicted 1, skipped 0, stored 1\n")
    pacs.server.faults["store"] = lambda one: one.answer(b"", status=401)
    done = run_verb(["predict", series, *words, "--format", "dicom-seg", "--store", "--out", "two"], tmp_path)
    assert done.code == 1 and "predicted 1, skipped 0, stored 0" in done.out and "status 401" in done.out
    pacs.server.faults["list"] = lambda one: one.answer(b"", status=401)
    refused = [run_verb(["predict", series, *words, "--out", "new"], tmp_path)]
    refused += [
        run_verb(["predict", "a.png", "--model", "m.pt", word], tmp_path) for word in ("--store", "--plain_http")
    ]
    for end in refused:
        assert end.code == 1 and end.err.count("\n") == 1 and "Traceback" not in end.err
    assert "status 401" in refused[0].err and "--dicomweb URL" in refused[1].err
    assert not (tmp_path / "new").exists()
    assert not any("secret" in end.out + end.err for end in (done, *refused))
    assert "secret" not in "".join(path.read_text() for path in tmp_path.glob("*/*.json"))


def test_what_a_server_calls_its_instances_forges_no_lines(pacs, make_model, tmp_path):
    items = json.loads(listing(pacs.server.datasets()))
    for number, item in enumerate(one for one in items if one[module.TAGS["Modality"]]["Value"] != ["US"]):
        item[module.TAGS["Modality"]]["Value"] = [f"X{number}\nskipped: \x1b[2J" + "y" * 10**6]
    pacs.server.faults["list"] = lambda handler: handler.answer(json.dumps(items).encode())
    summary = predict_series(Server(pacs.url), [pacs.study], make_model("phase1")[0], Outputs(tmp_path / "out"))
    (line,) = [line for line in str(summary).splitlines() if "left out" in line]
    assert r"X0\nskipped: \x1b[2J" in line and len(line) < 500 and "\x1b" not in str(summary)
