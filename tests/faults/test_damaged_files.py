"""Archives, weights, caches and tables that were damaged at random: refused in one line, or made anew."""

import io
import logging
import shutil
import sqlite3
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from fuzzing import fuzz, mutated_bytes, mutated_document
from PIL import Image
from safetensors.torch import save_file

from ultrarefiner_monai.bundle.embeddings import EmbeddingCache
from ultrarefiner_monai.data.releases.archives import unpacked
from ultrarefiner_monai.data.releases.fact_cache import FactCache
from ultrarefiner_monai.data.releases.image_facts import measure
from ultrarefiner_monai.data.releases.inventory import COLUMNS, read_inventory
from ultrarefiner_monai.data.releases.own import OwnOptions, scan
from ultrarefiner_monai.data.releases.own.table import read_own_table
from ultrarefiner_monai.data.releases.readers.tables import read_table
from ultrarefiner_monai.data.releases.records import Source
from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.files import write_json
from ultrarefiner_monai.metrics.scores_file import read_rows, write_rows
from ultrarefiner_monai.models.weights import read_torch
from ultrarefiner_monai.networks import build_sam
from ultrarefiner_monai.networks.sam.weights import load_checkpoint
from ultrarefiner_monai.networks.transunet import build_transunet
from ultrarefiner_monai.networks.transunet_npz import load_npz
from ultrarefiner_monai.tracking.metrics_file import METRICS, append_record, read_epochs

pytestmark = pytest.mark.fault(29)
KEY = "ab" + "0" * 62
FILES = {"BUS/original/1.png": bytes(range(256)) * 4, "BUS/GT/1.png": b"mask" * 100, "BUS/notes.txt": b"two files"}


@pytest.fixture
def fuzzed(fuzz_cases, tmp_path, request):
    """Give a parser a file, damaged at random; print what became of all, and fail on a fault."""

    def run(name, content, parse, refusals=(DataError,)):
        path = tmp_path / name

        def parse_file(case):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(case)
            parse(path)

        logging.disable(logging.WARNING)
        try:
            outcome = fuzz(parse_file, lambda generator: mutated_bytes(content, generator), fuzz_cases, refusals)
        finally:
            logging.disable(logging.NOTSET)
        print(f"{request.node.callspec.id if hasattr(request.node, 'callspec') else request.node.name}: {outcome}")
        assert not outcome.faults, outcome.faults[:10]

    return run


def packed(kind: str, path: Path) -> bytes:
    """The bytes of a small archive."""
    if kind == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in FILES.items():
                archive.writestr(name, content)
    else:
        with tarfile.open(path, f"w:{kind.partition('.')[2]}", format=tarfile.PAX_FORMAT) as archive:
            for name, content in FILES.items():
                info = tarfile.TarInfo(name)
                info.size, info.pax_headers = len(content), {"comment": "a" * 20}
                archive.addfile(info, io.BytesIO(content))
    return path.read_bytes()


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz", "tar.bz2", "tar.xz"])
def test_archives(kind, fuzzed, tmp_path, monkeypatch):
    monkeypatch.setattr("os.sync", lambda: None)
    outside = tmp_path / "outside"

    def parse(path):
        try:
            unpacked(path, outside / "store")
        finally:
            assert [one.name for one in outside.iterdir()] == ["store"] if outside.exists() else True
            shutil.rmtree(outside, ignore_errors=True)

    fuzzed(f"in/a.{kind}", packed(kind, tmp_path / "a"), parse)


def test_checkpoints(fuzzed, tmp_path):
    optimizer = {"state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.ones(4, 4)}}, "param_groups": [{"lr": 0.1}]}
    torch.save({"network": {"a": torch.ones(8, 8)}, "optimizer": optimizer, "epoch": 3}, tmp_path / "a.pt")
    fuzzed("m.pt", (tmp_path / "a.pt").read_bytes(), read_torch)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("zipped", [True, False])
def test_weights_of_sam(zipped, fuzzed, tmp_path):
    sam = build_sam("tiny", image_size=64)
    few = dict(list(sam.state_dict().items())[:6])
    torch.save(few, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    fuzzed("m.pth", (tmp_path / "a.pth").read_bytes(), lambda path: load_checkpoint(sam, path), (ValueError,))


def test_safetensors(fuzzed, tmp_path):
    save_file({"a": torch.ones(8, 8), "b": torch.zeros(3, dtype=torch.int64)}, tmp_path / "a.safetensors", {"k": "v"})
    fuzzed("m.safetensors", (tmp_path / "a.safetensors").read_bytes(), read_torch)


def test_weights_of_transunet(fuzzed, tmp_path):
    network = build_transunet("tiny", 64)
    np.savez(tmp_path / "a.npz", **{"embedding/kernel": np.ones((1, 1, 8, 8), np.float32), "cls": np.zeros((1, 1, 8))})
    fuzzed("m.npz", (tmp_path / "a.npz").read_bytes(), lambda path: load_npz(network, path), (ValueError,))


def test_cached_embeddings(fuzzed, tmp_path):
    cache = EmbeddingCache(tmp_path, "signature")
    embedding = np.ones((16, 4, 4), np.float16)
    cache.put(KEY, embedding)
    name = f"{KEY[:2]}/{KEY}.npz"

    def parse(path):
        found = cache.get(KEY)
        assert found is None or found.tobytes() == embedding.tobytes()

    fuzzed(name, (tmp_path / name).read_bytes(), parse)


def test_cached_facts(fuzzed, tmp_path):
    """Damage is never told as an error: the files are read anew, and what the cache says is what they hold."""
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(tmp_path / "a.png")
    Image.new("L", (8, 8), 255).save(tmp_path / "m.png")
    sources, cache = [Source("a", "a.png", ("m.png",), "benign")], FactCache(tmp_path / "cache")
    measure(sources, tmp_path, cache, workers=1)

    def parse(path):
        records, bad = measure(sources, tmp_path, cache, workers=1)
        assert len(records) == 1 and not bad

    fuzzed(f"cache/{cache.path.name}", cache.path.read_bytes(), parse)


ROW = {"dataset": "D", "id": "a", "image": "a.png", "patient": "p", "class": "benign", "fold": 0, "phase": "phase1"}
TABLES = {
    "scores": ("per_image.csv", read_rows),
    "cases": ("cases.csv", lambda path: read_table(path, "ID", {"Case": (), "Class": ("benign", "malignant")})),
    "own table": ("own.csv", lambda path: read_own_table(path, {}, ["images/a.png", "images/b.png"])),
    "inventory": ("inventory.csv", lambda path: read_inventory("BUS", path)),
}


@pytest.mark.parametrize("kind", TABLES)
def test_tables(kind, fuzzed, tmp_path):
    classes = {f"coarse_{what}_{name}": 0.5 for what in ("dice", "probability") for name in ("benign", "malignant")}
    scores = {**ROW, "coarse_dice": 0.5, "coarse_hd95": 3.0, **classes, "coarse_class": "benign"}
    write_rows(tmp_path / "scores", [{**scores, "id": name} for name in "abc"])
    (tmp_path / "cases").write_text("ID,Case,Class\na,1,benign\nb,2,malignant\nc,3,benign\n")
    (tmp_path / "own table").write_text('Image;Patient ID;Pathology;Fold\na.png;"1";benign;1\nimages/b.png;2;M;2\n')
    row = [
        "BUS",
        "original/1.png",
        "GT/1.png",
        "8",
        "8",
        "8x8",
        "9",
        "a" * 64,
        "b" * 64,
        "c" * 64,
        "benign",
        "",
        "test",
    ]
    (tmp_path / "inventory").write_text(f"{','.join(COLUMNS)}\n{','.join(row)}\n")
    fuzzed(*(TABLES[kind][0], (tmp_path / kind).read_bytes(), TABLES[kind][1]))


def test_metrics_of_a_run(fuzzed, tmp_path):
    for step in range(1, 4):
        append_record(tmp_path, {"step": step, "loss": 0.5, "val_coarse_dice": None})
    fuzzed(METRICS, (tmp_path / METRICS).read_bytes(), lambda path: read_epochs(path.parent))


COCO = {
    "images": [{"id": 1, "file_name": "a.png", "width": 8, "height": 8}, {"id": 2, "file_name": "b.png"}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[1, 1, 5, 1, 5, 5]]},
        {"id": 2, "image_id": 2, "category_id": 1, "segmentation": {"size": [8, 8], "counts": [10, 20, 34]}},
        {"id": 3, "image_id": 2, "category_id": 1, "segmentation": {"size": [8, 8], "counts": "04X1"}},
    ],
    "categories": [{"id": 1, "name": "benign"}],
}
DOCUMENTS = {
    "COCO": ("annotations.json", COCO, ("a.png", "b.png")),
    "nnU-Net": (
        "dataset.json",
        {"file_ending": ".png", "labels": {"background": 0, "lesion": 1}, "channel_names": {"0": "US"}},
        ("imagesTr/a_0000.png", "labelsTr/a.png"),
    ),
    "US30K": ("MainPatient/class.json", {"S": 2}, ("S/img/a.png", "S/label/a.png")),
}


@pytest.mark.parametrize("kind", DOCUMENTS)
def test_listings_of_ones_own(kind, fuzz_cases, tmp_path):
    name, document, pictures = DOCUMENTS[kind]
    for picture in (tmp_path / one for one in pictures):
        picture.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), 1).save(picture)
    (tmp_path / "MainPatient").mkdir(exist_ok=kind == "US30K") if kind == "US30K" else None
    (tmp_path / "MainPatient/train.txt").write_text("S/a\n") if kind == "US30K" else None

    def parse(case):
        write_json(tmp_path / name, case)
        listing = scan("mine", tmp_path, OwnOptions())
        for drawing in listing.drawings.values():
            drawing((8, 8))

    outcome = fuzz(parse, lambda generator: mutated_document(document, generator), fuzz_cases, (DataError,))
    print(f"{kind}: {outcome}")
    assert not outcome.faults, outcome.faults[:10]


def test_a_rebuilt_fact_is_noted_again(tmp_path, caplog):
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    Image.new("L", (8, 8)).save(tmp_path / "m.png")
    sources, cache = [Source("a", "a.png", ("m.png",), "benign")], FactCache(tmp_path / "cache")
    expected = measure(sources, tmp_path, cache)
    with sqlite3.connect(cache.path) as store:
        store.execute("UPDATE facts SET facts = '{}'")
    assert measure(sources, tmp_path, cache) == expected
    assert "2 damaged entries" in caplog.text
    caplog.clear()
    assert measure(sources, tmp_path, cache) == expected and not caplog.text


def test_a_message_of_sqlite_that_is_no_text_is_a_warning(tmp_path, caplog, monkeypatch):
    """Five of 10 000 damaged files had one: SQLite quotes the damaged name of a table."""
    cache = FactCache(tmp_path)

    def fail(path):
        b"\x98".decode()

    monkeypatch.setattr(cache, "_connect", fail)
    cache.put({"image a": {}})
    assert "cannot be written" in caplog.text
