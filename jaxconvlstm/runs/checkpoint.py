"""Checkpoints: save, verify, list and restore with Orbax.

A step holds these items, so that evaluation reads the weights alone:

- `variables`: the module's parameters (and batch statistics);
- `opt_state`: the optimizer's state;
- `meta`: step, PRNG key, validated epochs and best score, what rebuilds the model (configuration,
  value scale and channels), and a fingerprint of the data; JSON;
- `data`: the loader's position; JSON;
- `trained`: where `variables` hold averaged weights, those that training goes on with.

All arrays are saved and restored as NumPy's, so that a checkpoint of one device loads on any.

Beside the items lies a manifest, `manifest.json`, with the digest of every file and the shape and
dtype of every array. Only a step with one counts, and only one whose files are what it says is
loaded: no array is read whose shape is not the one that is asked for.
"""

import contextlib
import errno
import logging
import os
import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp

from jaxconvlstm.config.run import FORMAT_VERSION
from jaxconvlstm.errors import CheckpointError, ResourceError, scarce_resource
from jaxconvlstm.messages import warn
from jaxconvlstm.runs import manifest
from jaxconvlstm.runs.leaves import Leaf, differences, larger_in_chunks, leaves, memory_problem
from jaxconvlstm.runs.step_folders import (
    describe_damage,
    finished_steps,
    is_step,
    put_in_order,
    remove_step,
    remove_unfinished,
    replaced_name,
    step_folders,
)

METRIC = "val_loss"
_JSON_ITEMS = ("meta", "data")
# Bytes of a step beside its arrays, about.
_SMALL_FILES = 100_000
_KEEP_LATEST = 2
_FILES_OF_A_STEP = 60  # at most, of Orbax and ours
# Orbax logs every save, and the traceback of each that fails; what fails is raised, too.
logging.getLogger("absl").setLevel(logging.CRITICAL)


class Checkpoints:
    """The checkpoints of one run, in its folder `checkpoints`.

    Keeps the newest two steps and the one with the lowest validation loss.
    """

    def __init__(self, folder: Path, *, writable: bool = False):
        """Opens `folder`, which is made only when `writable`.

        One that is writable is put in order first, and says what was done: a step that was never
        finished is removed, and a damaged one renamed to `STEP.damaged`, so that its number is
        free again.

        Raises:
          CheckpointError: the folder does not exist and is not to be made, or every step in it is
            damaged.
        """
        folder = Path(folder).absolute()  # Orbax demands absolute paths
        if not writable and not folder.is_dir():
            raise CheckpointError(f"{folder}: no such folder, so there is no checkpoint to load")
        self.folder = folder
        self._finisher = ThreadPoolExecutor(1, thread_name_prefix="save")
        self._finishing: Future[None] | None = None
        self._verified: set[int] = set()  # steps whose files are what their manifests say
        self._needed = 0  # bytes of the last save
        self._run = manifest.Run.read(folder.parent)
        if writable:
            folder.mkdir(parents=True, exist_ok=True)
            noted, self._run = self._run, self._run or manifest.Run.of(finished_steps(folder))
            self._verified = put_in_order(folder, self._run)
            if noted is None:
                self._run.note(folder.parent)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            # After a second interrupt nothing is waited for; a save under way stays unfinished.
            self._finisher.shutdown(wait=False)
        else:
            self.close()

    def close(self) -> None:
        """Waits for a save under way and releases the folder."""
        try:
            self.wait()
        finally:
            self._finisher.shutdown()

    def wait(self) -> None:
        """Waits until the last save is on disk, manifest included.

        Raises:
          ResourceError, CheckpointError: it could not be saved.
        """
        finishing, self._finishing = self._finishing, None
        if finishing is not None:
            self._guarded(finishing.result, saving=True)

    def steps(self) -> list[int]:
        """All steps that were saved to the end, ascending; the one under way is not among them."""
        return list(finished_steps(self.folder))

    def damage(self, step: int) -> list[str]:
        """Problems of a step's files, a phrase each; none if it is whole."""
        return manifest.damage(self._place(step), self._run)

    def val_loss(self, step: int) -> float | None:
        """The validation loss that a step was saved with."""
        loss = manifest.read(self._place(step)).get(METRIC)
        return loss if isinstance(loss, (int, float)) else None

    def choose(self, which: str = "best") -> int:
        """The step that `which` means; where that one is damaged, the next best, with a warning.

        Args:
          which: "best" (lowest validation loss; the newest if none was validated), "last", or a
            step's number.

        Raises:
          CheckpointError: there is no checkpoint, not that one, or that one is damaged.
        """
        found = self.steps()[::-1]
        if not found:
            raise CheckpointError(f"{self.folder}: holds no checkpoint")
        for path in step_folders(self.folder):
            if int(path.name) not in found:
                warn(f"{path}: left out, as it was not saved to the end (yet)")
        if which == "best":
            found.sort(key=self._rank)
        elif which != "last":
            if not is_step(which) or int(which) not in found:
                listed = ", ".join(map(str, self.steps()))
                raise CheckpointError(f"{self.folder}: no step {which}; there are: {listed}")
            found = [int(which)]
        damaged: list[str] = []
        for step in found:
            problems = [] if step in self._verified else self.damage(step)
            if not problems:
                if damaged:
                    warn(f"{self.folder}: {'; '.join(damaged)}; going back to step {step}")
                self._verified.add(step)
                return step
            damaged.append(describe_damage(step, problems))
        raise CheckpointError(f"{self.folder}: {'; '.join(damaged)}")

    def save(self, step: int, items: dict[str, Any], val_loss: float | None) -> None:
        """Starts to save `items`, over that step if it is there; copies arrays before it returns.

        Args:
          step: number of the step.
          items: `variables`, `opt_state`, `meta`, `data`, and `trained` if there is one.
          val_loss: validation loss of these weights, finite, or None if it was not measured.

        Raises:
          ResourceError: there is no room, or the save before could not be finished.
          CheckpointError: the save before could not be finished.
        """
        self.wait()
        self._verified.discard(step)
        items = {
            name: item if name in _JSON_ITEMS else jax.device_get(item)
            for name, item in items.items()
        }
        self._needed = _SMALL_FILES + sum(
            leaf.nbytes for leaf in jax.tree.leaves(items) if hasattr(leaf, "nbytes")
        )
        if shutil.disk_usage(self.folder).free < self._needed:
            raise ResourceError(self._describe_full())  # before files are begun
        place = self.folder / str(step)
        replaced = replaced_name(place)
        if place.is_dir():
            # Kept until its successor is whole.
            place.rename(replaced)
        with _json_items():
            response = self._guarded(
                lambda: ocp.save_checkpointables_async(place, items), saving=True
            )
        about = {
            "format_version": FORMAT_VERSION,
            "run": self._run.id if self._run else None,
            "step": step,
            METRIC: None if val_loss is None else float(val_loss),
            "config": items["meta"].get("config"),
            "data_fingerprint": items["meta"].get("data_fingerprint"),
            "leaves": {
                name: leaves(item) for name, item in items.items() if name not in _JSON_ITEMS
            },
        }

        # In a thread, while training goes on: the manifest is written once Orbax is done.
        def finish() -> None:
            response.result()
            manifest.write(place, about)
            shutil.rmtree(replaced, ignore_errors=True)
            self._remove_old()

        self._finishing = self._finisher.submit(finish)

    def load_meta(self, step: int) -> dict[str, Any]:
        """The `meta` item.

        Raises:
          CheckpointError: it cannot be read, or was written by another format of this package.
        """
        meta = self._load(step, {"meta": None})["meta"]
        version = meta.get("format_version") if isinstance(meta, dict) else None
        if version != FORMAT_VERSION:
            raise CheckpointError(
                f"{self.folder}: step {step} has format version {version!r}, "
                f"this release reads {FORMAT_VERSION}"
            )
        return meta

    def load_data(self, step: int) -> dict[str, Any]:
        """The `data` item: the loader's position."""
        return self._load(step, {"data": None})["data"]

    def load(self, step: int, expected: dict[str, Any]) -> dict[str, Any]:
        """Restores array items, compared leaf by leaf before anything is read.

        Args:
          step: a saved step.
          expected: item name to a tree of arrays or `jax.ShapeDtypeStruct`, e.g.
            `{"variables": ...}`.

        Returns:
          The same trees with the saved NumPy arrays.

        Raises:
          CheckpointError: names every leaf that differs: path, what is saved, what is expected.
        """
        if problem := memory_problem(expected):
            raise CheckpointError(f"{self.folder}: step {step} {problem}")
        # The manifest says what was saved, by its digest; the files say what would be allocated.
        # Neither is believed without the other.
        listed = manifest.read(self._place(step)).get("leaves", {})
        self._check_leaves(step, listed, expected)
        stored = self._metadata(step)
        self._check_leaves(step, {name: leaves(stored.get(name)) for name in expected}, expected)
        if any(map(larger_in_chunks, jax.tree.leaves([stored[name] for name in expected]))):
            raise CheckpointError(f"{self.folder}: step {step} has arrays in pieces of absurd size")
        abstract = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), expected)
        return self._load(step, abstract)

    def _check_leaves(
        self, step: int, saved: dict[str, dict[str, Leaf]], expected: dict[str, Any]
    ) -> None:
        if problems := differences(saved, expected):
            raise CheckpointError(
                f"{self.folder}: step {step} does not fit this model: " + "; ".join(problems)
            )

    def _place(self, step: int) -> Path:
        return finished_steps(self.folder).get(step, self.folder / str(step))

    def _rank(self, step: int) -> tuple[int, float]:
        """Sorts steps, the best first."""
        # A manifest that cannot be read may be that of the best step: looked at first, it is found
        # to be damaged, and that is said.
        if not manifest.read(self._place(step)):
            return 0, 0.0
        loss = self.val_loss(step)
        return (2, 0.0) if loss is None else (1, loss)

    def _remove_old(self) -> None:
        """Removes all steps but the newest two and the one with the lowest validation loss."""
        steps = self.steps()[::-1]
        validated = [step for step in steps if self.val_loss(step) is not None]
        kept = {*steps[:_KEEP_LATEST], *sorted(validated, key=self._rank)[:1]}
        for step in set(steps) - kept:
            remove_step(self._place(step))

    def _metadata(self, step: int) -> dict[str, Any]:
        place = self._place(step)
        return self._guarded(lambda: ocp.checkpointables_metadata(place)).metadata

    def _load(self, step: int, abstract: dict[str, Any]) -> dict[str, Any]:
        place = self._place(step)
        with _json_items():
            return self._guarded(lambda: ocp.load_checkpointables(place, abstract))

    def _guarded(self, action: Any, saving: bool = False) -> Any:
        """Runs `action`; what Orbax raises becomes one line with the right exit code."""
        try:
            return action()
        except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
            if saving:
                remove_unfinished(self.folder)
            if scarce := scarce_resource(error):
                raise ResourceError(f"{self.folder}: not enough {scarce}") from error
            full = "No space left" in str(error) or "RESOURCE_EXHAUSTED" in str(error)
            if full or getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
                raise ResourceError(self._describe_full()) from error
            if isinstance(error, OSError) and error.errno is not None:
                raise ResourceError(f"{self.folder}: {error.strerror}") from error
            raise CheckpointError(f"{self.folder}: {_first_line(error)}") from error

    def _describe_full(self) -> str:
        kept = ", ".join(map(str, self.steps())) or "none"
        disk = os.statvfs(self.folder)
        if disk.f_files and disk.f_favail < _FILES_OF_A_STEP:
            full = f"no room for more files on the device ({disk.f_favail} inodes are free)"
        else:
            full = (
                f"no space left on the device: a checkpoint needs up to {self._needed / 1e6:.1f} "
                f"MB, {disk.f_bavail * disk.f_frsize / 1e6:.1f} MB are free"
            )
        return f"{self.folder}: {full}; steps that are saved: {kept}"


def _json_items() -> contextlib.AbstractContextManager[Any]:
    """Lets Orbax write some items as JSON, which runs no code when it is read."""
    context = ocp.Context()
    context.checkpointables.registry = ocp.handlers.local_registry()
    for name in _JSON_ITEMS:
        context.checkpointables.registry.add(ocp.handlers.JsonHandler, checkpointable_name=name)
    return context


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:300]
