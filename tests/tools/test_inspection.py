"""The tools beside training: what they print, draw and leave with, on small real files."""

import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scripts import ROOT, run, run_process

from jaxconvlstm import __main__ as tools
from jaxconvlstm.config.data import DataConfig
from jaxconvlstm.data.dataset import guess_dataset
from jaxconvlstm.data.frames_dataset import FramesDataset
from jaxconvlstm.data.sources.base import Frames, Region, Segment
from jaxconvlstm.errors import ConfigError, DataError
from jaxconvlstm.plots import LabelledClip, contact_sheet, labelled_animation
from jaxconvlstm.plots.drawing import MISSING
from jaxconvlstm.scale import Values
from jaxconvlstm.tools.inspect import main as inspection
from jaxconvlstm.tools.inspect.pictures import places_of
from jaxconvlstm.tools.inspect.survey import persistence_errors, survey_frames
from jaxconvlstm.tools.inspect.warnings import find_warnings

SHORT = "--input-frames 3 --target-frames 2".split()


class FramesInMemory(Frames):
    """Sequences `[time, height, width, channels]` as they are."""

    def __init__(self, *sequences: np.ndarray):
        super().__init__()
        self.sequences = sequences
        self.names = [f"clip{number}" for number in range(len(sequences))]
        self.lengths = [len(sequence) for sequence in sequences]
        self.frame_shape = sequences[0].shape[1:]  # type: ignore[assignment]
        self.dtype = sequences[0].dtype

    def read(
        self, sequence: int, frames: Sequence[int], region: Region | None = None
    ) -> np.ndarray:
        chosen = self.sequences[sequence][list(frames)]
        return chosen if region is None else chosen[:, region[0], region[1]]


def moving_bar(
    frames: int = 24, size: tuple[int, int] = (18, 14), dtype: str = "uint8"
) -> np.ndarray:
    """`[time, height, width]`: a grey ramp over which a bright bar moves one pixel a frame."""
    clip = np.empty((frames, *size), dtype)
    clip[:] = np.linspace(10, 120, size[1]).astype(dtype)
    for frame in range(frames):
        clip[frame, :, frame % size[1]] = 220
    return clip


def save_pictures(folder: Path, clip: np.ndarray) -> Path:
    folder.mkdir(parents=True)
    for number, pixels in enumerate(clip):
        Image.fromarray(pixels).save(folder / f"frame{number}.png")
    return folder


def rows(text: str) -> dict[str, list[str]]:
    """The report by label; a line without one belongs to the label above."""
    found: dict[str, list[str]] = {}
    label = ""
    for line in text.splitlines():
        label = line[:12].strip() or label
        found.setdefault(label, []).append(line[13:])
    return found


def inspect(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, list[str]]:
    """The report of a run in this process."""
    inspection.main([str(argument) for argument in arguments])
    return rows(capsys.readouterr().out)


def has_missing(path: Path) -> bool:
    """Whether the colour of missing pixels is in a picture, or in any page of it."""
    with Image.open(path) as picture:
        for page in range(getattr(picture, "n_frames", 1)):
            picture.seek(page)
            if (np.asarray(picture.convert("RGB")) == MISSING).all(axis=-1).any():
                return True
    return False


class TestFolders:
    def test_a_folder_from_end_to_end(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        data = tmp_path / "my clips"
        save_pictures(data / "a", moving_bar(24))
        save_pictures(data / "b", moving_bar(20))
        save_pictures(data / "c", moving_bar(3))
        (data / "notes.txt").write_text("no picture")
        result = run("-m jaxconvlstm", "inspect", "--data", data, *SHORT)
        report = rows(result.stdout)
        assert report["sequences"] == [
            "3: shortest 3, median 20, longest 24 frames",
            "a (24), b (20), c (3)",
        ]
        assert report["frames"][0].startswith("47 of 18x14 (height x width), 1 channel, uint8")
        assert report["values"][0].startswith("10 to 220, mean ")
        assert report["value range"][0].startswith("0 to 255, which become 0 and 1")
        assert report["windows"][0].startswith("36 of 3 input and 2 target frames")
        assert any("notes.txt" in note for note in report["notes"])
        assert any("too short for a window: 1 of 3" in line for line in report["to check"])
        out = tmp_path / "runs" / "inspect-my-clips"
        assert {path.name for path in out.iterdir()} == {"contact-sheet.png", "animation.gif"}
        assert "wrote runs/inspect-my-clips/contact-sheet.png" in result.stdout
        assert f"--data '{data}'" in result.stdout.splitlines()[-1]

    def test_16_bits(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        data = save_pictures(tmp_path / "data", 18 * moving_bar(24, dtype="uint16"))
        report = inspect(capsys, "--data", data, "--out", tmp_path / "out", *SHORT)
        assert "uint16" in report["frames"][0]
        assert report["values"][0].startswith("180 to 3960")
        assert "--value-range 0 4095" in report["to check"][0]
        report = inspect(
            capsys, "--data", data, "--out", tmp_path / "out", "--value-range", 0, 4095, *SHORT
        )
        assert report["to check"] == ["nothing looks wrong"]

    def test_lead_times_are_counted_from_the_horizon(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        np.save(tmp_path / "clip.npy", moving_bar())
        flags = ["--data", tmp_path / "clip.npy", "--samples", 0, "--horizon", 3]
        report = inspect(capsys, *flags, *SHORT)
        assert [line.split()[0] for line in report["persistence"][2:4]] == ["+3", "+4"]

    def test_data_too_short_for_a_window_are_still_described(self, tmp_path: Path) -> None:
        data = save_pictures(tmp_path / "data", moving_bar(4))
        flags = ["--data", data, "--out", tmp_path / "out"]
        result = run("-m jaxconvlstm", "inspect", *flags, code=3)
        assert "need 12" in result.stderr
        report = rows(result.stdout)
        assert report["values"][0].startswith("10 to 220")
        assert report["windows"] == ["none of 7 input and 5 target frames"]
        assert (tmp_path / "out" / "contact-sheet.png").is_file()

    def test_path_list(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        save_pictures(tmp_path / "data" / "a", moving_bar(24))
        arguments = "pathlist --data data --out list.txt --length 6 --stride 5".split()
        tools.dispatch(arguments)
        output = capsys.readouterr().out
        assert "wrote list.txt: 4 lines of 6 frames from 1 sequence\n" in output
        assert output.endswith("--data list.txt --input-frames 5 --target-frames 1\n")
        before = Path("list.txt").read_bytes()
        with pytest.raises(ConfigError, match="--overwrite"):
            tools.dispatch([*arguments, "--stride", "1"])
        assert Path("list.txt").read_bytes() == before
        tools.dispatch([*arguments, "--stride", "3", "--overwrite"])
        assert len(Path("list.txt").read_text().splitlines()) == 7
        capsys.readouterr()
        report = inspect(capsys, "--data", "list.txt", *SHORT, "--split", "train=1")
        assert report["sequences"][0].startswith("7: ")
        assert report["groups"][0].startswith("1, of sequences that share frames")


class TestArrays:
    def test_own_units_masks_and_five_channels(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        clip = np.random.default_rng(0).uniform(-5, 60, (30, 20, 24, 5)).astype(np.float32)
        clip[:, -1, -1], clip[:, -1, -2] = -5, 60
        clip[:, :6, :9] = np.nan
        np.save(tmp_path / "clip.npy", clip)
        data = ("--data", tmp_path / "clip.npy", "--axes", "THWC", *SHORT)
        with pytest.raises(DataError, match="NaN"):
            inspect(capsys, *data)
        out = tmp_path / "out"
        report = inspect(capsys, *data, "--nan", "mask", "--unit", "dBZ", "--out", out)
        assert "5 channels, float32" in report["frames"][0]
        assert report["values"][0].startswith("-5 to 60 dBZ")
        assert report["values"][1] == "missing: 11 % of the values"
        # Missing pixels count neither as values nor as errors.
        errors = [float(line.split()[1]) for line in report["persistence"][2:4]]
        assert errors == pytest.approx([1 / 6, 1 / 6], rel=0.05)
        assert has_missing(out / "contact-sheet.png") and has_missing(out / "animation.gif")

    def test_pictures_can_be_left_out(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        np.save("clip.npy", moving_bar())
        report = inspect(capsys, "--data", "clip.npy", *SHORT, "--samples", 0)
        assert not any(label.startswith("wrote") for label in report)
        assert [path.name for path in tmp_path.iterdir()] == ["clip.npy"]

    def test_windows_are_counted_where_no_split_is_possible(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        np.save(tmp_path / "clip.npy", moving_bar(8))
        with pytest.raises(DataError, match="no window for"):
            inspect(capsys, "--data", tmp_path / "clip.npy", *SHORT, "--samples", 0)
        report = rows(capsys.readouterr().out)
        assert report["windows"][0].startswith("4 of 3 input")
        assert len(report["persistence"]) == 5


class TestFlags:
    @pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
    def test_tools_are_listed(
        self, arguments: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        tools.dispatch(arguments)
        output = capsys.readouterr().out
        assert "  inspect " in output and "  pathlist " in output

    @pytest.mark.parametrize("tool", ["inspect", "pathlist"])
    def test_help_teaches(
        self, tool: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sys.argv", ["__main__.py"])  # as python -m jaxconvlstm starts it
        with pytest.raises(SystemExit) as stop:
            tools.dispatch([tool, "--help"])
        assert not stop.value.code
        assert f"python -m jaxconvlstm {tool} --data DIR" in capsys.readouterr().out

    def test_a_mistyped_tool(self) -> None:
        assert "did you mean inspect?" in run_process("-m", "jaxconvlstm", "inspct", code=2).stderr

    def test_data_that_are_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="absent"):
            tools.dispatch(["inspect", "--data", str(tmp_path / "absent")])

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["inspect"], "expected --data"),
            (["inspect", "--data", "d", "--sample", "3"], "did you mean --samples"),
            (["inspect", "--data", "d", "--samples", "-1"], "--samples"),
            (["inspect", "--dataset", "moving-squares"], "moving-squares"),
            (["pathlist", "--data", "d"], "expected --data and --out"),
            (["pathlist", "--data", "d", "--out", "f", "--length", "0"], "--length"),
            (["predict"], "there are train, eval, inspect, pathlist, verify"),
        ],
    )
    def test_wrong_flags_are_named(self, arguments: list[str], message: str) -> None:
        with pytest.raises(ConfigError, match=re.escape(message)):
            tools.dispatch(arguments)

    def test_pictures_never_land_in_the_data(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        data = tmp_path / "data"
        (data / "clip").mkdir(parents=True)
        with pytest.raises(ConfigError, match="lies in --data"):
            inspection.output_folder(data / "clip" / "out", str(data))
        monkeypatch.chdir(tmp_path)
        assert inspection.output_folder(None, "data") == Path("runs/inspect-data")
        for inside, name in ((data, "."), (data / "clip", "..")):
            monkeypatch.chdir(inside)
            assert inspection.output_folder(None, name) == tmp_path / "inspect-data"

    def test_starts_without_jax(self, tmp_path: Path) -> None:
        """The package's own names may bring JAX along; nothing that the tools need does."""
        np.save(tmp_path / "clip.npy", moving_bar())
        program = (
            "import sys, types\n"
            "package = types.ModuleType('jaxconvlstm')\n"
            f"package.__path__ = [{str(ROOT / 'jaxconvlstm')!r}]\n"
            "package.__version__ = ''\n"
            "sys.modules['jaxconvlstm'] = package\n"
            "from jaxconvlstm.__main__ import dispatch\n"
            f"dispatch(['inspect', '--data', 'clip.npy', *{SHORT!r}])\n"
            "found = {name.split('.')[0] for name in sys.modules}\n"
            "print(sorted(found & {'jax', 'flax', 'optax', 'grain', 'orbax', 'matplotlib'}))\n"
        )
        command = [sys.executable, "-c", program]
        result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        assert result.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("clips", "folder"),
        ("list.txt", "folder"),
        ("pages.TIF", "folder"),
        ("clip.npy", "array"),
        ("clip.H5", "array"),
        ("clip.zarr", "array"),
        ("clip.mp4", "video"),
        ("clip.MKV", "video"),
    ],
)
def test_dataset_follows_from_the_name(path: str, kind: str) -> None:
    assert guess_dataset(path) == kind


def test_a_folder_named_like_a_video_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "shot.mp4").mkdir()
    assert guess_dataset(str(tmp_path / "shot.mp4")) == "folder"


class TestPersistence:
    def test_equals_what_evaluation_counts(self) -> None:
        """With missing pixels in input and target, and a scale that is shifted and spread."""
        import jax
        import jax.numpy as jnp

        from jaxconvlstm.metrics.frame_scores import frame_scores
        from jaxconvlstm.task import last_valid

        clip = moving_bar(12)[..., None].copy()
        clip[2, :4] = clip[1:3, 5:7, 3] = clip[4, :, :2] = 255
        clip[6] = 255
        config = DataConfig(
            dataset="array", input_frames=3, target_frames=2, missing_value=255, stride=2
        )
        values = Values(0, 250, "uint8", missing=255, mean=(0.4,), std=(0.2,))
        dataset = FramesDataset(config, FramesInMemory(clip), values=values)
        windows = dataset.windows("all")
        found = persistence_errors(windows, values)
        read = [windows.read(0, index) for index in range(len(windows))]
        inputs, targets = (jnp.stack(parts) for parts in zip(*read))
        last = last_valid(values.scale(inputs), values.valid(inputs))[:, -1:]
        shown = values.to_unit(jnp.broadcast_to(last, targets.shape))
        truth = values.to_unit(values.scale(targets))
        result = jax.jit(frame_scores)(shown, truth, values.valid(targets))
        assert found[2] == len(windows) == 4
        for key, means in zip(("mse", "mae"), found):
            sums, counts = (np.sum(part, axis=0) for part in result[key])
            np.testing.assert_allclose(means, sums / counts, rtol=1e-5)


def doubts(clip: np.ndarray, config: DataConfig | None = None, **scale: float) -> list[str]:
    """The warnings about one sequence."""
    frames = FramesInMemory(clip if clip.ndim == 4 else clip[..., None])
    values = Values.for_dtype(clip.dtype, missing=scale.get("missing"))
    config = config or DataConfig(dataset="array", input_frames=3, target_frames=2)
    return find_warnings(survey_frames(frames, values), frames, values, config)


class TestWarnings:
    def test_sound_data_raise_no_warning(self) -> None:
        assert doubts(moving_bar()) == []
        one_pixel = np.arange(0, 180, 20, dtype=np.uint8)[:, None, None]
        assert doubts(one_pixel) == []

    def test_constant_and_repeated_frames(self) -> None:
        clip = moving_bar().repeat(2, axis=0)
        clip[7] = 30
        lines = doubts(clip)
        assert lines[0].startswith("frames that hold a single value: 1 of 48 looked at")
        assert lines[1].startswith("frames that are the same as the one before: 23 of 47")

    def test_a_code_that_never_moves(self) -> None:
        clip = moving_bar()
        clip[:, :3] = 255
        (line,) = doubts(clip)
        assert line.startswith("17 % of the pixels are 255") and "--missing-value 255" in line
        assert doubts(clip, missing=255) == []
        clip[:, :3] = 0  # What black background looks like.
        assert doubts(clip) == []

    def test_a_code_far_from_all_values(self) -> None:
        clip = np.random.default_rng(0).random((20, 9, 9)).astype(np.float32)
        clip[3, 2, 1] = -9999
        assert any("--missing-value -9999" in line for line in doubts(clip))

    def test_values_outside_the_range(self) -> None:
        frames = FramesInMemory(moving_bar()[..., None])
        config = DataConfig(dataset="array", input_frames=3, target_frames=2)
        found = []
        for high in (220, 219):
            values = Values(0, high, "uint8")
            found.append(find_warnings(survey_frames(frames, values), frames, values, config))
        assert found[0] == []
        assert found[1][0].startswith("values outside the range 0 to 219: 7.1 %")

    def test_large_frames(self) -> None:
        clip = np.random.default_rng(0).integers(0, 255, (5, 600, 500)).astype(np.uint8)
        assert "--crop" in doubts(clip)[0]
        crops = DataConfig(dataset="array", input_frames=3, target_frames=2, crop=(64, 64))
        assert doubts(clip, crops) == []

    def test_everything_missing(self) -> None:
        (line,) = doubts(np.full((5, 4, 4), 255, np.uint8), missing=255)
        assert line.startswith("every pixel")


def test_only_some_of_many_frames_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = FramesInMemory(*(moving_bar(150, (4, 4))[..., None] for _ in range(4)))
    frames.bad = {1: {3: "damaged"}}
    read: list[tuple[int, int]] = []
    original: Callable[..., np.ndarray] = frames.read
    monkeypatch.setattr(
        frames, "read", lambda s, numbers: read.append((s, *numbers)) or original(s, numbers)
    )
    survey = survey_frames(frames, Values.for_dtype(np.uint8))
    assert survey.frames == len(read) <= 200 and survey.pairs == 100
    assert {sequence for sequence, _ in read} == {0, 1, 2, 3} and (1, 3) not in read


class TestPictures:
    def test_rows_come_from_all_over_the_data(self) -> None:
        long = places_of([Segment(0, 0, 100)], 8, 8, 1)
        assert len(long) == 8 and long[0][1][0] == 0 and long[-1][1][-1] == 99
        many = places_of([Segment(n, 0, 20) for n in range(30)], 8, 8, 1)
        assert [sequence for sequence, _ in many][::7] == [0, 29] and len(many) == 8
        few = places_of([Segment(0, 0, 40), Segment(1, 0, 3)], 8, 8, 2)
        assert [list(numbers)[:2] for _, numbers in few] == [[0, 2], [25, 27]]
        assert places_of([Segment(0, 5, 6)], 8, 8, 1) == [(0, range(5, 6))]
        assert places_of([], 8, 8, 1) == []

    @pytest.mark.parametrize("shape", [(1, 1), (3, 900), (900, 3), (1000, 1000)])
    @pytest.mark.parametrize("channels", [1, 2, 3])
    def test_frames_of_any_size(
        self, tmp_path: Path, shape: tuple[int, int], channels: int
    ) -> None:
        frames = np.linspace(0, 1, 4, dtype=np.float32).reshape(4, 1, 1, 1)
        frames = np.broadcast_to(frames, (4, *shape, channels)).copy()
        frames[1] = np.nan
        clip = LabelledClip("x" * 500, ["y" * 80, "\udcff\n", "", "frame 3"], frames)
        contact_sheet([clip] * 2, tmp_path / "sheet.png", ["a legend"])
        labelled_animation(clip, tmp_path / "clip.gif")
        with Image.open(tmp_path / "sheet.png") as picture:
            assert picture.width <= 2000 and picture.height <= 1000
            pixels = np.asarray(picture)
        # The margin is white: no text leaves the picture.
        for rim in (pixels[:8], pixels[-8:], pixels[:, :8], pixels[:, -8:]):
            assert (rim == 255).all()
        assert has_missing(tmp_path / "sheet.png")
        with Image.open(tmp_path / "clip.gif") as picture:
            assert picture.n_frames == 4 and picture.width <= 360
        if channels != 3:
            assert has_missing(tmp_path / "clip.gif")
