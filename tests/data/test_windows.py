"""Windows and splits: no frame in two splits, and no split without a window."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxconvlstm.config.data import Split
from jaxconvlstm.data.sources.base import Segment
from jaxconvlstm.data.windows import WindowPositions, split_segments, window_span
from jaxconvlstm.errors import DataError

EIGHTY = Split(0.8, 0.1, 0.1)
lengths_of_sequences = st.lists(st.integers(0, 90), min_size=1, max_size=15)
spans = st.integers(1, 30)
splits = (
    st.tuples(st.integers(0, 10), st.integers(0, 10), st.integers(0, 10), st.integers(0, 3))
    .filter(lambda parts: any(parts[:3]))
    .map(lambda parts: Split(*(part / sum(parts) for part in parts[:3])))
)
ways = st.sampled_from(["auto", "sequence", "time"])


def whole(lengths: list[int]) -> list[Segment]:
    """Sequences without a gap."""
    return [Segment(index, 0, length) for index, length in enumerate(lengths) if length]


@given(lengths_of_sequences, spans, splits, ways)
def test_splits_share_no_frame_and_all_have_a_window(lengths, span, split, by) -> None:
    wanted = [name for name in ("train", "val", "test") if getattr(split, name) > 0]
    try:
        segments = split_segments(whole(lengths), span, split, by)
    except DataError as error:
        assert "\n" not in str(error)
        if by == "sequence":
            assert sum(length >= span for length in lengths) < len(wanted)
        else:
            # Each part of one span could have served one split, but there are not enough.
            assert sum(length // span for length in lengths) < len(wanted)
        return
    frames = [
        (segment.sequence, frame)
        for part in segments.values()
        for segment in part
        for frame in range(segment.start, segment.stop)
    ]
    assert len(frames) == len(set(frames))
    assert all(frame < lengths[sequence] for sequence, frame in frames)
    for name, part in segments.items():
        assert bool(part) == (name in wanted)
        assert all(segment.stop - segment.start >= span for segment in part)


@given(lengths_of_sequences, spans, splits)
def test_parts_of_a_sequence_are_in_the_order_of_time(lengths, span, split) -> None:
    lengths[0] = max(lengths[0], 3 * span)
    segments = split_segments(whole(lengths), span, split, "time")
    for index, length in enumerate(lengths):
        parts = [s for part in segments.values() for s in part if s.sequence == index]
        assert parts == sorted(parts)
        if parts and sum((split.train, split.val, split.test)) > 1 - 1e-9:
            assert sum(part.stop - part.start for part in parts) == length


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 20), st.integers(0, 60)), max_size=9),
    spans,
    st.integers(1, 9),
    st.none() | st.integers(1, 20),
)
def test_windows_stay_inside_their_segments(parts, span, stride, limit) -> None:
    segments = [Segment(sequence, start, start + length) for sequence, start, length in parts]
    expected = [
        (segment.sequence, start)
        for segment in segments
        for start in range(segment.start, segment.stop - span + 1, stride)
    ]
    everything = WindowPositions(segments, span, stride)
    assert [everything[index] for index in range(len(everything))] == expected
    limited = WindowPositions(segments, span, stride, limit)
    assert len(limited) == min(len(expected), limit or len(expected))
    chosen = [limited[index] for index in range(len(limited))]
    rest = iter(expected)
    assert all(position in rest for position in chosen)  # In order, none twice.


def test_span() -> None:
    assert window_span(10, 5) == 15
    assert window_span(2, 1, frame_step=4) == 9
    assert window_span(1, 0) == 1


def test_one_long_sequence_by_the_shares() -> None:
    assert split_segments(whole([100]), 5, EIGHTY, "auto") == {
        "train": [Segment(0, 0, 80)],
        "val": [Segment(0, 80, 90)],
        "test": [Segment(0, 90, 100)],
    }


def test_short_parts_are_taken_from_training() -> None:
    assert split_segments(whole([46]), 15, EIGHTY, "time") == {
        "train": [Segment(0, 0, 16)],
        "val": [Segment(0, 16, 31)],
        "test": [Segment(0, 31, 46)],
    }


def test_five_shots_each_serve_training_and_test() -> None:
    # The lengths of a real clip's shots: two hold all three parts.
    segments = split_segments(whole([30, 46, 61, 50, 55]), 15, EIGHTY, "auto")
    assert segments["test"][0] == Segment(0, 15, 30)
    assert {name: len(part) for name, part in segments.items()} == {
        "train": 5, "val": 4, "test": 5,
    }  # fmt: skip


def test_validation_gets_what_another_sequence_held_out_for_test() -> None:
    segments = split_segments(whole([35, 35]), 15, EIGHTY, "time")
    assert {name: [s.sequence for s in part] for name, part in segments.items()} == {
        "train": [0, 1], "val": [0], "test": [1],
    }  # fmt: skip


def test_short_sequences_are_given_whole() -> None:
    segments = split_segments(whole([20, 20, 20, 20]), 15, EIGHTY, "time")
    assert segments == {
        "train": [Segment(0, 0, 20), Segment(1, 0, 20)],
        "val": [Segment(2, 0, 20)],
        "test": [Segment(3, 0, 20)],
    }


def test_from_ten_on_sequences_are_held_out() -> None:
    segments = split_segments(whole([50, 3, *[50] * 10]), 15, EIGHTY, "auto")
    indices = {name: [s.sequence for s in part] for name, part in segments.items()}
    assert indices == {"train": [0, 2, 3, 4, 5, 6, 7, 8, 9], "val": [10], "test": [11]}
    assert all(s.stop - s.start == 50 for part in segments.values() for s in part)


def test_unused_share_lies_between_training_and_the_rest() -> None:
    segments = split_segments(whole([100]), 5, Split(0.5, 0.1, 0.1), "time")
    assert segments["train"] == [Segment(0, 0, 50)]
    assert segments["val"] == [Segment(0, 80, 90)]


def test_the_error_says_what_would_do() -> None:
    with pytest.raises(DataError) as caught:
        split_segments(whole([40]), 15, EIGHTY, "time")
    for part in ("40 frames", "val", "15 frames in a row", "45 frames would do"):
        assert part in str(caught.value)


@given(
    st.lists(st.lists(st.integers(1, 60), min_size=1, max_size=6), min_size=1, max_size=6),
    st.integers(1, 20),
    splits,
    ways,
)
def test_with_gaps_no_frame_is_shared_and_no_segment_crosses_one(pieces, span, split, by) -> None:
    runs = []
    for sequence, lengths in enumerate(pieces):
        start = 0
        for length in lengths:
            runs.append(Segment(sequence, start, start + length))
            start += length  # The gap is in time, not in the index.
    wanted = [name for name in ("train", "val", "test") if getattr(split, name) > 0]
    try:
        parts = split_segments(runs, span, split, by)
    except DataError:
        # What is refused could not have been divided whole sequence by whole sequence either.
        usable = {run.sequence for run in runs if run.stop - run.start >= span}
        assert len(usable) < len(wanted)
        return
    for name, part in parts.items():
        assert bool(part) == (name in wanted)
        for s in part:
            assert s.stop - s.start >= span
            run = next(r for r in runs if r.sequence == s.sequence and r.start <= s.start < r.stop)
            assert s.stop <= run.stop
    frames = [(s.sequence, f) for part in parts.values() for s in part for f in range(*s[1:])]
    assert len(frames) == len(set(frames))
    if by == "sequence":
        where = [{s.sequence for s in part} for part in parts.values()]
        assert not (where[0] & where[1] or where[0] & where[2] or where[1] & where[2])


def test_a_long_timeline_with_gaps_keeps_its_end_for_test() -> None:
    days = [Segment(0, 24 * day, 24 * day + 24) for day in range(10)]
    parts = split_segments(days, 10, EIGHTY, "time")
    assert parts["train"] == days[:8]
    assert (parts["val"], parts["test"]) == ([days[8]], [days[9]])


@given(st.lists(st.integers(0, 5), min_size=1, max_size=20), splits)
def test_sequences_that_share_frames_stay_together(groups, split) -> None:
    wanted = [name for name in ("train", "val", "test") if getattr(split, name) > 0]
    try:
        parts = split_segments(whole([8] * len(groups)), 8, split, "auto", groups)
    except DataError:
        assert len(set(groups)) < len(wanted)
        return
    where = [{groups[s.sequence] for s in part} for part in parts.values()]
    assert not (where[0] & where[1] or where[0] & where[2] or where[1] & where[2])


def test_sequences_that_share_frames_cannot_be_divided_in_time() -> None:
    with pytest.raises(DataError, match="share frames"):
        split_segments(whole([40, 40]), 8, EIGHTY, "time", [0, 0])
