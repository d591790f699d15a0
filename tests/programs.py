"""The scripts as a user runs them, and clips for them."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
TINY = (
    "--epochs 2 --steps-per-epoch 3 --batch-size 2 --features 4 --layers 1 --downsample 2 "
    "--input-frames 3 --target-frames 2 --log-every 1"
).split()


def run(script: str, *arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Runs a script, checks its exit code, and that an error is one line."""
    result = subprocess.run(
        [sys.executable, script, *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
    )
    assert result.returncode == code, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    if code:
        assert len(result.stderr.strip().splitlines()) == 1, result.stderr
    return result


def make_clips(
    folder: Path,
    sequences: int = 3,
    frames: int = 24,
    size: tuple[int, int] = (18, 14),
    mode: str = "L",
) -> Path:
    """Folders of PNGs in which a bright bar moves one pixel a frame; names without zero padding."""
    for sequence in range(sequences):
        place = folder / f"clip{sequence}"
        place.mkdir(parents=True)
        for frame in range(frames):
            pixels = np.full(size, 20, np.uint8)
            pixels[:, (frame + 3 * sequence) % size[1]] = 220
            Image.fromarray(pixels).convert(mode).save(place / f"frame{frame}.png")
    return folder
