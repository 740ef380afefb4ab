"""Kill a short cross-validation again and again, start it again each time, and compare the end with an undisturbed one.

    OMP_NUM_THREADS=1 python benchmarks/soak.py FOLDER [--kills 200] [--seed 0] [--csv benchmarks/soak.csv]

Each registered system is studied on 16 synthetic pictures: all stages, two folds, two epochs each. A start is killed (SIGKILL)
at a random one of its events: a file that reaches the disk, or a step of an optimizer. Once a study is complete, every model
and every score must have the bytes of the undisturbed study, the store must be whole and hold one finished run a training
beside the parent; then the next study begins, until enough kills are done. A line of the table is a start.
"""

import argparse
import csv
import hashlib
import logging
import os
import random
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import mlflow.store.tracking.sqlalchemy_store  # noqa: F401  once, before the processes part
import torch.utils.tensorboard  # noqa: F401
from torch.optim.optimizer import register_optimizer_step_post_hook

from ultrarefiner_monai.cross_validation.conduct import conduct
from ultrarefiner_monai.cross_validation.tasks import CrossValidation
from ultrarefiner_monai.data.manifests.build import build_document, write_manifest
from ultrarefiner_monai.data.manifests.splits import Options
from ultrarefiner_monai.data.phantom.phantom import generate_phantom
from ultrarefiner_monai.data.releases.release import read_release
from ultrarefiner_monai.systems import SYSTEMS, System, find_system
from ultrarefiner_monai.systems.keys import configuration

SHORT = {"variant": "tiny", "image_size": 64, "coarse_variant": "tiny", "coarse_size": 64, "epochs": 2, "batch_size": 4}
COLUMNS = ("system", "study", "start", "event", "kind", "ended", "lost", "differing")


class Study:
    """A cross-validation in a folder of its own, begun as often as it must be, each time by a process of its own."""

    def __init__(self, system: System, release: Path, out: Path, stages: list[str] | None = None) -> None:
        self.out, self.stages = out, stages
        shared = {"manifest": str(release.with_suffix(".json")), "tracking_uri": f"sqlite:///{out / 'mlruns.db'}"}
        known = {stage.name: configuration(stage, "train") for stage in system.stages}
        settings = {name: {key: SHORT[key] for key in SHORT if key in keys} for name, keys in known.items()}
        for name, keys in known.items():
            settings[name] |= {"cache_embeddings": False} if "cache_embeddings" in keys else {}
        self.cv = CrossValidation("PHANTOM", str(release), out, None, shared, settings, system=system)

    def start(self, last: int | None = None) -> tuple[int, int, str]:
        """Begin it, or go on with it, and kill it at event `last`: exit code, events, and the kind of the last one."""
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            os.close(reading)
            _become_study(self, last, writing)
        os.close(writing)
        with os.fdopen(reading) as pipe:
            events = pipe.read().splitlines()
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        return code, len(events), events[-1] if events else ""

    def files(self) -> dict[str, str]:
        """SHA-256 of every model and of the scores."""
        found = [*sorted(self.out.glob("*/fold*/model.pt")), self.out / "per_image.csv"]
        return {
            path.relative_to(self.out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in found
            if path.exists()
        }

    def store_faults(self) -> list[str]:
        """What is wrong with the store."""
        with closing(sqlite3.connect(self.out / "mlruns.db")) as connection:
            (state,) = connection.execute("PRAGMA integrity_check").fetchone()
            statuses = [status for (status,) in connection.execute("SELECT status FROM runs")]
        stages = self.stages or self.cv.stages
        expected = 1 + sum(len(self.cv.folds_of(stage)) for stage in stages)
        faults = [] if state == "ok" else [state]
        if statuses.count("FINISHED") != len(statuses) or len(statuses) != expected:
            faults.append(f"runs {sorted(statuses)}, expected {expected} that are FINISHED")
        return faults


def _become_study(study: Study, last: int | None, pipe: int) -> None:
    """Do the study in this process, telling each event, and never return."""
    count = 0

    def tell(kind: str) -> None:
        nonlocal count
        count += 1
        os.write(pipe, f"{kind}\n".encode())
        if count == last:
            os.kill(os.getpid(), signal.SIGKILL)

    def fsync(descriptor: int, sync: Callable[[int], None] = os.fsync) -> None:
        name = Path(f"/proc/self/fd/{descriptor}").readlink().name
        sync(descriptor)
        tell(f"write {name}")

    code = 1
    try:
        os.fsync = fsync
        register_optimizer_step_post_hook(lambda *_: tell("optimizer step"))
        study.out.mkdir(parents=True, exist_ok=True)
        log = (study.out / "soak.log").open("a")
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        conduct([study.cv], study.stages)
        code = 0
    except BaseException:
        logging.getLogger(__name__).exception("the study failed")
    finally:
        os._exit(code)


def soak(
    system: System, root: Path, kills: int, seed: int = 0, stages: list[str] | None = None
) -> Iterator[dict[str, Any]]:
    """Begin studies of a system in `root` until `kills` starts were killed and the last study is complete; a row a start."""
    release = make_release(root)
    whole = Study(system, release, root / system.name / "whole", stages)
    code, events, _ = whole.start()
    assert code == 0, f"the undisturbed study failed, see {whole.out / 'soak.log'}"
    expected = whole.files()
    generator, done, number = random.Random(seed), 0, 0
    while done < kills:
        number += 1
        study = Study(system, release, root / system.name / f"study{number}", stages)
        start, code = 0, -signal.SIGKILL
        while code == -signal.SIGKILL:
            start += 1
            last = generator.randint(1, max(2, events // 4)) if done < kills else None
            code, event, kind = study.start(last)
            done += code == -signal.SIGKILL
            row = {"system": system.name, "study": number, "start": start, "event": event, "kind": kind}
            if code == -signal.SIGKILL:
                yield row | {"ended": "killed"}
        found = study.files()
        differing = [name for name in expected if name in found and found[name] != expected[name]]
        faults = [*differing, *study.store_faults()] if code == 0 else [f"ended with {code}"]
        lost = sum(name not in found for name in expected)
        yield row | {"ended": "complete" if code == 0 else "failed", "lost": lost, "differing": "; ".join(faults)}


def make_release(root: Path) -> Path:
    """A folder of 16 synthetic pictures in two folds, with its manifest beside it."""
    release = root / "PHANTOM"
    if not release.is_dir():
        generate_phantom(release, count=16, seed=3)
        write_manifest(build_document(read_release("PHANTOM", str(release)), Options(folds=2)), root / "PHANTOM.json")
    return release


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=200, help="of each system (default: 200)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--csv", type=Path, default=Path(__file__).with_suffix(".csv"))
    arguments = parser.parse_args()
    rows = []
    for name in SYSTEMS:
        for row in soak(find_system(name), arguments.folder.absolute(), arguments.kills, arguments.seed):
            rows.append(row)
            print(*(f"{key} {value}" for key, value in row.items() if value != ""), sep=", ", flush=True)
            with arguments.csv.open("w", newline="") as file:
                writer = csv.DictWriter(file, COLUMNS)
                writer.writeheader()
                writer.writerows(rows)
    ends = [row for row in rows if row["ended"] != "killed"]
    kills = len(rows) - len(ends)
    wrong = [row for row in ends if row["ended"] != "complete" or row["lost"] or row["differing"]]
    print(
        f"{kills} kills, {len(ends)} studies, {sum(row['lost'] for row in ends)} files lost, {len(wrong)} studies differ"
    )
    raise SystemExit(bool(wrong))


if __name__ == "__main__":
    main()
