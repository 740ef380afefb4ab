"""Whatever the bytes of a listed file are, reading it gives a picture or one problem of the right kind."""

import hashlib
import io
import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ultrarefiner_monai.data.integrity.listed_files import Reading, read_listed


def _picture(form: str, mode: str = "L", **options: object) -> bytes:
    values = np.random.default_rng(0).integers(0, 256, (20, 30), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(values).convert(mode).save(stream, form, **options)
    return stream.getvalue()


def _read(content: bytes, folder: Path, sha256: str | None = None) -> Reading:
    name = {b"BM": "a.bmp", b"\xff\xd8": "a.jpg", b"II": "a.tif"}.get(content[:2], "a.png")
    (folder / name).write_bytes(content)
    return read_listed(folder, name, sha256)


def test_a_sound_file(tmp_path: Path) -> None:
    content = _picture("PNG")
    reading = _read(content, tmp_path, hashlib.sha256(content).hexdigest())
    assert (reading.problem, reading.changed, reading.size) == (None, False, (30, 20))
    assert (reading.planes[..., 0] == np.asarray(Image.open(io.BytesIO(content)))).all()
    assert _read(content + b"\0", tmp_path, hashlib.sha256(content).hexdigest()).changed
    assert not _read(content, tmp_path).changed  # no hash is known


def test_an_empty_file(tmp_path: Path) -> None:
    reading = _read(b"", tmp_path)
    assert reading.problem is not None
    assert (reading.problem.kind, reading.problem.message[:15]) == ("empty", "empty (0 bytes)")


@pytest.mark.parametrize("lost", [1, 4, 12, 13, 100, 400])
@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_truncated_files(form: str, lost: int, tmp_path: Path) -> None:
    reading = _read(_picture(form)[:-lost], tmp_path)
    assert reading.problem is not None
    assert reading.problem.kind == "truncated"


def test_a_cut_that_pillow_does_not_notice(tmp_path: Path) -> None:
    cut = _picture("PNG")[:-12]
    with Image.open(io.BytesIO(cut)) as image:
        image.load()
    reading = _read(cut, tmp_path)
    assert reading.problem is not None
    assert reading.problem.kind == "truncated"


def test_a_truncated_bitmap(tmp_path: Path) -> None:
    reading = _read(_picture("BMP")[:-50], tmp_path)
    assert reading.problem is not None
    assert reading.problem.kind == "truncated"


def test_unreadable_files_tell_no_path(tmp_path: Path) -> None:
    flipped = bytearray(_picture("PNG"))
    flipped[60] ^= 255
    stream = io.BytesIO()
    Image.fromarray(np.float32([[-1, 0]])).save(stream, "TIFF")
    for content in (b"no picture", bytes(flipped), stream.getvalue()):
        reading = _read(content, tmp_path)
        assert reading.problem is not None
        assert reading.problem.kind == "unreadable"
        assert reading.problem.message.endswith(("; copy it again from the release", "; save it with 8 or 16 bits"))
        assert str(tmp_path) not in reading.problem.message
        assert "BytesIO" not in reading.problem.message


def test_a_folder_or_nothing_is_missing(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for path in ("folder", "none.png"):
        problem = read_listed(tmp_path, path, None).problem
        assert problem is not None
        assert problem.kind == "missing"


def test_a_file_that_cannot_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").touch()

    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    problem = read_listed(tmp_path, "a.png", None).problem
    assert problem is not None
    assert (problem.kind, problem.message) == ("unreadable", "cannot be read (Permission denied)")


def test_a_name_too_long_for_the_file_system(tmp_path: Path) -> None:
    problem = read_listed(tmp_path, "a" * 5000, None).problem
    assert problem is not None
    assert problem.kind == "unsafe_path"


def test_ways_out_of_the_root(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "outside.png").write_bytes(_picture("PNG"))
    (root / "link.png").symlink_to(tmp_path / "outside.png")
    (root / "loop.png").symlink_to(root / "loop.png")
    (root / "inside.png").write_bytes(_picture("PNG"))
    (root / "alias.png").symlink_to(root / "inside.png")
    for path in ("link.png", "loop.png", "../outside.png", "/etc/hosts", "a\\b", "a\0"):
        problem = read_listed(root, path, None).problem
        assert problem is not None
        assert problem.kind == "unsafe_path"
        assert str(tmp_path) not in problem.message
    assert read_listed(root, "alias.png", None).problem is None


def test_a_path_of_another_release_than_the_combined_ones(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(_picture("PNG"))
    root = {"BUS": tmp_path, "UDIAT": tmp_path}
    assert read_listed(root, "UDIAT/a.png", None).problem is None
    problem = read_listed(root, "BUSI/a.png", None).problem
    assert problem is not None
    assert (problem.kind, problem.message) == ("unsafe_path", "path 'BUSI/a.png' starts with none of BUS, UDIAT")


@pytest.mark.filterwarnings("ignore")  # Pillow warns of what it then reads
@pytest.mark.parametrize(("form", "mode"), [("PNG", "P"), ("PNG", "1"), ("JPEG", "RGB"), ("BMP", "P"), ("TIFF", "RGB")])
def test_no_damage_ends_in_a_foreign_error(form: str, mode: str, tmp_path: Path) -> None:
    content, draw = _picture(form, mode), random.Random(0)
    kinds = set()
    for _ in range(60):
        damaged = bytearray(content[: draw.randrange(1, len(content))] if draw.random() < 0.3 else content)
        damaged[draw.randrange(min(len(damaged), 200))] = draw.randrange(256)
        problem = _read(bytes(damaged), tmp_path).problem
        kinds.add(problem.kind if problem else "")
    assert kinds <= {"", "truncated", "unreadable"}
    assert len(kinds) > 1
