"""Which frames a batch has: whole sequences, or windows of them."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, cycle, islice, pairwise
from typing import Any

import torch
from torch.utils.data import Sampler

from ultrarefiner_monai.errors import DataError

logger = logging.getLogger(__name__)

Frames = list[int]  # indices of items that follow one another in a sequence


class SequenceSampler(Sampler[Frames]):
    """A batch sampler: indices of the frames of `batch_size` sequences, each sequence's in the order of their positions.

    With `frames` (training) each epoch cuts every sequence anew into windows of at most so many consecutive frames, beginning
    with a window of random length (`tiled`), and shuffles the windows: each frame is in one window an epoch, and the number of
    windows does not depend on the cuts. Without (validation, test, prediction) whole sequences come in the order of the items.

    Random numbers follow from torch's generator as of the epoch's start, as those of torch's own samplers do, so that a
    checkpoint's random states say which windows come next.

    Several processes have the same items and each its own sequences, dealt by their number of windows. In training one with
    fewer batches than the others repeats its first ones, since all must take as many steps.

    Args:
        items: with `sequence` and `position`.
        batch_size: windows, or whole sequences, of a batch.
        frames: T, the longest window; None takes whole sequences.
        process: number of this process.
        processes: how many there are.

    Raises:
        DataError: a sequence that has a position twice, or fewer sequences than processes.
    """

    def __init__(
        self,
        items: Sequence[Mapping[str, Any]],
        batch_size: int = 1,
        frames: int | None = None,
        process: int = 0,
        processes: int = 1,
    ) -> None:
        self.batch_size = batch_size
        self.frames = frames
        sequences = sequences_of(items)
        if len(sequences) < processes:
            raise DataError(
                f"{len(sequences)} sequences for {processes} processes: each needs one; start fewer processes"
            )
        short = sum(len(sequence) == 1 for sequence in sequences)
        if frames is not None and 0 < short < len(items) and frames > 1:
            logger.info("%d of %d sequences have a single frame and are seen as T = 1", short, len(sequences))
        shares = _dealt(sequences, frames, processes)
        self.sequences = shares[process]
        lengths = [-(-sum(windows_in(len(sequence), frames) for sequence in share) // batch_size) for share in shares]
        self._length = lengths[process] if frames is None else max(lengths)

    def __len__(self) -> int:
        """Number of batches, the same in every epoch."""
        return self._length

    def __iter__(self) -> Iterator[Frames]:
        """The batches of an epoch."""
        windows = self.sequences if self.frames is None else self._drawn(self.frames)
        starts = range(0, len(windows), self.batch_size)
        batches = [[*chain.from_iterable(windows[start : start + self.batch_size])] for start in starts]
        return islice(cycle(batches), len(self))

    def _drawn(self, frames: int) -> list[Frames]:
        """The windows of an epoch, in a random order."""
        generator = torch.Generator().manual_seed(int(torch.empty((), dtype=torch.int64).random_()))
        windows = [window for sequence in self.sequences for window in tiled(sequence, frames, generator)]
        return [windows[number] for number in torch.randperm(len(windows), generator=generator)]


def sequences_of(items: Sequence[Mapping[str, Any]]) -> list[Frames]:
    """Indices of each sequence's frames by position; sequences in the order of their first item.

    Raises:
        DataError: a position twice.
    """
    places: dict[str, dict[int, int]] = {}
    for index, item in enumerate(items):
        frames = places.setdefault(item["sequence"], {})
        if item["position"] in frames:
            raise DataError(f"sequence {item['sequence']}: position {item['position']} twice; each frame comes once")
        frames[item["position"]] = index
    return [[frames[position] for position in sorted(frames)] for frames in places.values()]


def tiled(sequence: Frames, frames: int, generator: torch.Generator) -> list[Frames]:
    """Cut a sequence of n > T frames into windows of T, but for the first, whose length is random, and the last.

    The first has n mod T to T frames, or where T divides n 1 to T (the last is cut in two, then, where the first has T), so
    that there are `windows_in(n, T)` whatever is drawn. A shorter sequence is one window.
    """
    if len(sequence) <= frames:
        return [sequence]
    rest = len(sequence) % frames
    first = int(torch.randint(rest or 1, frames + 1, (), generator=generator))
    cuts = [0, *range(first, len(sequence), frames), len(sequence)]
    if rest == 0 and first == frames > 1:
        cuts.insert(-1, len(sequence) - int(torch.randint(1, frames, (), generator=generator)))
    return [sequence[start:stop] for start, stop in pairwise(cuts)]


def windows_in(length: int, frames: int | None) -> int:
    """Number of windows of a sequence of so many frames."""
    if frames is None or length <= frames:
        return 1
    return length if frames == 1 else length // frames + 1


def _dealt(sequences: list[Frames], frames: int | None, processes: int) -> list[list[Frames]]:
    """Each process's sequences: the longest first, each to the one with the fewest windows; kept in their order."""
    costs = [windows_in(len(sequence), frames) for sequence in sequences]
    shares: list[list[int]] = [[] for _ in range(processes)]
    for number in sorted(range(len(sequences)), key=lambda number: -costs[number]):
        min(shares, key=lambda share: sum(costs[one] for one in share)).append(number)
    return [[sequences[number] for number in sorted(share)] for share in shares]
