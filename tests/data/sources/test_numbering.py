"""Gaps in the numbers and times of frames, told from their names."""

import time
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from jaxconvlstm.data.sources.images.listing import PictureSequence
from jaxconvlstm.data.sources.images.numbering import find_gaps, number_frames
from jaxconvlstm.errors import ConfigError, DataError

MINUTE = 60_000_000


def gaps(names: list[str], time_format: str | None = None) -> tuple[list[int], int, int, str]:
    found = find_gaps(names, time_format)
    return found.positions.tolist(), found.missing, found.step, found.kind


def sequence(name: str, *stems: str) -> PictureSequence:
    return PictureSequence(name, Path(name), [f"{stem}.png" for stem in stems])


def test_missing_numbers() -> None:
    assert gaps([f"frame{n}" for n in (1, 2, 3, 7, 8, 10)]) == ([3, 5], 4, 1, "number")
    assert gaps([f"shot2_{n:04d}_left" for n in range(50)]) == ([], 0, 1, "number")


def test_every_fifth_frame_is_no_gap() -> None:
    assert gaps([f"{n:05d}" for n in (0, 5, 10, 15, 25, 30)]) == ([4], 1, 5, "number")


def test_a_few_short_steps_are_not_typical() -> None:
    numbers = [0, 10, 20, 30, 31, 40, 50, 60, 70, 80, 90, 100, 130]
    assert gaps([str(n) for n in numbers])[:3] == ([12], 2, 10)


@pytest.mark.parametrize(
    "names",
    [
        ["a", "b", "c"],
        ["a1", "b2", "b3"],
        ["a1b1", "a1b2", "a2b1"],
        ["a01", "a1", "a2"],
        ["1", "10000000000000000000000", "20000000000000000000000"],
        [str(n * n * n) for n in range(40)],
        ["only1"],
        [],
    ],
)
def test_names_that_tell_nothing(names: list[str]) -> None:
    assert gaps(names) == ([], 0, 0, "")


@pytest.mark.parametrize(
    "form",
    [
        "%Y%m%d%H%M",
        "%Y%m%d%H%M%S",
        "radar2_%Y%m%d_%H%M",
        "RR%Y%m%dT%H%M%SZ",
        "%Y-%m-%d_%H-%M-%S_v10",
        "%Y-%m-%d %H:%M",
        "%Y_%m_%d_%H_%M",
        "00001234_%Y%m%d%H%M",
    ],
)
def test_common_forms_of_times(form: str) -> None:
    # Over the end of an hour, a day, a month and a leap day.
    start = datetime(2016, 2, 28, 23, 40)
    times = [start + timedelta(minutes=5 * n) for n in range(400) if n not in (7, 300, 301)]
    positions, missing, step, kind = gaps([time.strftime(form) for time in times])
    assert (positions, missing, step) == ([7, 299], 3, 5 * MINUTE)
    assert kind in form and kind.startswith("%Y") and kind.endswith(("%M", "%S"))


def test_days_and_hours() -> None:
    start = datetime(2019, 12, 28)
    for form, step in (("%Y%m%d%H", 60 * MINUTE), ("%Y%m%d", 24 * 60 * MINUTE)):
        names = [(start + n * timedelta(microseconds=step)).strftime(form) for n in range(50)]
        assert gaps(names) == ([], 0, step, form)
        assert gaps(names[:9] + names[10:]) == ([9], 1, step, form)


def test_months_of_unlike_length_are_no_gaps() -> None:
    names = [f"{year}{month:02d}01" for year in (2018, 2019, 2020) for month in range(1, 13)]
    assert gaps(names)[:2] == ([], 0)
    assert gaps(names[:5] + names[6:])[:2] == ([5], 1)


@pytest.mark.parametrize("first", [10001231, 201609280000 + 55, 99])
def test_what_looks_like_a_time_but_is_none_is_a_number(first: int) -> None:
    names = [f"{first + n}" for n in range(10)]
    assert gaps(names)[3] == "number"
    assert gaps(names)[0] == []


def test_a_counter_behind_a_date_is_a_number() -> None:
    assert gaps([f"20160928_{n:03d}" for n in (1, 2, 3, 6)]) == ([3], 2, 1, "number")


def test_a_given_format_is_found_between_other_text() -> None:
    names = ["cam7-31Dec2019-2355", "cam7-01Jan2020-0000", "cam7-01Jan2020-0010"]
    form = "%d%b%Y-%H%M"
    assert gaps(names, form) == ([2], 1, 5 * MINUTE, form)
    assert gaps(["4420160928", "4420160929", "4420161001"], "%Y%m%d")[0] == [2]
    # No year in it, a leap day among them.
    assert gaps(["0228", "0229", "0301", "0303"], "%m%d")[:2] == ([3], 1)
    with pytest.raises(DataError, match="cam7: the name holds no time as --time-format"):
        gaps([names[0], "cam7", "cam8"], form)
    with pytest.raises(DataError, match="20201301"):
        gaps(["20201201", "20201301"], "%Y%m%d")


@pytest.mark.parametrize("form", ["", "frame", "%", "%Q", "100%%"])
def test_formats_that_mean_nothing(form: str) -> None:
    with pytest.raises(ConfigError, match="--time-format"):
        find_gaps(["a"], form)


def test_notes_count_what_was_found() -> None:
    sequences = [
        sequence("a", "1", "2", "3", "5"),
        sequence("b", "202001010000", "202001010005", "202001010010"),
        sequence("c", "202001010000", "202001010100", "202001010200"),
        sequence("d", "x", "y"),
        sequence("e", "10", "20", "30"),
        sequence("f", "x"),
    ]
    ordered, found, notes = number_frames(sequences)
    assert ordered == sequences
    assert found == {0: [3]}
    assert notes == [
        "sequences numbered in steps other than 1: 1, e.g. steps of 10",
        "times read from names as %Y%m%d%H%M, 5 min to 1 h apart",
        "gaps in numbering: 1 (1 frames missing), e.g. before a/5.png; no window crosses one "
        "(--allow-gaps lets them)",
        "numbering of 1 sequences says nothing about gaps",
    ]


def test_a_long_sequence_is_quick() -> None:
    names = [f"frame{n:07d}" for n in range(100_000) if n % 1000]
    start = time.perf_counter()
    positions = find_gaps(names).positions
    assert time.perf_counter() - start < 5
    np.testing.assert_array_equal(np.diff(positions), 999)


@pytest.mark.parametrize(
    ("form", "kind"), [("rw_10000-%y%m%d%H%M-dwd", "%y%m%d%H%M"), ("%Y%j%H%M", "%Y%j%H%M")]
)
@pytest.mark.parametrize("year", [1999, 2016])
def test_dates_without_a_century_or_a_month(form: str, kind: str, year: int) -> None:
    """Also from the last century to this one."""
    start = datetime(year, 12, 31, 21)
    times = [start + timedelta(minutes=5 * n) for n in range(60) if n not in (30, 31)]
    assert gaps([f"{time:{form}}" for time in times]) == ([30], 2, 5 * MINUTE, kind)


@pytest.mark.parametrize("first", ["1970010100", "2016022923"])
def test_whole_years_are_preferred(first: str) -> None:
    start = datetime.strptime(first, "%Y%m%d%H")
    names = [f"{start + timedelta(hours=n):%Y%m%d%H}" for n in range(30)]
    assert gaps(names) == ([], 0, 60 * MINUTE, "%Y%m%d%H")


@pytest.mark.parametrize("first", [1475102700, 20160228990])
def test_long_numbers_that_are_no_dates(first: int) -> None:
    numbers = [str(first + 10 * n) for n in range(20) if n != 7]
    assert gaps(numbers) == ([7], 1, 10, "number")
    note = number_frames([sequence("a", *numbers)]).notes[-1]
    assert note.endswith("lets them); --time-format reads times instead")


def test_no_hint_at_times_for_padded_numbers() -> None:
    found = number_frames([sequence("a", *(f"{n:09d}" for n in (1, 2, 3, 7)))])
    assert found.notes[-1].endswith("(--allow-gaps lets them)")


def test_files_of_the_same_number_are_noted() -> None:
    found = number_frames([sequence("a", "f001", "f1", "f002", "f2", "f3")])
    assert found.gaps == {}
    expected = "files with the same number or time as another: 2, e.g. a/f1.png"
    assert expected in found.notes
