"""Listings, files and segmentations of a server that does what it should, and URLs that are refused."""

import numpy as np
import pytest

from ultrarefiner_monai.errors import DataError

pytest.importorskip("dicomweb_client", reason="DICOM is an optional extra")
from made_dicom import write_dicom

from ultrarefiner_monai.deploy.dicomweb import server as module
from ultrarefiner_monai.deploy.dicomweb.server import Server, is_uid


@pytest.mark.parametrize("page", [2, 500])
def test_a_study_is_listed_page_by_page(page, pacs, monkeypatch):
    monkeypatch.setattr(module, "PAGE", page)
    found = Server(pacs.url).instances(pacs.study)
    assert {one.uid for one in found} == pacs.sources.keys() and len(found) == 5
    assert {one.study for one in found} == {pacs.study}
    assert sorted(one.modality for one in found) == ["CT", "SR", "US", "US", "US"]


def test_a_series_is_listed_alone(pacs):
    (found,) = Server(pacs.url).instances(pacs.study, pacs.series[1])
    assert (found.series, found.uid) == (pacs.series[1], pacs.images[2])
    assert Server(pacs.url).instances(pacs.study, "1.2.3.9") == []


def test_a_file_is_fetched_as_it_is(pacs):
    server = Server(f"{pacs.url}/")
    for one in server.instances(pacs.study):
        assert server.fetch(one) == pacs.sources[one.uid].read_bytes()


def test_a_file_is_stored_in_its_study(pacs, tmp_path):
    path = write_dicom(tmp_path / "new.dcm", np.zeros((4, 4), np.uint8), StudyInstanceUID=pacs.study)
    Server(pacs.url).store(path, pacs.study)
    assert path.read_bytes() in pacs.server.files.values()
    assert pacs.server.asked[-1][:2] == ("store", f"/dicom-web/studies/{pacs.study}")


@pytest.mark.parametrize("uid", ["1", "1.2.840.10008", "0.1", "9" * 64])
def test_digits_and_dots_are_an_identifier(uid):
    assert is_uid(uid)


@pytest.mark.parametrize(
    "text", ["", ".", "..", "1.", ".1", "1..2", "1/2", "1.2\n", "1.2a", "²", "٣", "9" * 65, "1.2 "]
)
def test_other_texts_are_none(text):
    assert not is_uid(text)


@pytest.mark.parametrize(
    "url",
    [
        "https://pacs.example.org",
        "https://pacs/dicom-web/",
        "http://localhost:8042/dicom-web",
        "http://127.0.0.2/x",
        "https://pacs_1:8042",
    ],
)
def test_https_and_loopback_are_taken(url):
    assert Server(url).url == url.rstrip("/")


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://pacs.example.org/dicom-web", "http can be read on the way; take https, or --plain_http"),
        ("http://127.0.0.1.example.org/", "http can be read on the way"),
        ("http://localhost.example.org/", "http can be read on the way"),
        ("pacs.example.org/dicom-web", "expected https://HOST"),
        ("ftp://pacs/", "expected https://HOST"),
        ("file:///etc/passwd", "expected https://HOST"),
        ("HTTPS://pacs/", "expected https://HOST"),
        ("https://", "expected https://HOST"),
        ("https://pacs:port/", "expected https://HOST"),
        ("https://[::1]/", "expected https://HOST"),
        ("https://pacs/x?token=secret", "expected https://HOST"),
        ("https://pacs#x", "expected https://HOST"),
    ],
)
def test_other_urls_are_refused(url, reason):
    with pytest.raises(DataError, match=reason):
        Server(url)


def test_plain_http_can_be_asked_for():
    assert Server("http://pacs.example.org", plain_http=True).url == "http://pacs.example.org"


@pytest.mark.parametrize("url", ["https://reader:secret@pacs/", "https://secret@pacs/", "http://a:secret@127.0.0.1/"])
def test_a_url_with_a_password_is_refused_without_being_shown(url):
    with pytest.raises(DataError, match="user or password in the URL") as refused:
        Server(url)
    assert "secret" not in str(refused.value)
