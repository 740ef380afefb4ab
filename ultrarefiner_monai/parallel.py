"""Mapping over many files at once."""

import os
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

In = TypeVar("In")
Out = TypeVar("Out")


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
