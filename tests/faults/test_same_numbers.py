"""The same seed gives the same numbers: whatever the locale, the order of folders and the number of workers."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from interrupted import losses, train
from PIL import Image

# Folders are read in another order at each call, as file systems may give them; Python imports this module by itself.
SHUFFLE = """
import os, random
generator, scandir, listdir = random.Random(int(os.environ["SHUFFLE"])), os.scandir, os.listdir

class Shuffled(list):
    def __enter__(self): return self
    def __exit__(self, *_): return None
    def close(self): return None
    def __next__(self):
        if not self: raise StopIteration
        return self.pop()

def shuffled(entries):
    entries = list(entries)
    generator.shuffle(entries)
    return Shuffled(entries)

os.scandir = lambda *path: shuffled(scandir(*path))
os.listdir = lambda *path: list(shuffled(listdir(*path)))
"""
ROOT = Path(__file__).parents[2]
PLACES = (
    {"LC_ALL": "C", "LANG": "C", "PYTHONHASHSEED": "1", "SHUFFLE": "1"},
    {"LC_ALL": "C.UTF-8", "LANG": "tr_TR.UTF-8", "PYTHONHASHSEED": "2", "SHUFFLE": "2", "TZ": "Asia/Tokyo"},
)


@pytest.mark.fault(5)
def test_a_manifest_is_the_same_on_any_locale_and_folder_order(tmp_path):
    generator = np.random.default_rng(0)
    for number, name in enumerate(("I", "i", "ı", "Zoë", "zoe", "ä", "a", "10", "9", "_x", "É", "ß")):
        for folder, picture in (
            ("images", generator.integers(0, 256, (40, 50), dtype=np.uint8)),
            ("masks", np.pad(np.full((9, 9), 255, np.uint8), ((10, 21), (10 + number, 31 - number)))),
        ):
            (tmp_path / "data" / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(tmp_path / "data" / folder / f"{name}.png")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(SHUFFLE)
    made = []
    for number, place in enumerate(PLACES):
        out = tmp_path / str(number)
        words = ["manifests", "build", "MINE", "--root", str(tmp_path / "data"), "--out", str(out), "--folds", "2"]
        path = os.pathsep.join([str(tmp_path / "site"), str(ROOT)])
        environment = {**os.environ, **place, "PYTHONPATH": path, "XDG_CACHE_HOME": str(tmp_path / f"cache{number}")}
        command = [sys.executable, "-m", "ultrarefiner_monai", *words]
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        made.append((out / "MINE.json").read_bytes())
    assert made[0] == made[1] and "ı.png" in made[0].decode()


@pytest.mark.slow
@pytest.mark.fault(5)
def test_every_stage_repeats_itself_and_workers_change_nothing(stage, stage_keys, store, tmp_path):
    traces = []
    for name, workers in (("first", 0), ("again", 0), ("workers", 2)):
        keys = {**stage_keys, "tracking_uri": store, "workers": workers, "output_dir": str(tmp_path / name)}
        assert train(stage, tmp_path / f"{name}.trace", **keys, log_model=False) == 0
        traces.append(losses(tmp_path / f"{name}.trace"))
    assert len(traces[0]) == 4 and traces[0] == traces[1] == traces[2]
