"""Every kind of data through the two scripts, as a user runs them."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scripts import TINY, make_clips, run

import jaxconvlstm as jcl

pytestmark = pytest.mark.slow


def tool(name: str, *arguments: object, code: int = 0) -> str:
    """Run `python -m jaxconvlstm NAME`; what it printed."""
    return run("-m jaxconvlstm", name, *arguments, code=code).stdout


def test_an_array_in_its_own_unit_with_holes(tmp_path: Path) -> None:
    """Time first, two channels' worth of Kelvin, NaN, tiles: and Kelvin come out."""
    rng = np.random.default_rng(0)
    kelvin = rng.normal(280, 5, (30, 4, 18, 20)).astype(">f4")
    kelvin[:, :, 2:5, 3] = np.nan
    path, out = tmp_path / "kelvin.npy", tmp_path / "run"
    np.save(path, kelvin)

    assert "NaN" in run("train.py", "--data", path, "--axes", "TNHW", "--out", out, code=3).stderr
    assert not out.exists()
    flags = ("--axes", "TNHW", "--nan", "mask", "--normalize", "mean-std", "--unit", "K")
    more = ("--horizon", 2, "--crop", 12, 12, "--crop-by", "signal", "--rotate", "--tile", 12, 16)
    printed = run("train.py", "--data", path, "--out", out, *flags, *more, *TINY).stdout
    assert "read as TNHW" in printed and "value range" in printed
    assert "foreign byte order" in printed

    model = jcl.load(out)
    assert model.values.nan and model.values.unit == "K" and model.values.mean
    frames = np.nan_to_num(kelvin[:4, 0, ..., None].astype(np.float32), nan=280)
    future = model.predict(frames, steps=3)
    assert future.shape == (3, 18, 20, 1) and 200 < future.mean() < 400
    with_holes = model.predict(kelvin[:4, 0, ..., None].astype(np.float32), steps=1)
    assert np.isfinite(with_holes).all()

    printed = run("eval.py", out, "--samples", 0).stdout
    assert "mean absolute error" in printed and " K, persistence" in printed
    scores = json.loads((out / "eval" / "metrics.json").read_text())
    assert scores["horizon"] == 2 and len(scores["per_lead"]["model"]["mse"]) == 2
    assert "\n2 " in printed and "\n3 " in printed and "\n1 " not in printed
    split = json.loads((out / "split.json").read_text())
    assert {item["sequence"] for item in split["train"]} == {f"kelvin[{i}]" for i in range(4)}

    forecast = tmp_path / "forecast"
    run("eval.py", out, "--forecast", 2, "--data", path, "--out", forecast)
    saved = np.load(forecast / "kelvin[0]" / "forecast.npy", allow_pickle=False)
    assert saved.shape == (2, 18, 20, 1) and 200 < saved.mean() < 400


def test_another_dtype_is_forecast_with_its_own_range(tmp_path: Path) -> None:
    make_clips(tmp_path / "clips")
    run("train.py", "--data", tmp_path / "clips", "--out", tmp_path / "run", *TINY)
    shares = np.random.default_rng(0).random((9, 18, 14)).astype(np.float32)
    np.save(tmp_path / "shares.npy", shares)
    other = ("--data", tmp_path / "shares.npy", "--forecast", 2)
    assert "--value-range" in run("eval.py", tmp_path / "run", *other, code=3).stderr
    run("eval.py", tmp_path / "run", *other, "--value-range", 0, 1, "--out", tmp_path / "next")
    forecast = np.load(tmp_path / "next" / "forecast.npy", allow_pickle=False)
    assert forecast.dtype == np.float32 and np.abs(forecast).max() < 10
    refused = run("eval.py", tmp_path / "run", *other, "--samples", 1, code=2).stderr
    assert "--samples is for scores only" in refused


def test_a_path_list(tmp_path: Path) -> None:
    """Folders whose names have blanks and accents, to a list, to a model: 7 frames to 1."""
    make_clips(tmp_path / "mes clips à moi", sequences=4, frames=17)
    path, out = tmp_path / "clips.txt", tmp_path / "run"
    printed = tool("pathlist", "--data", tmp_path / "mes clips à moi", "--out", path)
    assert "8 lines of 8 frames from 4 sequences" in printed
    lengths = ("--input-frames", 7, "--target-frames", 1)
    run("train.py", "--data", path, "--out", out, *TINY, *lengths)
    split = json.loads((out / "split.json").read_text())
    assert sum(len(split[part]) for part in ("train", "val", "test")) == 8
    assert "8 windows" in run("eval.py", out, "--part", "all", "--samples", 0).stdout


def test_a_video(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    path, out = tmp_path / "clip.mp4", tmp_path / "run"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 32, 24, "yuv420p"
        for number in range(40):
            pixels = np.full((24, 32, 3), 40, np.uint8)
            pixels[8:14, number % 26 : number % 26 + 6] = (220, 120, 40)
            for packet in stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    flags = ("--size", 16, 16, "--fit", "crop", "--channels", 1)
    printed = run("train.py", "--data", path, "--out", out, *flags, *TINY).stdout
    assert "40 frames of 16x16x1 uint8" in printed
    run("eval.py", out, "--samples", 0)


def test_parts_by_folder_and_frames_left_out_are_said(tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "run"
    for part in ("train", "val", "test"):
        make_clips(data / part, sequences=1, frames=20)
    (data / "train" / "clip0" / "frame7.png").write_bytes(b"damaged")
    (data / "train" / "clip0" / "frame15.png").unlink()
    (data / "Thumbs.db").write_bytes(b"")
    refused = run("train.py", "--data", data, "--out", out, *TINY, code=3)
    assert "frame7.png" in refused.stderr
    printed = run("train.py", "--data", data, "--out", out, "--on-bad-frame", "skip", *TINY).stdout
    for said in (
        "frame7.png",
        "gaps in numbering: 1",
        "ignored",
        "train 1, val 1",
        "windows left out",
    ):
        assert said in printed, printed
    split = json.loads((out / "split.json").read_text())
    segments = [(s["sequence"], s["start"], s["stop"]) for s in split["train"]]
    # Frame 7 is bad, and 15 is missing: its place is taken by 16.
    assert segments == [("train/clip0", 0, 7), ("train/clip0", 8, 15)]
    run("eval.py", out, "--samples", 0)

    # The data grow; what was held out stays what it was.
    before = json.loads((out / "eval" / "metrics.json").read_text())
    for number in range(20, 30):
        Image.new("L", (14, 18)).save(data / "test" / "clip0" / f"frame{number}.png")
    run("eval.py", out, "--on-bad-frame", "skip", "--samples", 0)
    after = json.loads((out / "eval" / "metrics.json").read_text())
    assert (before["count"], before["model"]) == (after["count"], after["model"])
