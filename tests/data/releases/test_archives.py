"""Archives are unpacked completely or not at all, and never anywhere else."""

import io
import os
import resource
import shutil
import signal
import stat
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from ultrarefiner_monai.data.releases import archives
from ultrarefiner_monai.data.releases.archives import contents, unpacked
from ultrarefiner_monai.data.releases.readers import find_root
from ultrarefiner_monai.errors import DataError

NOISE = os.urandom(5000)  # does not compress, like a picture
RELEASE = {"BUS/original/1.png": NOISE, "BUS/GT/1.png": NOISE[:100], "BUS/notes.txt": b"two files"}
CANARY = b"untouched"


def write_zip(path: Path, files: Mapping[str, bytes], **attributes: int) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo("placeholder")
            info.filename = info.orig_filename = name  # the constructor would cut and convert some of the names
            info.compress_type = zipfile.ZIP_DEFLATED
            for key, value in attributes.items():
                setattr(info, key, value)
            archive.writestr(info, content)
    return path


def write_tar(path: Path, files: Mapping[str, bytes], mode: str = "w:gz", **attributes: object) -> Path:
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            for key, value in attributes.items():
                setattr(info, key, value)
            archive.addfile(info, io.BytesIO(content))
    return path


def listing(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Path]:
    """The cache, two levels down among canaries that must all be there, alone and unchanged, after the test."""
    folder = tmp_path / "outer" / "inner" / "store"
    folder.mkdir(parents=True)
    canaries = [parent / "canary" for parent in folder.parents[:3]]
    for canary in canaries:
        canary.write_bytes(CANARY)
    yield folder
    assert all(canary.read_bytes() == CANARY for canary in canaries)
    assert [child.name for child in sorted((tmp_path / "outer").iterdir())] == ["canary", "inner"]
    assert [child.name for child in sorted((tmp_path / "outer/inner").iterdir())] == ["canary", "store"]


def refused(archive: Path, store: Path, match: str) -> None:
    with pytest.raises(DataError, match=match) as caught:
        unpacked(archive, store)
    assert "\n" not in str(caught.value)
    assert str(archive) in str(caught.value) or "archive entry" in str(caught.value)
    assert list(store.iterdir()) == []


@pytest.mark.parametrize("suffix", ["zip", "tar", "tar.gz", "tar.bz2", "tar.xz"])
def test_every_kind_is_unpacked_once(suffix: str, tmp_path: Path, store: Path) -> None:
    path = tmp_path / f"BUS.{suffix}"
    mode = f"w:{suffix.partition('.')[2]}"
    archive = write_zip(path, RELEASE) if suffix == "zip" else write_tar(path, RELEASE, mode)
    folder = unpacked(archive, store)
    assert listing(folder) == RELEASE
    assert find_root("BUS", folder) == folder / "BUS"
    before = {path: path.stat().st_ino for path in folder.rglob("*")}
    assert unpacked(archive, store) == folder
    assert {path: path.stat().st_ino for path in folder.rglob("*")} == before  # used again, not written again
    assert [child for child in store.iterdir() if child != folder.parent] == []


def test_the_default_cache_is_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = unpacked(write_zip(tmp_path / "a.zip", RELEASE))
    assert folder.is_relative_to(tmp_path / "cache/ultrarefiner_monai/archives")


def test_an_archive_in_place_of_a_release_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert find_root("BUS", write_zip(tmp_path / "BUS.zip", RELEASE)).name == "BUS"


def test_other_contents_are_another_folder(tmp_path: Path, store: Path) -> None:
    first = unpacked(write_zip(tmp_path / "a.zip", RELEASE), store)
    second = unpacked(write_zip(tmp_path / "a.zip", {**RELEASE, "BUS/notes.txt": b"other"}), store)
    assert first != second
    assert listing(first) == RELEASE


def test_backslashes_become_folders(tmp_path: Path, store: Path) -> None:
    files = {name.replace("/", "\\"): content for name, content in RELEASE.items()} | {"BUS\\GT\\": b""}
    assert listing(unpacked(write_zip(tmp_path / "a.zip", files), store)) == RELEASE


def test_leading_dots_and_folder_entries_are_harmless(tmp_path: Path, store: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as archive:
        for name in (".", "./BUS", "./BUS"):
            folder = tarfile.TarInfo(name)
            folder.type = tarfile.DIRTYPE
            archive.addfile(folder)
        info = tarfile.TarInfo("./BUS/1.png")
        info.size = 3
        archive.addfile(info, io.BytesIO(b"abc"))
    assert listing(unpacked(path, store)) == {"BUS/1.png": b"abc"}


def test_what_file_managers_leave_behind_is_left_out(tmp_path: Path, store: Path) -> None:
    junk = ("__MACOSX/BUS/._1.png", "BUS/._1.png", "BUS/.DS_Store", "BUS/GT/Thumbs.db", "BUS/desktop.ini")
    archive = write_zip(tmp_path / "a.zip", {**RELEASE, **dict.fromkeys(junk, b"junk")})
    assert listing(unpacked(archive, store)) == RELEASE


ESCAPES = {
    "../canary": "leaves",
    "BUS/../../../canary": "leaves",
    "..\\..\\canary": "leaves",
    "__MACOSX/../../canary": "leaves",
    "/canary": "is absolute",
    "\\canary": "is absolute",
    "\\\\server\\share\\canary": "is absolute",
    "C:\\canary": "is absolute",
    "C:canary": "is absolute",
    "": "is not text",
    "BUS/one\nline.png": "no printable name",
}


@pytest.mark.parametrize("write", [write_zip, write_tar])
@pytest.mark.parametrize("name", ESCAPES)
def test_names_that_lead_out(name: str, write: Callable[..., Path], tmp_path: Path, store: Path) -> None:
    refused(write(tmp_path / "a", {**RELEASE, name: b"changed"}), store, ESCAPES[name])


@pytest.mark.parametrize("write", [write_zip, write_tar])
def test_the_canarys_own_path(write: Callable[..., Path], tmp_path: Path, store: Path) -> None:
    refused(write(tmp_path / "a", {str(store.parent / "canary"): b"changed"}), store, "is absolute")


def test_a_nul_in_a_name(tmp_path: Path, store: Path) -> None:
    refused(write_zip(tmp_path / "a.zip", {"BUS/1.png\0.exe": b""} | RELEASE), store, "no printable name")


def test_a_name_that_is_no_unicode(tmp_path: Path, store: Path) -> None:
    refused(write_tar(tmp_path / "a.tar", {"BUS/\udcff.png": b"", **RELEASE}), store, "no printable name")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO, stat.S_IFSOCK])
def test_zip_links_and_devices(kind: int, tmp_path: Path, store: Path) -> None:
    archive = write_zip(tmp_path / "a.zip", {"link": b"../../canary"}, external_attr=(kind | 0o777) << 16)
    refused(archive, store, "'link' is a link" if kind == stat.S_IFLNK else "'link' is a device")


@pytest.mark.parametrize(
    ("kind", "match"),
    [
        (tarfile.SYMTYPE, "is a link"),
        (tarfile.LNKTYPE, "is a link"),
        (tarfile.CHRTYPE, "is a device"),
        (tarfile.BLKTYPE, "is a device"),
        (tarfile.FIFOTYPE, "is a device"),
        (tarfile.GNUTYPE_SPARSE, "is a device"),
    ],
)
def test_tar_links_and_devices(kind: bytes, match: str, tmp_path: Path, store: Path) -> None:
    refused(write_tar(tmp_path / "a.tar", {"x": b""}, type=kind, linkname="../../canary"), store, match)


def test_a_link_and_a_file_through_it(tmp_path: Path, store: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        link = tarfile.TarInfo("BUS")
        link.type, link.linkname = tarfile.SYMTYPE, str(store.parent)
        archive.addfile(link)
        file = tarfile.TarInfo("BUS/canary")
        file.size = 7
        archive.addfile(file, io.BytesIO(b"changed"))
    refused(tmp_path / "a.tar", store, "'BUS' is a link")


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("names", [("a/1.png", "a/1.png"), ("a/1.png", "A/1.PNG"), ("a/1.png", "a\\1.png")])
def test_repeated_names(names: tuple[str, str], tmp_path: Path, store: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in names:
            archive.writestr(name, NOISE)
    refused(tmp_path / "a.zip", store, "occurs twice")


@pytest.mark.parametrize("order", [1, -1])
def test_a_file_that_is_also_a_folder(order: int, tmp_path: Path, store: Path) -> None:
    files = dict([("BUS", NOISE), ("BUS/1.png", NOISE)][::order])
    refused(write_zip(tmp_path / "a.zip", files), store, "'BUS/1.png' lies in a file")


def test_all_faults_are_told_at_once(tmp_path: Path, store: Path) -> None:
    archive = write_zip(tmp_path / "a.zip", {"../a": b"", "/b": b"", "c/../../d": b"", **RELEASE})
    with pytest.raises(DataError) as caught:
        unpacked(archive, store)
    assert len(caught.value.problems) == 3


def flip(path: Path, find: bytes, replacement: bytes, which: int = 0) -> None:
    """Replace an occurrence of `find` in a file by other bytes; -1 is the last one."""
    data = bytearray(path.read_bytes())
    at = data.rfind(find) if which == -1 else data.find(find)
    assert at >= 0
    data[at : at + len(replacement)] = replacement
    path.write_bytes(data)


def test_an_encrypted_entry(tmp_path: Path, store: Path) -> None:
    archive = write_zip(tmp_path / "a.zip", RELEASE)
    data = bytearray(archive.read_bytes())
    data[data.find(b"PK\x01\x02") + 8] |= 1  # general purpose flags of the first central header
    archive.write_bytes(data)
    refused(archive, store, "'BUS/original/1.png' is encrypted")


@pytest.mark.parametrize("write", [write_zip, write_tar])
def test_a_bomb(write: Callable[..., Path], tmp_path: Path, store: Path) -> None:
    archive = write(tmp_path / "a", {"zeros.png": bytes(20_000_000)})
    assert archive.stat().st_size < 30_000
    refused(archive, store, "unpacks to more than .* check its source")


def test_blank_masks_are_no_bomb(tmp_path: Path, store: Path) -> None:
    files = {f"original/{n}.bmp": os.urandom(50_000) for n in range(4)} | {
        f"GT/{n}.bmp": bytes(50_000) for n in range(4)
    }
    assert listing(unpacked(write_zip(tmp_path / "a.zip", files), store)) == files


def test_the_size_cap(tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_BYTES", 5108)  # RELEASE holds 5 109
    refused(write_tar(tmp_path / "a.tar", RELEASE, "w:"), store, "unpacks to more than")
    monkeypatch.setattr(archives, "MAX_BYTES", 5109)
    assert listing(unpacked(tmp_path / "a.tar", store)) == RELEASE


def test_too_many_entries(tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_ENTRIES", 2)
    refused(write_zip(tmp_path / "a.zip", RELEASE), store, "more than 2 entries")


def test_a_declared_size_that_lies(tmp_path: Path, store: Path) -> None:
    archive = write_zip(tmp_path / "a.zip", RELEASE)
    flip(archive, len(NOISE).to_bytes(4, "little"), (10).to_bytes(4, "little"), -1)  # in the central directory
    assert contents(archive)["BUS/original/1.png"] == 10
    refused(archive, store, "damaged|holds more")


def test_no_more_is_written_than_declared(tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = write_zip(tmp_path / "a.zip", RELEASE)
    monkeypatch.setattr(archives, "contents", lambda _: dict.fromkeys(RELEASE, 7))
    refused(archive, store, "declares 7 bytes and holds more")


def test_less_than_declared(tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = write_zip(tmp_path / "a.zip", RELEASE)
    monkeypatch.setattr(archives, "contents", lambda _: dict.fromkeys(RELEASE, 9999))
    refused(archive, store, "shorter than declared")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("suffix", ["zip", "tar", "tar.gz", "tar.bz2", "tar.xz"])
def test_half_a_download(suffix: str, share: float, tmp_path: Path, store: Path) -> None:
    path = tmp_path / f"BUS.{suffix}"
    files = {f"BUS/{number}.png": os.urandom(3000) for number in range(20)}
    archive = write_zip(path, files) if suffix == "zip" else write_tar(path, files, f"w:{suffix.partition('.')[2]}")
    data = path.read_bytes()
    if suffix == "tar":
        data = data[: 20 * (512 + 3072)]  # without the padding, whose loss would lose nothing
    path.write_bytes(data[: int(share * len(data))])
    refused(archive, store, "damaged")


@pytest.mark.parametrize("blocks", [1, 7, 20])
def test_a_tar_cut_between_two_files(blocks: int, tmp_path: Path, store: Path) -> None:
    archive = write_tar(tmp_path / "a.tar", {f"{number}.png": NOISE[:512] for number in range(20)}, "w:")
    archive.write_bytes(archive.read_bytes()[: blocks * 1024])
    refused(archive, store, "damaged")


@pytest.mark.parametrize("suffix", ["zip", "tar.gz", "tar.bz2", "tar.xz"])
def test_a_flipped_byte(suffix: str, tmp_path: Path, store: Path) -> None:
    path = tmp_path / f"BUS.{suffix}"
    archive = write_zip(path, RELEASE) if suffix == "zip" else write_tar(path, RELEASE, f"w:{suffix.partition('.')[2]}")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)
    refused(archive, store, "damaged")


def test_a_damaged_tar_header_is_not_taken_for_the_end(tmp_path: Path, store: Path) -> None:
    archive = write_tar(tmp_path / "a.tar", RELEASE, "w:")
    flip(archive, b"BUS/GT", b"BUS/gT")  # the second header's checksum is now wrong
    with tarfile.open(archive) as plain:
        assert len(plain.getmembers()) == 1  # what the standard library makes of it, without a word
    refused(archive, store, "damaged")


@pytest.mark.parametrize("content", [b"", b"Rar!\x1a\x07\x00" + NOISE, b"PK", bytes(4096), b"\x1f\x8b\x08\x00" + NOISE])
def test_files_that_are_no_archives(content: bytes, tmp_path: Path, store: Path) -> None:
    (tmp_path / "BUS.rar").write_bytes(content)
    refused(tmp_path / "BUS.rar", store, "another kind of file|holds no files|damaged, incomplete")


def test_empty_archives(tmp_path: Path, store: Path) -> None:
    refused(write_zip(tmp_path / "a.zip", {}), store, "holds no files")
    refused(write_zip(tmp_path / "b.zip", {"__MACOSX/._1.png": NOISE}), store, "holds no files")


def test_no_such_file(tmp_path: Path, store: Path) -> None:
    refused(tmp_path / "BUS.zip", store, "no such file")
    refused(tmp_path, store, "no such file")


def test_an_unknown_method_of_compression(tmp_path: Path, store: Path) -> None:
    archive = write_zip(tmp_path / "a.zip", RELEASE)
    data = bytearray(archive.read_bytes())
    at = data.find(b"PK\x01\x02")
    data[at + 10], data[8] = 9, 9  # Deflate64, in the central and the local header
    archive.write_bytes(data)
    refused(archive, store, "packed in an unknown way")


def test_a_full_disk(tmp_path: Path, store: Path) -> None:
    archive = write_zip(tmp_path / "a.zip", RELEASE)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        refused(archive, store, "cannot be unpacked into .*File too large.*make room there")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_cache_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataError, match="cannot be unpacked into"):
        unpacked(write_zip(tmp_path / "a.zip", RELEASE), tmp_path / "file" / "cache")


def test_a_cache_that_lost_a_file_is_filled_again(tmp_path: Path, store: Path) -> None:
    archive = write_zip(tmp_path / "a.zip", RELEASE)
    folder = unpacked(archive, store)
    (folder / "BUS/GT/1.png").unlink()
    assert listing(unpacked(archive, store)) == RELEASE
    (folder.parent / archives.CONTENTS).write_text("[")
    assert listing(unpacked(archive, store)) == RELEASE
    assert len(list(store.iterdir())) == 1


def test_another_process_that_is_faster(tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = write_zip(tmp_path / "a.zip", RELEASE)
    write_files, inodes = archives._write_files, []

    def overtaken(*args: object) -> None:
        monkeypatch.setattr(archives, "_write_files", write_files)
        inodes.append((unpacked(archive, store) / "BUS/notes.txt").stat().st_ino)
        write_files(*args)

    monkeypatch.setattr(archives, "_write_files", overtaken)
    folder = unpacked(archive, store)
    assert [(folder / "BUS/notes.txt").stat().st_ino] == inodes  # the first one's files, which may be in use
    assert listing(folder) == RELEASE
    assert len(list(store.iterdir())) == 1


SCRIPT = "import sys; from ultrarefiner_monai.data.releases.archives import unpacked; print(unpacked(sys.argv[1], sys.argv[2]))"


def test_processes_at_once(tmp_path: Path, store: Path) -> None:
    archive = write_zip(tmp_path / "a.zip", {f"{number}.png": NOISE for number in range(200)})
    command = [sys.executable, "-c", SCRIPT, str(archive), str(store)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    outputs = {process.communicate(timeout=60)[0].strip() for process in processes}
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert len(outputs) == 1
    assert len(listing(Path(outputs.pop()))) == 200
    assert len(list(store.iterdir())) == 1


SLOW = (
    "import sys, time; from ultrarefiner_monai.data.releases import archives; write = archives._write_file\n"
    "def slow(*args):\n    written = write(*args); print('written', flush=True); time.sleep(0.5); return written\n"
    "archives._write_file = slow; archives.unpacked(sys.argv[1], sys.argv[2])"
)


def test_a_killed_process_leaves_nothing_that_counts(tmp_path: Path, store: Path) -> None:
    archive = write_zip(tmp_path / "a.zip", {f"{number}.png": NOISE for number in range(50)})
    command = [sys.executable, "-c", SLOW, str(archive), str(store)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "written\n"
        process.send_signal(signal.SIGKILL)
    (partial,) = store.iterdir()
    assert partial.name.endswith(".partial")
    assert len(listing(unpacked(archive, store))) == 50
    assert partial.exists()  # it might be a running process's
    os.utime(partial, (time.time() - archives.STALE - 1,) * 2)
    shutil.rmtree(unpacked(archive, store).parent)
    unpacked(archive, store)
    assert not partial.exists()


def test_nothing_is_printed_off_a_terminal(tmp_path: Path, store: Path, capfd: pytest.CaptureFixture[str]) -> None:
    unpacked(write_zip(tmp_path / "a.zip", RELEASE), store)
    assert capfd.readouterr() == ("", "")
