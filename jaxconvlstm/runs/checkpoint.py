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
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp

from jaxconvlstm.runs import manifest
from jaxconvlstm.config.run import FORMAT_VERSION
from jaxconvlstm.errors import CheckpointError, ResourceError

METRIC = "val_loss"
_JSON_ITEMS = ("meta", "data")
# Bytes of a step beside its arrays, about.
_SMALL_FILES = 100_000
_KEEP_LATEST = 2
# Orbax reports every save, and what fails with its traceback; what fails is raised, too.
logging.getLogger("absl").setLevel(logging.CRITICAL)

Leaf = list[Any]
"""Shape and dtype of an array, as JSON has them: `[[3, 3, 8, 16], "float32"]`."""


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
        self._whole: set[int] = set()  # steps that were verified
        self._needed = 0  # bytes of the last save
        if writable:
            folder.mkdir(parents=True, exist_ok=True)
            self._put_in_order()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            # Who interrupts a second time waits for nothing; what is under way is left unfinished.
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
        """Waits until the last save is on disk, with its manifest.

        Raises:
          ResourceError, CheckpointError: it could not be saved.
        """
        finishing, self._finishing = self._finishing, None
        if finishing is not None:
            self._guarded(finishing.result, saving=True)

    def steps(self) -> list[int]:
        """All steps that were saved to the end, ascending; the one under way is not among them."""
        return list(manifest.finished_steps(self.folder))

    def damage(self, step: int) -> list[str]:
        """What is wrong with the files of a step, a phrase each; nothing if it is whole."""
        return manifest.damage(self._place(step))

    def val_loss(self, step: int) -> float | None:
        """The validation loss that a step was saved with."""
        loss = manifest.read(self._place(step)).get(METRIC)
        return loss if isinstance(loss, (int, float)) else None

    def choose(self, which: str = "best") -> int:
        """The step that `which` means; of damaged steps the next best, which is said.

        Args:
          which: "best" (lowest validation loss; the newest if none was validated), "last", or a
            step's number.

        Raises:
          CheckpointError: there is no checkpoint, not that one, or that one is damaged.
        """
        found = self.steps()[::-1]
        if not found:
            raise CheckpointError(f"{self.folder}: holds no checkpoint")
        for path in manifest.step_folders(self.folder):
            if int(path.name) not in found:
                _say(f"{path}: left out, as it was not saved to the end (yet)")
        if which == "best":
            found.sort(key=self._rank)
        elif which != "last":
            if not manifest.is_step(which) or int(which) not in found:
                listed = ", ".join(map(str, self.steps()))
                raise CheckpointError(f"{self.folder}: no step {which}; there are: {listed}")
            found = [int(which)]
        damaged: list[str] = []
        for step in found:
            problems = [] if step in self._whole else self.damage(step)
            if not problems:
                if damaged:
                    _say(f"{self.folder}: {'; '.join(damaged)}; going back to step {step}")
                self._whole.add(step)
                return step
            damaged.append(_describe(step, problems))
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
        self._whole.discard(step)
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
        replaced = place.with_name(f"{step}{manifest.REPLACED}")
        if place.is_dir():
            # Kept until its successor is whole.
            place.rename(replaced)
        with _json_items():
            response = self._guarded(
                lambda: ocp.save_checkpointables_async(place, items), saving=True
            )
        about = {
            "format_version": FORMAT_VERSION,
            "step": step,
            METRIC: None if val_loss is None else float(val_loss),
            "config": items["meta"].get("config"),
            "data_fingerprint": items["meta"].get("data_fingerprint"),
            "leaves": {
                name: _leaves(item) for name, item in items.items() if name not in _JSON_ITEMS
            },
        }

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
        size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(expected))
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        if size > memory:
            raise CheckpointError(
                f"{self.folder}: step {step} would need {size / 1e9:.1f} GB of memory, this "
                f"machine has {memory / 1e9:.1f}"
            )
        # What the manifest says is known to be what was saved; what the files say of themselves
        # is what would be allocated.
        said = manifest.read(self._place(step)).get("leaves", {})
        self._check_leaves(step, said, expected)
        stored = self._metadata(step)
        self._check_leaves(step, {name: _leaves(stored.get(name)) for name in expected}, expected)
        if any(map(_larger_in_pieces, jax.tree.leaves([stored[name] for name in expected]))):
            raise CheckpointError(f"{self.folder}: step {step} has arrays in pieces of absurd size")
        abstract = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), expected)
        return self._load(step, abstract)

    def _check_leaves(
        self, step: int, saved: dict[str, dict[str, Leaf]], expected: dict[str, Any]
    ) -> None:
        """Raises `CheckpointError` naming all leaves that are not as they are expected."""
        problems = []
        for name, tree in expected.items():
            if name not in saved:
                problems.append(f"{name}: not in the checkpoint")
            else:
                problems += _differences(name, saved[name], _leaves(tree))
        if problems:
            raise CheckpointError(
                f"{self.folder}: step {step} does not fit this model: " + "; ".join(problems)
            )

    def _place(self, step: int) -> Path:
        return manifest.finished_steps(self.folder).get(step, self.folder / str(step))

    def _rank(self, step: int) -> tuple[int, float]:
        """The lower the better. One that does not say is looked at first, as it is damaged."""
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
            place = self._place(step)
            (
                place / manifest.NAME
            ).unlink()  # so that half of a step is not taken for a damaged one
            shutil.rmtree(place, ignore_errors=True)

    def _put_in_order(self) -> None:
        """Removes what was never finished, and sets damaged steps aside."""
        self._remove_temporary()
        self._bring_back_replaced()
        damaged = {step: found for step in self.steps() if (found := self.damage(step))}
        self._whole = set(self.steps()) - set(damaged)
        if damaged and len(damaged) == len(self.steps()):
            listed = "; ".join(_describe(*item) for item in damaged.items())
            raise CheckpointError(f"{self.folder}: {listed}")
        places = manifest.step_folders(self.folder)
        unfinished = [path for path in places if not manifest.is_finished(path)]
        if len(unfinished) > 1 and len(unfinished) == len(places):
            # A kill leaves one that was being saved, and one or two that were being removed, beside
            # others: these are whole, of a time before manifests.
            listed = ", ".join(path.name for path in unfinished)
            raise CheckpointError(
                f"{self.folder}: steps {listed} have no {manifest.NAME}; they were saved by an "
                "older release, which this one cannot go on from"
            )
        for path in unfinished:
            shutil.rmtree(path)
            _say(f"{path}: was never finished being saved or removed; removed")
        for step, problems in damaged.items():
            aside = self.folder / f"{step}.damaged"
            shutil.rmtree(aside, ignore_errors=True)
            (self.folder / str(step)).rename(aside)
            _say(f"{self.folder}: {_describe(step, problems)}; set aside as {aside.name}")

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
                self._remove_unfinished()
            full = "No space left" in str(error) or "RESOURCE_EXHAUSTED" in str(error)
            if full or getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
                raise ResourceError(self._describe_full()) from error
            if isinstance(error, OSError) and error.errno is not None:
                raise ResourceError(f"{self.folder}: {error.strerror}") from error
            raise CheckpointError(f"{self.folder}: {_first_line(error)}") from error

    def _remove_unfinished(self) -> None:
        """Frees the room that a save has taken which came to nothing."""
        self._remove_temporary()
        for path in manifest.step_folders(self.folder):
            if not manifest.is_finished(path):
                shutil.rmtree(path, ignore_errors=True)
        self._bring_back_replaced()

    def _remove_temporary(self) -> None:
        """Removes what Orbax has begun to write, which has another name until it is complete."""
        for path in self.folder.glob("*.orbax-checkpoint-tmp*"):
            shutil.rmtree(path, ignore_errors=True)

    def _bring_back_replaced(self) -> None:
        """Undoes the replacing of a step by another save of it that did not come to its end."""
        for replaced in manifest.replaced_folders(self.folder):
            place = self.folder / replaced.name.removesuffix(manifest.REPLACED)
            if manifest.is_finished(place):
                shutil.rmtree(replaced, ignore_errors=True)
            else:
                shutil.rmtree(place, ignore_errors=True)
                replaced.rename(place)

    def _describe_full(self) -> str:
        free = shutil.disk_usage(self.folder).free
        kept = ", ".join(map(str, self.steps())) or "none"
        return (
            f"{self.folder}: no space left on the device: a checkpoint needs up to "
            f"{self._needed / 1e6:.1f} MB, {free / 1e6:.1f} MB are free; steps that are saved: "
            f"{kept}"
        )


def _json_items() -> contextlib.AbstractContextManager[Any]:
    """Has Orbax write some items as JSON, which nothing but text can hide in."""
    context = ocp.Context()
    context.checkpointables.registry = ocp.handlers.local_registry()
    for name in _JSON_ITEMS:
        context.checkpointables.registry.add(ocp.handlers.JsonHandler, checkpointable_name=name)
    return context


def _describe(step: int, problems: list[str]) -> str:
    more = f" and {len(problems) - 1} more" if len(problems) > 1 else ""
    return f"step {step} is damaged ({problems[0]}{more})"


def _say(message: str) -> None:
    print(f"warning: {message}", file=sys.stderr, flush=True)


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:300]


def _leaves(tree: Any) -> dict[str, Leaf]:
    """Path of every array to its shape and dtype; alike for live trees and for saved metadata."""
    found = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        if hasattr(leaf, "shape"):
            # Orbax turns named tuples into mappings or lists; only the names of the steps count.
            keys = [str(getattr(k, "key", getattr(k, "name", getattr(k, "idx", k)))) for k in path]
            found["/".join(keys)] = [list(leaf.shape), np.dtype(leaf.dtype).name]
    return found


def _differences(name: str, saved: dict[str, Leaf], expected: dict[str, Leaf]) -> list[str]:
    def show(leaf: Leaf | None) -> str:
        return "nothing" if leaf is None else f"{leaf[1]}{leaf[0]}"

    return [
        f"{name}/{path}: saved {show(saved.get(path))}, expected {show(expected.get(path))}"
        for path in sorted(saved.keys() | expected.keys())
        if saved.get(path) != expected.get(path)
    ]


def _larger_in_pieces(array: Any) -> bool:
    """Whether the pieces that an array is stored in are larger than itself."""
    storage = getattr(array, "storage_metadata", None)
    pieces = (storage and storage.chunk_shape) or array.shape
    return any(piece > max(side, 1) for piece, side in zip(pieces, array.shape, strict=True))
