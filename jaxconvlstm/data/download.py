"""Public data that --data may name: downloaded once, checked, and kept."""

import os
import time
from pathlib import Path
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit

from jaxconvlstm.data.sources.arrays.stored_array import one_line
from jaxconvlstm.errors import DataError
from jaxconvlstm.messages import printable, say

FOLDER_VARIABLE = "JAXCONVLSTM_DATA"
"""Environment variable: the folder to keep files in; by default the user's cache folder."""
REPORT_EVERY = 3.0
"""Seconds between two lines of progress."""
TIMEOUT = 30.0
"""Seconds without an answer after which a download has failed."""
_CHUNK_BYTES = 2**16


class PublicFile(NamedTuple):
    """A file that anybody may fetch.

    Attributes:
      url: where it lies.
      md5: its checksum.
      dataset: the kind of data, as --dataset says it.
    """

    url: str
    md5: str
    dataset: Literal["array", "moving-mnist"]


# Places and checksums as torchvision has them (datasets/mnist.py, datasets/moving_mnist.py).
FILES = {
    # 60,000 digits of 28x28 (LeCun, Cortes, Burges).
    "mnist": PublicFile(
        "https://ossci-datasets.s3.amazonaws.com/mnist/train-images-idx3-ubyte.gz",
        "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "moving-mnist",
    ),
    # 10,000 clips of 20 frames, 820 MB: what the field reports its scores on (Srivastava et al.
    # 2015).
    "moving-mnist-test": PublicFile(
        "http://www.cs.toronto.edu/~nitish/unsupervised_video/mnist_test_seq.npy",
        "be083ec986bfe91a449d63653c411eb2",
        "array",
    ),
}


def is_name(path: str) -> bool:
    """True if public data are meant; a file or folder of that name wins."""
    return path in FILES and not Path(path).exists()


def resolve(name_or_path: str) -> str:
    """A path as it is; of public data, the path of their file, which is downloaded if need be.

    A file that is there is used if it is whole. Another is written under another name first, so
    that a download cut short never counts as whole.

    Raises:
      DataError: it cannot be fetched; the message says how to do it by hand.
    """
    if not is_name(name_or_path):
        return name_or_path
    name = name_or_path
    try:
        import pooch
        import requests
    except ImportError:
        raise DataError(f"--data {name}: fetching it needs pooch: pip install pooch") from None
    file = FILES[name]
    folder = Path(os.environ.get(FOLDER_VARIABLE) or pooch.os_cache("jaxconvlstm")).absolute()
    path = folder / file.url.rpartition("/")[2]
    # Its own messages name a checksum that nobody asked for, and go to stderr.
    pooch.get_logger().setLevel("WARNING")
    try:
        pooch.retrieve(file.url, f"md5:{file.md5}", path.name, folder, downloader=_Download(name))
    except requests.ConnectionError as error:
        raise _to_do(name, path, f"no connection to {urlsplit(file.url).hostname}") from error
    except requests.RequestException as error:
        raise _to_do(name, path, f"cannot be downloaded: {one_line(error)}") from error
    except ValueError as error:  # What was downloaded is gone again.
        reason = f"what {file.url} gives is not the file with the checksum {file.md5}"
        raise _to_do(name, path, reason) from error
    except OSError as error:
        raise DataError(
            f"--data {name}: cannot be kept in {printable(folder)}: {one_line(error)}; "
            f"{FOLDER_VARIABLE} may name another folder"
        ) from error
    return str(path)


def _to_do(name: str, path: Path, reason: str) -> DataError:
    """The error of public data that cannot be fetched, with what to do about it."""
    return DataError(
        f"--data {name}: {reason}; download {FILES[name].url} by hand to {printable(path)}"
    )


class _Download:
    """Downloads a file, and prints a line every few seconds; in the form that pooch calls it.

    Pooch's own leaves connections open when they fail, and needs tqdm to show how far it is.
    """

    def __init__(self, name: str):
        self._name = name

    def __call__(self, url: str, output_file: str, pooch: Any) -> None:
        """Raises `requests.RequestException` or `OSError`."""
        del pooch
        import requests

        say(f"{self._name}: downloading {url}")
        # Not packed for the way: what comes is compared with the file's own checksum.
        headers = {"Accept-Encoding": "identity"}
        with (
            requests.get(url, stream=True, timeout=TIMEOUT, headers=headers) as response,
            Path(output_file).open("wb") as file,
        ):
            response.raise_for_status()
            total = int(response.headers.get("Content-Length", 0))
            last = time.monotonic()
            for piece in response.iter_content(_CHUNK_BYTES):
                file.write(piece)
                if time.monotonic() - last >= REPORT_EVERY:
                    last = time.monotonic()
                    of = f" of {total / 1e6:.0f}" if total else ""
                    say(f"{self._name}: {file.tell() / 1e6:.0f}{of} MB")
