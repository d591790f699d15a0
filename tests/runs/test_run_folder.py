"""The run folder's lock, and TensorBoard's events as TensorBoard would read them."""

import json
import multiprocessing
import os
import signal
import struct
from pathlib import Path

import pytest
from tensorboardX.proto import event_pb2

from jaxconvlstm.errors import CheckpointError, ConfigError
from jaxconvlstm.runs.folder import RunFolder


def hold(path: Path, ready: "multiprocessing.synchronize.Event") -> None:
    with RunFolder(path):
        ready.set()
        signal.pause()


@pytest.fixture
def holder(tmp_path: Path) -> int:
    """A process that has `tmp_path` in use."""
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    process = context.Process(target=hold, args=(tmp_path, ready), daemon=True)
    process.start()
    assert ready.wait(60) and process.pid
    return process.pid


def test_a_folder_in_use_names_its_holder_and_a_dead_one_is_taken_over(
    holder: int, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(CheckpointError, match=f"in use, process {holder} on "):
        RunFolder(tmp_path)
    os.kill(holder, signal.SIGKILL)
    os.waitpid(holder, 0)
    with RunFolder(tmp_path):
        said = capsys.readouterr().out
        assert f"taken over from process {holder} on " in said
    # One that was closed, or refused, leaves nothing to take over.
    step = tmp_path / "checkpoints" / "1"
    step.mkdir(parents=True)
    (step / "manifest.json").write_text("{}")
    with pytest.raises(ConfigError, match="holds a run already"):
        RunFolder(tmp_path)
    with RunFolder(tmp_path, resume="auto"):
        assert capsys.readouterr().out == ""


def events(folder: Path) -> list[event_pb2.Event]:
    found = []
    for path in sorted(folder.glob("events*")):
        content = path.read_bytes()
        while content:  # length, checksum, event, checksum
            (length,) = struct.unpack("<Q", content[:8])
            found.append(event_pb2.Event.FromString(content[12 : 12 + length]))
            content = content[16 + length :]
    return found


def test_metrics_of_steps_that_are_taken_again_are_dropped(tmp_path: Path) -> None:
    with RunFolder(tmp_path) as run:
        run.open_events(0)
        for step in (5, 6, 7):
            run.log({"step": step, "epoch": 1, "split": "train", "loss": 0.25})
        with (tmp_path / "metrics.jsonl").open("a") as file:
            file.write('{"step": 8, "ep')  # cut short by a kill
        run.rewind_metrics(6)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [5, 6]


def test_events_hold_what_is_logged_and_hide_what_was_rewound(tmp_path: Path) -> None:
    with RunFolder(tmp_path) as run:
        run.open_events(0)
    (header,) = events(tmp_path / "tensorboard")
    first = next((tmp_path / "tensorboard").iterdir())
    first.rename(first.with_name("events.0"))  # names tell seconds apart, not less
    with RunFolder(tmp_path) as run:
        run.open_events(6)
        run.log({"step": 7, "epoch": 1, "split": "train", "loss": 0.25})
    start, loss = events(tmp_path / "tensorboard")[-2:]
    assert header.file_version == "brain.Event:2"
    assert start.step == 7 and start.session_log.status == event_pb2.SessionLog.START
    assert loss.step == 7 and loss.summary.value[0].tag.endswith("loss")
    assert loss.summary.value[0].simple_value == 0.25
