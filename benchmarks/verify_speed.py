"""Time and peak memory of `manifests verify` over the samples of three releases.

    python benchmarks/verify_speed.py SAMPLES WORKERS

SAMPLES holds the folders BUSI, BUS-BRA and BUS-UCLM. One process a measurement, since peak memory is the process's.
"""

import resource
import sys
import time
from pathlib import Path

from ultrarefiner_monai.data.manifest import shipped_manifest
from ultrarefiner_monai.data.verify import verify

SAMPLES = {"BUSI": "BUSI", "BUSBRA": "BUS-BRA", "BUS_UCLM": "BUS-UCLM"}


def main(samples: Path, workers: int) -> None:
    """Print one line of CSV for each sample; memory is the highest so far."""
    sys.stdout.write("dataset,workers,items,faults,wall_s,cpu_s,peak_mib\n")
    for name, folder in SAMPLES.items():
        wall, cpu = time.perf_counter(), time.process_time()
        report = verify(shipped_manifest(name), samples / folder, allow_missing=True, workers=workers)
        seconds = f"{time.perf_counter() - wall:.2f},{time.process_time() - cpu:.2f}"
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # KiB on Linux
        sys.stdout.write(f"{name},{workers},{report.present},{len(report.faults)},{seconds},{peak:.0f}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
