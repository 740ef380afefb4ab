"""Feeds a parser files that were damaged at random, and says what it made of them."""

import os
import pickle
import random
import resource
import time
import traceback
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SECONDS, MIB = 2.0, 512  # what one damaged file may cost
ATTEMPTS = 3  # a machine that stalls is slow once, a damaged file every time: the fastest of these counts
EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
HOSTILE = (
    *(
        None,
        True,
        -1,
        0,
        1e308,
        float("nan"),
        float("inf"),
        10**30,
        "",
        [],
        {},
        [[]],
        [None],
        {"": None},
        "a" * 100_000,
    ),
    *("../../etc/passwd", "/etc/passwd", "a\\b", "a\nb", "a\0b", "\ud800", "\u202egnp", "<script>alert(1)</script>"),
    *("=cmd|'/c calc'!A1", "\x1b[31mred", "$__import__('os').system('touch canary')", "@plan", "%train#trainer"),
    {"_target_": "os.system", "command": "touch canary"},
)


@dataclass
class Outcome:
    """What became of all cases: how many were read, and refused in one line; the costliest; and what must not have happened."""

    read: int = 0
    refused: int = 0
    worst_seconds: float = 0.0
    worst_mib: float = 0.0
    faults: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        cost = f"worst {self.worst_seconds:.2f} s, {self.worst_mib:.0f} MiB"
        return f"{self.read + self.refused} cases: {self.read} read, {self.refused} refused, {cost}, {len(self.faults)} faults"


def mutated_bytes(content: bytes, generator: random.Random) -> bytes:
    """One to four random damages: flipped bits, extreme integers, cut, doubled, removed, shuffled or inserted stretches."""
    damaged = bytearray(content)
    for _ in range(generator.randint(1, 4)):
        # Headers decide most, and stand in the first kilobyte.
        limit = len(damaged) if generator.random() < 0.4 else min(len(damaged), 1024)
        start = generator.randrange(limit) if limit else 0
        length = generator.choice((1, 2, 4, 8, 16, generator.randint(1, max(1, len(damaged) // 2))))
        kind = generator.randrange(7)
        if kind == 0 and damaged:
            damaged[start] ^= 1 << generator.randrange(8)
        elif kind == 1:
            width = generator.choice((1, 2, 4))
            value = generator.choice(EXTREMES) & (256**width - 1)
            damaged[start : start + width] = value.to_bytes(width, generator.choice(("little", "big")))
        elif kind == 2:
            del damaged[start:]
        elif kind == 3:
            del damaged[start : start + length]
        elif kind == 4:
            damaged[start:start] = damaged[start : start + length]
        elif kind == 5:
            damaged[start:start] = generator.randbytes(length)
        else:
            damaged[start : start + length] = generator.randbytes(len(damaged[start : start + length]))
    return bytes(damaged)


def mutated_document(document: Any, generator: random.Random) -> Any:
    """One to three random changes of a JSON document: hostile values, missing, doubled, renamed and exchanged entries."""
    changed = [deepcopy(document)]  # in a list, so that the document itself may be replaced
    for _ in range(generator.randint(1, 3)):
        places = list(_places(changed))
        container, key = generator.choice(places)
        kind = generator.randrange(6)
        if kind <= 2:
            container[key] = deepcopy(generator.choice(HOSTILE))
        elif kind == 3 and container is not changed:
            del container[key]
        elif kind == 4 and isinstance(container, dict):
            container[generator.choice(("", "$", "_target_", "\n", "x" * 300, f"{key} "))] = container[key]
        else:
            other, name = generator.choice(places)
            container[key] = deepcopy(other[name])
    return changed[0]


def _places(container: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key) below."""
    keys = container if isinstance(container, dict) else range(len(container))
    for key in list(keys):
        yield container, key
        if isinstance(container[key], dict | list):
            yield from _places(container[key])


def fuzz(
    parse: Callable[[Any], Any], mutate: Callable[[random.Random], Any], cases: int, refusals: tuple[type, ...]
) -> Outcome:
    """Give `parse` what `mutate` makes, `cases` times with the seeds 0, 1, ..., in a child process without more memory than MIB.

    Args:
        parse: reads one case; it returns, or raises one of `refusals` with a message of one line.
        mutate: makes a case of a generator.
        cases: how many.
        refusals: the project's own errors.

    Returns:
        The outcome. A fault is any other exception, a message of several lines, a case that took longer than SECONDS in each of
        ATTEMPTS or more memory than MIB, and the death of the process; each names the seed that makes it again.
    """
    outcome, seed = Outcome(), 0
    while seed < cases:
        seed = _in_child(parse, mutate, range(seed, cases), refusals, outcome)
    return outcome


def _in_child(parse: Any, mutate: Any, seeds: range, refusals: tuple[type, ...], outcome: Outcome) -> int:
    """Work on `seeds` until the end or the child's death; the next seed."""
    receiver, sender = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(receiver)
        _limit_memory()
        with os.fdopen(sender, "wb", buffering=0) as pipe:
            for seed in seeds:
                for _ in range(ATTEMPTS):
                    tried = _try(parse, mutate(random.Random(seed)), refusals)
                    if tried[1] <= SECONDS:
                        break
                pipe.write(pickle.dumps((seed, *tried)))
        os._exit(0)
    os.close(sender)
    last = seeds.start - 1
    with os.fdopen(receiver, "rb") as pipe:
        while True:
            try:
                last, kind, seconds, mib, message = pickle.load(pipe)
            except EOFError:
                break
            outcome.worst_seconds = max(outcome.worst_seconds, seconds)
            outcome.worst_mib = max(outcome.worst_mib, mib)
            if kind == "fault":
                outcome.faults.append(f"seed {last}: {message}")
            else:
                setattr(outcome, kind, getattr(outcome, kind) + 1)
    status = os.waitpid(child, 0)[1]
    if status:
        last += 1
        outcome.faults.append(f"seed {last}: the process died with status {status}")
    return last + 1


def _limit_memory() -> None:
    """No more address space than the process has, and twice MIB: address space is more than memory."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 2 * MIB * 2**20,) * 2)


def _resident(name: str) -> int:
    """A line of /proc/self/status in KiB: VmHWM is the high-water mark, VmRSS what is used now."""
    return next(
        int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name)
    )


def _try(parse: Any, case: Any, refusals: tuple[type, ...]) -> tuple[str, float, float, str]:
    """What became of one case: kind, seconds, MiB, and what was wrong."""
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark begins anew
    before, began = _resident("VmRSS"), time.perf_counter()
    kind, message = "read", ""
    try:
        parse(case)
    except refusals as error:
        kind = "refused"
        if len(text := str(error)) > 2000 or "\n" in text or not text:
            kind, message = "fault", f"not one line: {text[:300]!r}"
    except BaseException as error:  # the point of it all: nothing else may come out
        where = traceback.extract_tb(error.__traceback__)[-1]
        kind, message = "fault", f"{type(error).__name__}: {str(error)[:200]} ({where.filename}:{where.lineno})"
    seconds, mib = time.perf_counter() - began, max(0, _resident("VmHWM") - before) / 1024
    if seconds > SECONDS or mib > MIB:
        kind, message = "fault", f"{message} took {seconds:.1f} s and {mib:.0f} MiB"
    return kind, seconds, mib, message
