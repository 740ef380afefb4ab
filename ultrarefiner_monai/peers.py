"""The other processes of a distributed training: whether they live, and what has become of one that does not.

Each process beats once a second into the store by which `torchrun` brought them together, from a thread of its own, so that a
long step is no silence; one that ends leaves a note. Collectives alone would wait for a frozen process for half an hour, and
of one that died they tell no more than a broken connection.
"""

import json
import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch.distributed as dist

from ultrarefiner_monai.errors import DataError, one_line

BEAT_S = 1.0
SILENCE_S = 20.0  # without a beat is frozen; torchrun then gives a frozen process 30 s more before it kills it
DEATH_S = 5.0  # for torchrun to have noticed, which looks ten times a second, and for a note to arrive
ADVICE = "go on from the last complete epoch with --resume true"

_peers: "Peers | None" = None


class Peers:
    """This process among the others.

    Args:
        store: the store of the rendezvous; the thread has a connection of its own.
        rank: of this process.
        size: number of processes.
    """

    def __init__(self, store: Any, rank: int, size: int) -> None:
        self._store = store
        self._rank = rank
        self._others = [other for other in range(size) if other != rank]
        self._endings: list[Callable[[DataError], None]] = []
        self._silent = dict.fromkeys(self._others, 0.0)
        self._beats = dict.fromkeys(self._others, 0)
        store.set(f"process/{rank}", json.dumps([socket.gethostname(), os.getpid()]))
        threading.Thread(target=self._watch, args=(store.clone(),), daemon=True).start()

    def note(self, error: BaseException) -> None:
        """Tell the others how this process ends: the code of a signal that stopped it (0: well), or what went wrong."""
        code = error.code if isinstance(error, SystemExit) and isinstance(error.code, int) else None
        with suppress(Exception):  # they may be gone already, and the store with them
            self._store.set(f"note/{self._rank}", json.dumps([code, f"{type(error).__name__}: {one_line(error)}"]))

    def ending_of_another(self, patience: float = DEATH_S) -> BaseException | None:
        """What has ended another process, once it is known; None where all still live after `patience` seconds."""
        until = time.monotonic() + patience
        while True:
            found: list[BaseException] = []
            with suppress(Exception):  # no store, no news
                found = [end for other in self._others if (end := self._ending(self._store, other)) is not None]
            if found or time.monotonic() >= until:
                return next((end for end in found if isinstance(end, PeerError)), *found[:1] or (None,))
            time.sleep(BEAT_S / 10)

    def when_lost(self, action: Callable[[DataError], None]) -> None:
        """Call `action`, from another thread, when a process has frozen, before this one ends."""
        self._endings.append(action)

    def _ending(self, store: Any, other: int) -> BaseException | None:
        if store.check([f"note/{other}"]):
            code, reason = json.loads(store.get(f"note/{other}"))
            if code is not None:
                return SystemExit(code) if code else None
            return PeerError(other, f"has failed ({reason})", is_gone=False)
        if store.check([f"process/{other}"]):
            host, process = json.loads(store.get(f"process/{other}"))
            if host == socket.gethostname() and not _lives(process):
                return PeerError(other, "has died")
        return None

    def _watch(self, store: Any) -> None:
        """Beat, and end this process when another one has been silent for too long."""
        while True:
            with suppress(Exception):  # where the store is gone so are its process and the connections to that
                store.add(f"beat/{self._rank}", 1)
                for other in self._others:
                    self._listen(store, other)
            time.sleep(BEAT_S)

    def _listen(self, store: Any, other: int) -> None:
        """Count the turns without a beat: where all processes were suspended together none is silent."""
        beats = store.add(f"beat/{other}", 0)
        self._silent[other] = self._silent[other] + BEAT_S if beats == self._beats[other] else 0.0
        self._beats[other] = beats
        if beats and self._silent[other] >= SILENCE_S and not store.check([f"note/{other}"]):
            self._end(PeerError(other, f"has given no sign of life for {SILENCE_S:.0f} s"))

    def _end(self, error: "PeerError") -> None:
        """End here and now: the main thread waits inside a collective that only a timeout would end."""
        os.write(2, f"{error}\n".encode())
        try:
            self.note(error)
            for action in self._endings:
                action(error)
        finally:
            os._exit(1)


class PeerError(DataError):
    """Another process of the training is lost.

    Args:
        rank: of that process.
        what: has become of it.
        is_gone: whether it can no longer tell of its end itself.
    """

    def __init__(self, rank: int, what: str, is_gone: bool = True) -> None:
        super().__init__(f"rank {rank} {what}, and the training with it; {ADVICE}")
        self.rank = rank
        self.is_gone = is_gone


def join_peers(store: Any, rank: int, size: int) -> None:
    """Let the processes of this training know of each other."""
    global _peers  # one training a process, as torch's own process group
    _peers = Peers(store, rank, size)


def peers() -> Peers | None:
    """The processes of this training; None where it is not distributed."""
    return _peers if dist.is_available() and dist.is_initialized() else None


def explained(error: BaseException) -> BaseException:
    """What ended another process, where that is why this one got `error`: a broken connection, or torchrun's SIGTERM."""
    group = peers()
    told_to_end = isinstance(error, SystemExit) and isinstance(error.code, int)
    if group is None or not (told_to_end or isinstance(error, RuntimeError)):
        return error
    return group.ending_of_another(BEAT_S if told_to_end else DEATH_S) or error


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
