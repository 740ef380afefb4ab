"""Which frames batches have: each once an epoch, in order, resumable, and shared out among processes."""

from collections import Counter

import pytest
import torch
from monai.data import DataLoader, Dataset

from ultrarefiner_monai.bundle import SequenceSampler
from ultrarefiner_monai.bundle.sequences.sampler import tiled, windows_in
from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.handlers.random_states import capture_random_states, restore_random_states

LENGTHS = {"a": 7, "b": 1, "c": 12, "d": 3}


def items_of(lengths):
    """Frames in a shuffled order, with gaps between positions."""
    items = [{"sequence": name, "position": 2 * place} for name, length in lengths.items() for place in range(length)]
    return [items[number] for number in torch.randperm(len(items), generator=torch.Generator().manual_seed(1))]


ITEMS = items_of(LENGTHS)


def told(batch):
    return [(ITEMS[index]["sequence"], ITEMS[index]["position"]) for index in batch]


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 7, 20])
def test_training_has_every_frame_once_an_epoch_in_windows_of_neighbours(frames):
    sampler = SequenceSampler(ITEMS, frames=frames)
    torch.manual_seed(0)
    epochs = [list(sampler) for _ in range(8)]
    for batches in epochs:
        assert sorted(index for batch in batches for index in batch) == list(range(len(ITEMS)))
        assert len(batches) == len(sampler)
        for batch in batches:
            (name,) = {name for name, _ in told(batch)}
            first = told(batch)[0][1]
            assert told(batch) == [(name, first + 2 * step) for step in range(len(batch))] and len(batch) <= frames
    assert epochs[0] != epochs[1]
    cuts = {first for batches in epochs for batch in batches if (first := told(batch)[0])[0] == "c"}
    assert (len(cuts) > windows_in(12, frames)) == (1 < frames < 12)  # cut anew in each epoch


def test_where_the_windows_of_a_sequence_can_begin():
    """10 frames by 4: 2 + 4 + 4, 3 + 4 + 3 or 4 + 4 + 2. 4 by 2: 1 + 2 + 1 or 2 + 1 + 1."""
    generator = torch.Generator().manual_seed(0)
    for length, frames, expected in ((10, 4, {(2, 4, 4), (3, 4, 3), (4, 4, 2)}), (4, 2, {(1, 2, 1), (2, 1, 1)})):
        drawn = {tuple(map(len, tiled(list(range(length)), frames, generator))) for _ in range(50)}
        assert drawn == expected and {len(lengths) for lengths in drawn} == {windows_in(length, frames)}
    assert tiled([5, 6, 7], 3, generator) == [[5, 6, 7]]


def test_without_frames_whole_sequences_come_in_order_the_same_every_time():
    sampler = SequenceSampler(ITEMS, batch_size=3)
    batches = [told(batch) for batch in sampler]
    assert batches == [told(batch) for batch in sampler]
    order = list(dict.fromkeys(item["sequence"] for item in ITEMS))
    expected = [(name, 2 * place) for name in order for place in range(LENGTHS[name])]
    assert [frame for batch in batches for frame in batch] == expected
    assert [len({name for name, _ in batch}) for batch in batches] == [3, 1]


@pytest.mark.parametrize("workers", [0, 1])
def test_an_epoch_begun_again_with_its_random_state_has_the_same_batches(workers):
    loader = DataLoader(Dataset(ITEMS), batch_sampler=SequenceSampler(ITEMS, 2, frames=3), num_workers=workers)
    torch.manual_seed(3)
    states = capture_random_states()
    epochs = [[list(map(str, batch["sequence"])) for batch in loader] for _ in range(2)]
    restore_random_states(states)
    assert [[list(map(str, batch["sequence"])) for batch in loader] for _ in range(2)] == epochs


@pytest.mark.parametrize("frames", [None, 3])
def test_processes_have_their_own_sequences_and_as_many_training_steps(frames):
    shares = [SequenceSampler(ITEMS, 2, frames, process, 2) for process in range(2)]
    torch.manual_seed(0)
    seen = [[told(batch) for batch in share] for share in shares]
    names = [{name for batch in batches for name, _ in batch} for batches in seen]
    assert names[0] | names[1] == LENGTHS.keys() and not names[0] & names[1]
    counts = Counter(frame for batches in seen for batch in batches for frame in batch)
    assert len(counts) == len(ITEMS)
    if frames is None:
        assert set(counts.values()) == {1}
    else:
        assert len(seen[0]) == len(seen[1]) == len(shares[0]) == len(shares[1])


def test_what_is_refused():
    with pytest.raises(DataError, match="sequence a: position 2 twice"):
        SequenceSampler([{"sequence": "a", "position": 2}] * 2)
    with pytest.raises(DataError, match="4 sequences for 5 processes: each needs one"):
        SequenceSampler(ITEMS, process=0, processes=5)


def test_sequences_of_a_single_frame_among_longer_ones_are_told(caplog):
    with caplog.at_level("INFO"):
        SequenceSampler(ITEMS, frames=3)
        SequenceSampler([{"sequence": str(number), "position": 0} for number in range(3)], frames=3)  # pictures
    assert caplog.messages == ["1 of 4 sequences have a single frame and are seen as T = 1"]
