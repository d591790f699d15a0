"""The folder of a run: its lock, configuration, metrics, samples and TensorBoard events."""

import contextlib
import errno
import fcntl
import json
import math
import os
import re
import socket
import stat
import time
from pathlib import Path
from typing import IO, Any

from jaxconvlstm import plots
from jaxconvlstm.atomic import is_running, naming, remove_leftovers, replace_text, replacing
from jaxconvlstm.config.run import Config
from jaxconvlstm.errors import CheckpointError, ConfigError, ResourceError
from jaxconvlstm.json_files import parse, read_object, read_plain_file
from jaxconvlstm.messages import printable, say, warn
from jaxconvlstm.runs.step_folders import finished_steps
from jaxconvlstm.runs.tensorboard import Events

CONFIG_NAME = "config.json"
METRICS_NAME = "metrics.jsonl"
HISTORY_NAME = "history.png"
SPLIT_NAME = "split.json"
CHECKPOINTS_NAME = "checkpoints"
_LOCK_NAME = ".lock"


def default_folder(name: str) -> Path:
    """A folder that is not there yet: `runs/NAME-TIME`."""
    folder = Path("runs") / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    # Two runs may start in the same second.
    return folder.with_name(f"{folder.name}-{os.getpid()}") if folder.exists() else folder


def holds_run(folder: Path) -> bool:
    """Whether `folder` holds a run that has saved a step; without one, a run starts anew."""
    checkpoints = folder / CHECKPOINTS_NAME
    return checkpoints.is_dir() and bool(finished_steps(checkpoints))


def is_in_use(folder: Path) -> bool:
    """Whether a process of this machine is training in `folder`, as far as its lock file says.

    The lock is not taken, since that would keep a process out which is about to train.
    """
    try:
        holder = os.fsdecode(read_plain_file(folder / _LOCK_NAME)[:200])
    except (OSError, ValueError):
        return False
    found = re.fullmatch(r"process (\d{1,9}) on (.*)", holder)
    return bool(found and found[2] == socket.gethostname() and is_running(int(found[1])))


def read_config(folder: Path) -> Config:
    """Reads the configuration of the run in `folder`.

    Raises:
      CheckpointError: there is no run, or its configuration cannot be read.
    """
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: no such run folder")
    path = folder / CONFIG_NAME
    if not path.is_file():
        raise CheckpointError(f"{folder}: not a run folder (it holds no {CONFIG_NAME})")
    try:
        return Config.load(path)
    except ConfigError as error:
        raise CheckpointError(str(error)) from error


def read_split(folder: Path) -> dict[str, Any] | None:
    """Reads which frames are in which split, as the run recorded it; None if it did not.

    Raises:
      CheckpointError: the record cannot be read.
    """
    path = folder / SPLIT_NAME
    return read_object(path, CheckpointError) if path.is_file() else None


class RunFolder:
    """A run folder that this process may write to, locked until `close`.

    The lock is the operating system's (`flock`): it ends with the process, however that ends.
    """

    def __init__(self, path: Path, *, resume: str | None = None):
        """Locks the folder, and makes it if need be.

        Args:
          path: the folder.
          resume: None refuses a folder that holds a run, "auto" starts or goes on, "must" fails
            with nothing to go on with.

        Raises:
          ConfigError: it holds a run and `resume` is None.
          CheckpointError: another process is training in it, or there is nothing to resume.
          ResourceError: it cannot be written to.
        """
        self.path = path
        if resume == "must" and not holds_run(path):
            raise CheckpointError(f"{path}: holds no run to resume")
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._lock = _open_lock(path / _LOCK_NAME)
        except OSError as error:
            raise ResourceError(f"{path}: cannot be written to: {error.strerror}") from error
        self._events: Any = None
        try:
            self._take_lock()
        except BaseException:
            self._lock.close()  # not emptied: it names the process that holds the folder
            raise
        remove_leftovers(path)
        if resume is None and holds_run(path):
            self.close()
            raise ConfigError(
                f"{path}: holds a run already; --resume auto goes on with it, "
                "or choose another --out"
            )

    def _take_lock(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = self._holder() or "another process"
            raise CheckpointError(f"{self.path}: in use, {holder} is training in it") from None
        # `close` empties the file; a process that was killed did not come to that.
        if holder := self._holder():
            say(f"{self.path}: taken over from {holder}, which has ended without closing it")
        with naming(self.path / _LOCK_NAME):
            self._lock.truncate(0)
            self._lock.write(f"process {os.getpid()} on {socket.gethostname()}")
            self._lock.flush()

    def _holder(self) -> str:
        self._lock.seek(0)
        return printable(self._lock.read(200).strip())

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        # An error that is under way must not be hidden by one of a full disk.
        with contextlib.suppress(*([OSError] if kind is not None else [])):
            self.close()

    def close(self) -> None:
        """Writes out the event file and releases the lock."""
        try:
            if self._events is not None:
                self._events.close()
        finally:
            self._lock.truncate(0)
            self._lock.close()

    def check_in_place(self) -> None:
        """Raises `CheckpointError` if the folder is no longer where it was locked.

        Where it was, libraries would make it anew, and what is saved there would be half a run.
        """
        try:
            found = os.lstat(self.path / _LOCK_NAME)
        except OSError:
            found = None
        if found is None or not os.path.samestat(found, os.fstat(self._lock.fileno())):
            raise CheckpointError(
                f"{self.path}: was moved, removed or replaced while a process was training in it"
            )

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints."""
        return self.path / CHECKPOINTS_NAME

    @property
    def samples(self) -> Path:
        """The folder of sample pictures, which is made if need be."""
        folder = self.path / "samples"
        folder.mkdir(exist_ok=True)
        return folder

    def write_config(self, config: Config) -> None:
        """Writes `config.json`, whole or not at all."""
        write_json(self.path / CONFIG_NAME, config.to_json())

    def write_split(self, record: dict[str, Any] | None) -> None:
        """Writes `split.json`, if there is a split to record."""
        if record is not None:
            write_json(self.path / SPLIT_NAME, record)

    def rewind_metrics(self, step: int, validated: bool = True) -> None:
        """Drops the lines of `metrics.jsonl` past `step`: those steps are taken again.

        What cannot be read is set aside, as `metrics.jsonl.damaged`, and that is said.

        Args:
          step: the step to go on from.
          validated: whether the validation that may be due at that step has been saved.
        """
        path = self.path / METRICS_NAME
        if not os.path.lexists(path):
            return
        aside = path.with_name(f"{METRICS_NAME}.damaged")
        try:
            if path.is_symlink():
                raise ValueError("a link")
            lines = read_plain_file(path).splitlines()
        except (OSError, ValueError) as error:
            path.replace(aside)
            warn(f"{path}: {getattr(error, 'strerror', None) or error}; set aside as {aside.name}")
            return
        kept, damaged = [], []
        for number, line in enumerate(lines, start=1):
            record = _record_in(line)
            if record is None:
                if number < len(lines):  # the last one may have been cut short by a kill
                    damaged.append(line)
            elif record["step"] < step or (
                record["step"] == step and (validated or record["split"] != "val")
            ):
                kept.append(line)
        if damaged:
            with replacing(aside) as file:
                file.write(b"".join(line + b"\n" for line in damaged))
            warn(f"{path}: {len(damaged)} lines cannot be read; set aside in {aside.name}")
        with replacing(path, sync=True) as file:
            file.write(b"".join(line + b"\n" for line in kept))

    def open_events(self, step: int) -> None:
        """Opens a TensorBoard event file, which hides earlier events past `step`."""
        self._events = Events(self.path / "tensorboard", step)

    def log(self, record: dict[str, Any]) -> None:
        """Appends one line to `metrics.jsonl` and the same numbers to TensorBoard.

        Args:
          record: `step`, `epoch`, `split` and any numbers.

        Raises:
          CheckpointError: see `check_in_place`.
        """
        self.check_in_place()
        path = self.path / METRICS_NAME
        # Opened for each line: what is logged is in the file, whatever becomes of the process.
        with naming(path), path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(_nulls(record)) + "\n")
        scalars = {
            f"{record['split']}/{key}": value
            for key, value in record.items()
            # TensorBoard has no point for what is not finite, such as a score of no pixel.
            if key not in ("step", "epoch", "split") and value is not None and math.isfinite(value)
        }
        self._events.add_scalars(record["step"], scalars)

    def draw_history(self) -> list[Path]:
        """Draws `metrics.jsonl` as curves, where Matplotlib is installed.

        Returns:
          The picture, or nothing.
        """
        path = self.path / METRICS_NAME
        lines = read_plain_file(path).splitlines() if path.is_file() else []
        records = [record for line in lines if (record := _record_in(line)) is not None]
        try:
            plots.history(records, self.path / HISTORY_NAME)
        except (ImportError, ConfigError):  # without Matplotlib, or without a finite loss
            return []
        return [self.path / HISTORY_NAME]

    def log_picture(self, name: str, path: Path, step: int) -> None:
        """Adds a picture file to TensorBoard."""
        self._events.add_picture(step, name, path)


def _open_lock(path: Path) -> IO[str]:
    """Opens the lock, which must not lead anywhere else: it is written to.

    Raises:
      CheckpointError: it is a link, a pipe or the like.
      OSError: it cannot be opened.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        file = open(os.open(path, flags, 0o666), "r+", encoding="utf-8", errors="replace")  # noqa: PTH123, SIM115
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
            raise CheckpointError(f"{path}: expected a plain file, or none") from None
        raise
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise CheckpointError(f"{path}: expected a plain file, or none")
    return file


def _record_in(line: bytes) -> dict[str, Any] | None:
    """A line of `metrics.jsonl`; None if it is no such line."""
    try:
        record = parse(line)
    except ValueError:
        return None
    if not isinstance(record, dict) or type(record.get("step")) is not int:
        return None
    numbers = (value for key, value in record.items() if key != "split")
    if not all(value is None or isinstance(value, (int, float)) for value in numbers):
        return None
    return record if isinstance(record.get("split"), str) else None


def write_json(path: Path, values: Any) -> None:
    """Writes a JSON file, whole or not at all; a number that is not finite becomes null."""
    replace_text(path, json.dumps(_nulls(values), indent=2) + "\n")


def _nulls(values: Any) -> Any:
    """Replaces NaN and infinities, which JSON cannot express, by None."""
    if isinstance(values, dict):
        return {key: _nulls(value) for key, value in values.items()}
    if isinstance(values, (list, tuple)):
        return [_nulls(value) for value in values]
    return None if isinstance(values, float) and not math.isfinite(values) else values
