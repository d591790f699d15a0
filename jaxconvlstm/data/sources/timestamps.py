"""Times in the names of frames: of common forms, or by a format as in strftime."""

import calendar
import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import NamedTuple

import numpy as np

from jaxconvlstm.errors import ConfigError, DataError
from jaxconvlstm.messages import printable

SECOND = 1_000_000
"""Times are counted in microseconds."""
YEARS = (1900, 2100)
"""Numbers that are taken for a year, where no format says so: 1900 to 2100."""

# Of names in which every digit is written as 0: a date, maybe with a time, each with or without
# one kind of separator.
_FORM = re.compile(
    r"(?<!0)0000(?P<date>[-_.]?)00(?P=date)00"
    r"(?:(?P<between>[-_T ]?)00(?:(?P<time>[-_:.]?)00(?P<second>(?P=time)00)?)?)?(?!0)"
)
# Forms without separators that are not of years, months and days of 8 digits, tried after those.
_SHORT_FORMS = {10: "%y%m%d%H%M", 11: "%Y%j%H%M"}
_SHORT = re.compile("(?<!0)0{10,11}(?!0)")
# Fewer digits may be many things: only behind the name of a product, as in AQC151351545.
_SHORT_FORMS[9] = "%y%j%H%M"
_SHORT_PRODUCT = re.compile("(?<=[A-Z]{3})0{9}(?!0)")
FIRST_YEAR_OF_TWO_DIGITS = 1969
"""As in strptime: 69 is 1969, and 68 is 2068."""
# What strptime reads, but with as many digits as strftime writes.
_DIRECTIVES = {
    "Y": "[0-9]{4}",
    **dict.fromkeys("mdHIMSyUW", "[0-9]{2}"),
    "j": "[0-9]{3}",
    "f": "[0-9]{1,6}",
    **dict.fromkeys("aAbBp", r"[^\W\d_]+"),
    "z": "(?:[-+][0-9]{4}|Z)",
    "%": "%",
}


class TimeForm(NamedTuple):
    """A form of times: made of the numbers `start` to `stop - 1` of so many digits each."""

    format: str
    start: int
    stop: int
    lengths: Sequence[int]


def time_forms(texts: Sequence[str], lengths: Sequence[int]) -> Iterator[TimeForm]:
    """The common forms of a time that names may be of, judged by text and counts of digits alone.

    Args:
      texts: what stands before, between and behind the numbers of all names.
      lengths: digits of each number; 0 for one of varying length, which is no part of a time.
    """
    shape, places = texts[0], []
    for length, text in zip(lengths, texts[1:]):
        places.append(len(shape))
        shape += ("0" * length or "#") + text
    for match in _FORM.finditer(shape):
        date, between, time = match["date"], match["between"], match["time"]
        form = f"%Y{date}%m{date}%d"
        form += "" if between is None else f"{between}%H"
        form += "" if time is None else f"{time}%M"
        form += "" if match["second"] is None else f"{time}%S"
        start, stop = bisect_left(places, match.start()), bisect_left(places, match.end())
        yield TimeForm(form, start, stop, lengths[start:stop])
    for match in (*_SHORT.finditer(shape), *_SHORT_PRODUCT.finditer(shape)):
        start, digits = bisect_left(places, match.start()), len(match[0])
        yield TimeForm(_SHORT_FORMS[digits], start, start + 1, [digits])


def to_microseconds(numbers: np.ndarray, form: TimeForm) -> np.ndarray | None:
    """Times `[name]` from the numbers `[name, part]` of a form; None if one is no real time."""
    joined = np.zeros(len(numbers), np.int64)
    # [name, part] -> [name]: the digits in one row, YYYYmmddHHMMSS or fewer.
    for part, length in zip(numbers.T, form.lengths):
        joined = joined * 10**length + part
    digits = sum(form.lengths)
    if form.format.startswith("%y"):
        century = FIRST_YEAR_OF_TWO_DIGITS // 100
        late = joined // 10 ** (digits - 2) >= FIRST_YEAR_OF_TWO_DIGITS % 100
        joined += np.where(late, century, century + 1) * 10**digits
        digits += 2
    if "%j" in form.format:
        return _from_day_of_year(joined)
    # Zeros for the minute and second that are not there.
    joined *= 10 ** (len("YYYYmmddHHMMSS") - digits)
    fields = []
    for _ in range(5):
        joined, field = np.divmod(joined, 100)
        fields.append(field)
    second, minute, hour, day, month = fields
    year = joined
    real = (YEARS[0] <= year) & (year <= YEARS[1]) & (month >= 1) & (month <= 12)
    real &= (hour < 24) & (minute < 60) & (second < 60)
    if not real.all():
        return None
    # By month, so that a day that the month has not is found: the 31st of April is in May.
    months = ((year - 1970) * 12 + month - 1).astype("datetime64[M]")
    days = months.astype("datetime64[D]") + (day - 1)
    if (days.astype("datetime64[M]") != months).any():
        return None
    seconds = ((days.astype(np.int64) * 24 + hour) * 60 + minute) * 60 + second
    return seconds * SECOND


def _from_day_of_year(joined: np.ndarray) -> np.ndarray | None:
    """Times of numbers YYYYjjjHHMM; None if one is no real time."""
    joined, minute = np.divmod(joined, 100)
    joined, hour = np.divmod(joined, 100)
    year, day = np.divmod(joined, 1000)
    real = (YEARS[0] <= year) & (year <= YEARS[1]) & (day >= 1) & (hour < 24) & (minute < 60)
    if not real.all():
        return None
    years = (year - 1970).astype("datetime64[Y]")
    days = years.astype("datetime64[D]") + (day - 1)
    if (days.astype("datetime64[Y]") != years).any():
        return None
    return ((days.astype(np.int64) * 24 + hour) * 60 + minute) * 60 * SECOND


def read_times(names: Iterable[str], time_format: str) -> np.ndarray:
    """Times of names, in microseconds, as a format of strftime says.

    Args:
      names: in which the time may stand between other text.
      time_format: e.g. "%Y%m%d%H%M".

    Raises:
      ConfigError: a format that cannot be read.
      DataError: the first name that is not of the format.
    """
    expanded = time_format.replace("%T", "%H:%M:%S").replace("%F", "%Y-%m-%d")
    pattern, known = _pattern(expanded)
    # Without a year, the 29th of February would be refused, and Python warns.
    prefix = ("", "") if {"%Y", "%y"} & known else ("2000 ", "%Y ")
    # Looking ahead finds places that overlap; numbers as a whole come first.
    whole = re.compile(f"(?<![0-9])(?=({pattern})(?![0-9]))")
    anywhere = re.compile(f"(?=({pattern}))")

    def time_of(name: str) -> int:
        for search in (whole, anywhere):
            for match in search.finditer(name):
                try:
                    time = datetime.strptime(prefix[0] + match[1], prefix[1] + expanded)
                except ValueError:
                    continue
                return calendar.timegm(time.utctimetuple()) * SECOND + time.microsecond
        raise DataError(
            f"{printable(name)}: the name holds no time as --time-format "
            f"{printable(time_format)} says"
        )

    return np.fromiter(map(time_of, names), np.int64)


def _pattern(time_format: str) -> tuple[str, set[str]]:
    """A regular expression of what a format writes, and the directives in it."""
    parts = re.split("(%.?)", time_format, flags=re.DOTALL)
    found = set(parts[1::2])
    unknown = sorted(part for part in found if part[1:] not in _DIRECTIVES)
    if unknown or not found - {"%%"}:
        what = f"{unknown[0]} is not understood" if unknown else "no % directive in it"
        raise ConfigError(
            f"--time-format {printable(time_format)}: {printable(what)}; e.g. %Y%m%d%H%M"
        )
    return "".join(_DIRECTIVES[p[1:]] if p in found else re.escape(p) for p in parts), found
