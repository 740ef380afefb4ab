"""Which frames a frame remembers, and how far away they are (Xie et al., arXiv 2502.02741, section 3.3)."""

from typing import NamedTuple

import torch
from torch import Tensor

WINDOW = 6  # frames before; SAM 2 has codes for so many


class Remembered(NamedTuple):
    """n frames whose memories lie at the same T distances.

    `frames` (n,): their numbers in the batch; `sources` (T, n): the frames that each remembers, itself first; `distances` (T,):
    how many frames before it they lie, 0 for itself.
    """

    frames: Tensor
    sources: Tensor
    distances: Tensor


def remembered(
    count: int, sequence: Tensor | None, position: Tensor | None, window: int, device: torch.device
) -> list[Remembered]:
    """For each of `count` frames those of its sequence at 0 to `window` positions before it, by their true distances.

    Args:
        count: N.
        sequence: (N,) number of the sequence of each frame; None: each its own.
        position: (N,) index of each frame in its sequence; None: in the order of the batch.
        window: at most how many positions back.
        device: of the answers.

    Raises:
        ValueError: a position twice in a sequence, or a window that there are no codes for.
    """
    if not 0 <= window <= WINDOW:
        raise ValueError(f"window must be in 0..{WINDOW}, found {window}")
    if sequence is None:
        frames = torch.arange(count, device=device)
        return [Remembered(frames, frames[None], torch.zeros(1, dtype=torch.long, device=device))]
    numbers = sequence.tolist()
    places = range(count) if position is None else position.tolist()
    frame_at = {place: frame for frame, place in enumerate(zip(numbers, places, strict=True))}
    if len(frame_at) < count:
        raise ValueError(f"positions must differ within a sequence, found {list(places)} of sequences {numbers}")
    groups: dict[tuple[int, ...], list[list[int]]] = {}
    for number, place in zip(numbers, places, strict=True):
        sources = {
            back: frame_at[number, place - back] for back in range(window + 1) if (number, place - back) in frame_at
        }
        groups.setdefault(tuple(sources), []).append(list(sources.values()))
    found = []
    for distances, rows in groups.items():
        table = torch.tensor(rows, device=device).T
        found.append(Remembered(table[0], table, torch.tensor(distances, device=device)))
    return found
