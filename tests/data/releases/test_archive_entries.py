"""Entries of hostile and of ordinary archives, as they are listed."""

import tarfile
import zipfile
from pathlib import Path

import pytest

from ultrarefiner_monai.data.releases.archive_entries import MAX_HEADER, entries


def test_zip_and_tar_list_the_same(tmp_path: Path) -> None:
    folder = tmp_path / "BUS"
    (folder / "GT").mkdir(parents=True)
    (folder / "GT/1.png").write_bytes(b"mask")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for path in (folder, folder / "GT", folder / "GT/1.png"):
            archive.write(path, path.relative_to(tmp_path))
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        archive.add(folder, "./BUS")
    for name in ("a.zip", "a.tar.gz"):
        found = [(entry.path, entry.is_folder, entry.size, entry.fault) for entry in entries(tmp_path / name)]
        assert found == [("BUS", True, 0, ""), ("BUS/GT", True, 0, ""), ("BUS/GT/1.png", False, 4, "")]


def test_bytes_are_read_while_iterating(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar.xz", "w:xz") as archive:
        for name in "ab":
            (tmp_path / name).write_bytes(name.encode() * 512)
            archive.add(tmp_path / name, name)
    read = {}
    for entry in entries(tmp_path / "a.tar.xz"):
        with entry.open() as stream:
            read[entry.path] = stream.read()
    assert read == {"a": b"a" * 512, "b": b"b" * 512}


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_header_that_would_fill_the_memory(kind: bytes, tmp_path: Path) -> None:
    header = tarfile.TarInfo("x")
    header.type, header.size = kind, MAX_HEADER + 1
    file = tarfile.TarInfo("1.png")
    (tmp_path / "a.tar").write_bytes(file.tobuf() + header.tobuf() + bytes(10240))
    with pytest.raises(tarfile.ReadError, match=f"header of {MAX_HEADER + 1} bytes"):
        list(entries(tmp_path / "a.tar"))


def test_a_negative_size_is_no_endless_loop(tmp_path: Path) -> None:
    file, back = tarfile.TarInfo("1.png"), tarfile.TarInfo("2.png")
    back.size = -1024
    (tmp_path / "a.tar").write_bytes(file.tobuf() + back.tobuf(tarfile.GNU_FORMAT) + bytes(10240))
    with pytest.raises(tarfile.ReadError, match="header of -1024 bytes"):
        list(entries(tmp_path / "a.tar"))


def test_long_and_foreign_names_survive(tmp_path: Path) -> None:
    name = "BUS/" + "lésion_" * 30 + ".png"
    for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        with tarfile.open(tmp_path / "a.tar", "w", format=form) as archive:
            archive.addfile(tarfile.TarInfo(name))
        assert [entry.path for entry in entries(tmp_path / "a.tar")] == [name]
