"""Archives made to write elsewhere, or to fill the disk or the memory: told in one line, and nothing is written."""

import io
import os
import struct
import tarfile
import time
import tracemalloc
import zipfile
from pathlib import Path

import pytest

from ultrarefiner_monai.data.releases.archives import unpacked
from ultrarefiner_monai.errors import DataError

pytestmark = pytest.mark.fault(10)
CENTRAL = struct.Struct("<4s4B4HL2L5H2L")  # an entry of a zip's list (APPNOTE 4.3.12)
END = struct.Struct("<4s4H2LH")


@pytest.fixture
def store(tmp_path):
    """The cache, beside a canary that must stay alone."""
    (tmp_path / "outer").mkdir()
    (tmp_path / "outer/canary").write_bytes(b"untouched")
    yield tmp_path / "outer/store"
    assert (tmp_path / "outer/canary").read_bytes() == b"untouched"
    assert {path.name for path in (tmp_path / "outer").iterdir()} <= {"canary", "store"}


def refused(archive: Path, store: Path, match: str) -> None:
    """Refused within fault 25's two seconds and half a gigabyte."""
    tracemalloc.start()
    began = time.process_time()
    with pytest.raises(DataError, match=match) as caught:
        unpacked(archive, store)
    assert time.process_time() - began < 2 and tracemalloc.get_traced_memory()[1] < 512 * 2**20
    tracemalloc.stop()
    assert str(caught.value).isprintable() and not any(store.glob("*"))


@pytest.mark.parametrize("name", ["../canary", "/tmp/canary", "a/../../canary", "a\\..\\..\\canary", "a\ncanary"])
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_names_that_lead_out(kind, name, tmp_path, store):
    if kind == "zip":
        with zipfile.ZipFile(tmp_path / "a", "w") as archive:
            archive.writestr(name, b"changed")
    else:
        with tarfile.open(tmp_path / "a", "w") as archive:
            info = tarfile.TarInfo(name)
            info.size = 7
            archive.addfile(info, io.BytesIO(b"changed"))
    refused(tmp_path / "a", store, "leaves|absolute|no printable name")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices(kind, tmp_path, store):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        info = tarfile.TarInfo("a.png")
        info.type, info.linkname = kind, "../canary"
        archive.addfile(info)
    refused(tmp_path / "a.tar", store, "is a link|is a device")


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_bombs(kind, tmp_path, store):
    zeros = bytes(30_000_000)
    if kind == "zip":
        with zipfile.ZipFile(tmp_path / "a", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a.png", zeros)
    else:
        with tarfile.open(tmp_path / "a", "w:gz") as archive:
            info = tarfile.TarInfo("a.png")
            info.size = len(zeros)
            archive.addfile(info, io.BytesIO(zeros))
    refused(tmp_path / "a", store, "unpacks to more than")


def test_a_million_entries(tmp_path, store):
    """The list alone would take a gigabyte of memory; it is refused by its size."""
    entry = CENTRAL.pack(b"PK\x01\x02", 20, 3, 20, 0, 0, 0, 0, 33, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    size = len(entry) * 1_000_000
    end = END.pack(b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, size, 30, 0)
    (tmp_path / "a.zip").write_bytes(b"PK\x03\x04" + bytes(26) + entry * 1_000_000 + end)
    refused(tmp_path / "a.zip", store, f"a list of entries of {size} bytes")


def test_headers_that_continue_each_other(tmp_path, store):
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, 12
    chained = (header.tobuf(tarfile.USTAR_FORMAT) + b"12 path=abc\n".ljust(512, b"\0")) * 3000
    (tmp_path / "a.tar").write_bytes(chained + tarfile.TarInfo("y").tobuf() + bytes(1024))
    refused(tmp_path / "a.tar", store, "damaged, incomplete or packed in an unknown way")


@pytest.mark.parametrize(
    "headers",
    [
        {"size": "99999999999999"},
        {"size": "-1"},
        {"path": "../canary"},
        {"linkpath": "../canary", "path": "/canary"},
        {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "../canary", "GNU.sparse.realsize": "9"},
        {"GNU.sparse.map": "0,1,999999999999,1", "GNU.sparse.size": "999999999999"},
    ],
)
def test_pax_headers(headers, tmp_path, store):
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        info = tarfile.TarInfo("a.png")
        info.size, info.pax_headers = 7, headers
        archive.addfile(info, io.BytesIO(b"changed"))
    refused(tmp_path / "a.tar", store, "damaged|more than|leaves|absolute|special")


def test_an_archive_in_an_archive_stays_one(tmp_path, store):
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("../canary", b"changed")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("inner.zip", inner.getvalue())
    assert [path.name for path in unpacked(tmp_path / "a.zip", store).iterdir()] == ["inner.zip"]


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("names", [("a.png", "a.png"), ("a.png", "A.PNG"), ("a", "a/b.png"), ("ß.png", "SS.png")])
def test_names_that_clash(names, tmp_path, store):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in names:
            archive.writestr(name, os.urandom(100))
    refused(tmp_path / "a.zip", store, "occurs twice|lies in a file")


def test_a_cache_with_a_damaged_list_is_unpacked_again(tmp_path, store):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.png", b"abc")
    folder = unpacked(tmp_path / "a.zip", store)
    for content in (b'{"a\\u0000": 1}', b'{"../../canary": 9}', b"[", b"", b'{"a.png": "3"}'):
        (folder.parent / "contents.json").write_bytes(content)
        assert (unpacked(tmp_path / "a.zip", store) / "a.png").read_bytes() == b"abc"
