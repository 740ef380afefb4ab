"""Mapping over many files at once."""

import multiprocessing
import os
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from ultrarefiner_monai.errors import MORE_SHARED_MEMORY, SHARED_MEMORY, DataError

In = TypeVar("In")
Out = TypeVar("Out")


def check_shared_memory() -> None:
    """Refuse to begin where no lock can be made for threads and processes.

    Raises:
        DataError: shared memory is full, or may not be used.
    """
    try:
        multiprocessing.Lock()
    except OSError as error:
        raise DataError(f"{SHARED_MEMORY}: cannot be used ({error.strerror}); {MORE_SHARED_MEMORY}") from None


def in_parallel(
    function: Callable[[In], Out], values: Iterable[In], workers: int | None = None, progress: str = ""
) -> list[Out]:
    """Map in threads, results in the order of the values (Pillow and hashlib release the interpreter lock).

    Args:
        function: called once a value.
        values: what to map over.
        workers: number of threads; None is one a core.
        progress: name of a progress bar on a terminal's standard error; none where empty.
    """
    values = list(values)
    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        results = pool.map(function, values)
        if progress and sys.stderr.isatty():
            from tqdm import tqdm

            results = tqdm(results, desc=progress, total=len(values), unit="file")
        return list(results)
