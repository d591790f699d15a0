"""Measure the frames per second of the loader, beside the least work that reads the same files.

Pictures are compared with a bare Pillow loop, `np.asarray(Image.open(path))`, and an array with
plain copies out of its memory map, in as many threads. There are two kinds of copies: single
windows that are dropped at once, so that the next copy finds its memory warm, and batches of
windows that live as long as the loader's. Every frame is decoded once per pass: windows do not
overlap, and no frames are cached.

    python benchmarks/loader.py --threads 2 --seconds 2
"""

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from jaxconvlstm.config.data import DataConfig
from jaxconvlstm.data.loader import TrainLoader
from jaxconvlstm.data.prefetch import AHEAD
from jaxconvlstm.data.sources.arrays.array_frames import ArrayFrames
from jaxconvlstm.data.sources.base import Frames, Region
from jaxconvlstm.data.sources.images.folder import FolderFrames

INPUT_FRAMES, TARGET_FRAMES, BATCH_SIZE = 7, 1, 8
WINDOW = INPUT_FRAMES + TARGET_FRAMES
PICTURES = 1024
"""Files of each kind."""
KINDS: dict[str, tuple[str, tuple[int, ...]]] = {
    "256x256 RGB PNG": ("png", (256, 256, 3)),
    "128x128 RGB JPEG, quality 90": ("jpg", (128, 128, 3)),
    "64x64 grey PNG": ("png", (64, 64)),
}
ARRAY = "64x64 uint8 array [N, 20, H, W], beside copies"
ARRAY_BATCHES = "the same, beside copies into batches"


class OneByOne:
    """Windows that do not overlap; see `dataset.Windows`."""

    dense_targets = False

    def __init__(self, frames: Frames, span: int):
        self._frames, self.frame_shape = frames, frames.frame_shape
        self._starts = [
            (sequence, start)
            for sequence, length in enumerate(frames.lengths)
            for start in range(0, length - span + 1, span)
        ]
        self._span = span

    def __len__(self) -> int:
        return len(self._starts)

    def read(
        self, epoch: int, index: int, region: Region | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        sequence, start = self._starts[index]
        window = self._frames.read(sequence, range(start, start + self._span), region)
        return window[:-TARGET_FRAMES], window[-TARGET_FRAMES:]

    def name(self, index: int) -> str:
        return str(self._starts[index])


def draw(generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Draw a picture with shading, edges and noise, which compresses about as a photograph does.

    Args:
      generator: source of randomness.
      shape: `(height, width)` or `(height, width, 3)`.

    Returns:
      uint8 of that shape.
    """
    height, width = shape[:2]
    coarse = generator.integers(0, 256, (8, 8, *shape[2:]), np.uint8)
    picture = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
    picture = picture.astype(np.float32)
    for _ in range(6):
        top, left = generator.integers(0, height), generator.integers(0, width)
        picture[top : top + height // 4, left : left + width // 4] *= generator.uniform(0.5, 1.2)
    return np.clip(picture + generator.normal(0, 3, shape), 0, 255).astype(np.uint8)


def write_pictures(folder: Path, extension: str, shape: tuple[int, ...]) -> list[Path]:
    """Write the `PICTURES` files of one kind, of which 32 differ, and return their paths."""
    generator = np.random.default_rng(0)
    pictures = [Image.fromarray(draw(generator, shape)) for _ in range(32)]
    folder.mkdir()
    paths = [folder / f"{number:05d}.{extension}" for number in range(PICTURES)]
    for number, path in enumerate(paths):
        pictures[number % len(pictures)].save(path, quality=90)
    return paths


def bare_pictures(paths: list[Path], threads: int, seconds: float) -> float:
    """Frames per second of Pillow alone."""

    def decode(block: list[Path]) -> None:
        for path in block:
            np.asarray(Image.open(path))

    blocks = [paths[start : start + 64] for start in range(0, len(paths), 64)]
    with ThreadPoolExecutor(threads) as pool:
        return repeat(lambda: list(pool.map(decode, blocks)), len(paths), seconds)


def bare_array(path: Path, span: int, threads: int, seconds: float) -> float:
    """Frames per second of copies of windows out of a memory map."""
    array = np.load(path, mmap_mode="r")
    starts = [(n, a) for n in range(len(array)) for a in range(0, array.shape[1] - span + 1, span)]

    def copy(block: list[tuple[int, int]]) -> None:
        for number, start in block:
            np.array(array[number, start : start + span])

    blocks = [starts[start : start + 64] for start in range(0, len(starts), 64)]
    with ThreadPoolExecutor(threads) as pool:
        return repeat(lambda: list(pool.map(copy, blocks)), len(starts) * span, seconds)


def bare_batches(path: Path, span: int, threads: int, seconds: float) -> float:
    """Frames per second of windows copied into batches, of which some wait to be used."""
    array = np.load(path, mmap_mode="r")
    starts = [(n, a) for n in range(len(array)) for a in range(0, array.shape[1] - span + 1, span)]
    waiting: deque[tuple[np.ndarray, np.ndarray]] = deque(maxlen=AHEAD)

    def copy(block: list[tuple[int, int]]) -> None:
        windows = [array[number, start : start + span] for number, start in block]
        inputs = np.stack([window[:-TARGET_FRAMES] for window in windows])
        waiting.append((inputs, np.stack([window[-TARGET_FRAMES:] for window in windows])))

    blocks = [starts[i : i + BATCH_SIZE] for i in range(0, len(starts), BATCH_SIZE)]
    with ThreadPoolExecutor(threads) as pool:
        return repeat(lambda: list(pool.map(copy, blocks)), len(starts) * span, seconds)


def repeat(once: Callable[[], Any], frames: int, seconds: float) -> float:
    """Repeat a call until the time is up.

    Args:
      once: the call.
      frames: frames that it reads.
      seconds: least time to measure.

    Returns:
      Frames per second.
    """
    began, count = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - began) < seconds:
        once()
        count += frames
    return count / elapsed


def loaded(frames: Frames, span: int, threads: int, seconds: float) -> float:
    """Frames per second of batches from the loader, end to end."""
    with TrainLoader(OneByOne(frames, span), BATCH_SIZE, 0, threads=threads) as loader:
        next(loader)
        return repeat(lambda: next(loader), BATCH_SIZE * span, seconds)


def compare(bare: Callable[[], float], ours: Callable[[], float], repeats: int) -> dict[str, float]:
    """Medians of the two rates, in frames per second, and of their ratio, measured in turn."""
    rates = [(bare(), ours()) for _ in range(repeats)]
    ratio = statistics.median(our / base for base, our in rates)
    base, our = (statistics.median(column) for column in zip(*rates, strict=True))
    return {"bare": round(base), "loader": round(our), "ratio": round(ratio, 3)}


def measure(
    folder: Path, threads: int, seconds: float, repeats: int
) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield the name of each kind of data, and the result of `compare` for it."""
    for number, (name, (extension, shape)) in enumerate(KINDS.items()):
        paths = write_pictures(folder / str(number), extension, shape)
        pictures = FolderFrames(folder / str(number), DataConfig(check_files="headers", cache=0))
        yield (
            name,
            compare(
                partial(bare_pictures, paths, threads, seconds),
                partial(loaded, pictures, WINDOW, threads, seconds),
                repeats,
            ),
        )
    path = folder / "clips.npy"
    np.save(path, np.random.default_rng(0).integers(0, 256, (2000, 20, 64, 64), np.uint8))
    arrays = ArrayFrames(path, DataConfig(axes="NTHW"))
    ours = partial(loaded, arrays, 20, threads, seconds)
    for name, bare in ((ARRAY, bare_array), (ARRAY_BATCHES, bare_batches)):
        yield name, compare(partial(bare, path, 20, threads, seconds), ours, repeats)


def main() -> None:
    """Measure all kinds of data, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=2.0, help="length of each measurement")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        results = dict(
            measure(Path(folder), arguments.threads, arguments.seconds, arguments.repeats)
        )
    versions = {
        "python": platform.python_version(),
        "pillow": PIL.__version__,
        "numpy": np.__version__,
        "cores": len(os.sched_getaffinity(0)),
        "threads": arguments.threads,
    }
    if arguments.json:
        print(json.dumps({"frames_per_second": results, **versions}))
        return
    print("| frames per second | bare | loader | ratio |\n| --- | ---: | ---: | ---: |")
    for name, rates in results.items():
        print(f"| {name} | {rates['bare']:.0f} | {rates['loader']:.0f} | {rates['ratio']:.0%} |")
    print("\n" + ", ".join(f"{name} {value}" for name, value in versions.items()))


if __name__ == "__main__":
    main()
