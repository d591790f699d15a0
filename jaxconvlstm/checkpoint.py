"""Checkpoints: save, verify, list and restore with Orbax.

A step holds these items, so that evaluation reads the weights alone:

- `variables`: the module's parameters (and batch statistics);
- `opt_state`: the optimizer's state;
- `meta`: step, PRNG key, validated epochs and best score, and what rebuilds the model:
  configuration, value scale and channels;
- `data`: the loader's position;
- `trained`: where `variables` hold averaged weights, those that training goes on with.

All leaves are saved and restored as NumPy arrays, so that a checkpoint of one device loads on any.

Beside the items lies a manifest, `manifest.json`, with the digest of every file. Only a step with
one counts, and only one whose files are what it says is loaded.
"""

import logging
import shutil
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp

from jaxconvlstm import manifest
from jaxconvlstm.config import FORMAT_VERSION
from jaxconvlstm.errors import CheckpointError, ResourceError

METRIC = "val_loss"
_KEEP_LATEST = 2
# Orbax reports every save at level INFO or WARNING; errors still reach the user.
logging.getLogger("absl").setLevel(logging.ERROR)


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
        self._checkpointer: Any = None
        if writable:
            self._put_in_order()
            self._checkpointer = ocp.training.Checkpointer(
                folder, preservation_policy=_keep(), cleanup_tmp_directories=True
            )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Waits for a save under way and releases the folder."""
        try:
            self.wait()
        finally:
            self._finisher.shutdown()
            if self._checkpointer is not None:
                self._guarded(self._checkpointer.close)

    def wait(self) -> None:
        """Waits until the last save is on disk, with its manifest.

        Raises:
          ResourceError, CheckpointError: it could not be saved.
        """
        finishing, self._finishing = self._finishing, None
        if finishing is not None:
            self._guarded(finishing.result)

    def steps(self) -> list[int]:
        """All steps that were saved to the end, ascending; the one under way is not among them."""
        return sorted(
            int(path.name) for path in self.folder.iterdir() if manifest.is_finished(path)
        )

    def damage(self, step: int) -> list[str]:
        """What is wrong with the files of a step, a phrase each; nothing if it is whole."""
        return manifest.damage(self.folder / str(step))

    def val_loss(self, step: int) -> float | None:
        """The validation loss that a step was saved with."""
        return manifest.read(self.folder / str(step)).get(METRIC)

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
        if which == "best":
            losses = {step: self.val_loss(step) for step in found}
            found.sort(key=lambda step: (losses[step] is None, losses[step] or 0.0))
        elif which != "last":
            if not which.isdecimal() or int(which) not in found:
                listed = ", ".join(map(str, self.steps()))
                raise CheckpointError(f"{self.folder}: no step {which}; there are: {listed}")
            found = [int(which)]
        damaged: list[str] = []
        for step in found:
            problems = self.damage(step)
            if not problems:
                if damaged:
                    _say(f"{self.folder}: {'; '.join(damaged)}; going back to step {step}")
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
          ResourceError, CheckpointError: the save before could not be finished.
        """
        self.wait()
        items = {
            name: item if name in ("meta", "data") else jax.device_get(item)
            for name, item in items.items()
        }
        metrics = None if val_loss is None else {METRIC: float(val_loss)}
        place = self.folder / str(step)
        response = self._guarded(
            lambda: self._checkpointer.save_checkpointables_async(
                step, items, force=True, overwrite=place.exists(), metrics=metrics
            )
        )
        about = {
            "format_version": FORMAT_VERSION,
            "step": step,
            METRIC: None if val_loss is None else float(val_loss),
            "config": items["meta"].get("config"),
            "leaves": {
                name: {path: [list(shape), dtype] for path, (shape, dtype) in _leaves(item).items()}
                for name, item in items.items()
                if name not in ("meta", "data")
            },
        }

        def finish() -> None:
            response.result()
            manifest.write(place, about)

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
        metadata = self._metadata(step)
        problems = []
        for name, tree in expected.items():
            if name not in metadata:
                problems.append(f"{name}: not in the checkpoint")
            else:
                problems += _differences(name, metadata[name], tree)
        if problems:
            raise CheckpointError(
                f"{self.folder}: step {step} does not fit this model: " + "; ".join(problems)
            )
        abstract = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), expected)
        return self._load(step, abstract)

    def _put_in_order(self) -> None:
        """Removes what was never finished, and sets damaged steps aside."""
        if not self.folder.is_dir():
            return
        damaged = {step: found for step in self.steps() if (found := self.damage(step))}
        if damaged and len(damaged) == len(self.steps()):
            listed = "; ".join(_describe(*item) for item in damaged.items())
            raise CheckpointError(f"{self.folder}: {listed}")
        unfinished = [
            path
            for path in sorted(self.folder.iterdir())
            if path.name.isdecimal()
            and path.is_dir()
            and not path.is_symlink()
            and not manifest.is_finished(path)
        ]
        if len(unfinished) > 1:
            # A run that is killed leaves one at most: these are whole, of a time before manifests.
            listed = ", ".join(path.name for path in unfinished)
            raise CheckpointError(
                f"{self.folder}: steps {listed} have no {manifest.NAME}; they were saved by an "
                "older release, which this one cannot go on from"
            )
        for path in unfinished:
            shutil.rmtree(path)
            _say(f"{path}: was never finished being saved; removed")
        for step, problems in damaged.items():
            aside = self.folder / f"{step}.damaged"
            shutil.rmtree(aside, ignore_errors=True)
            (self.folder / str(step)).rename(aside)
            _say(f"{self.folder}: {_describe(step, problems)}; set aside as {aside.name}")

    def _metadata(self, step: int) -> dict[str, Any]:
        place = self.folder / str(step)
        return self._guarded(lambda: ocp.checkpointables_metadata(place)).metadata

    def _load(self, step: int, abstract: dict[str, Any]) -> dict[str, Any]:
        place = self.folder / str(step)
        return self._guarded(lambda: ocp.load_checkpointables(place, abstract))

    def _guarded(self, action: Any) -> Any:
        """Runs `action`; what Orbax raises becomes one line with the right exit code."""
        try:
            return action()
        except OSError as error:
            if error.errno is None:
                raise CheckpointError(f"{self.folder}: {_first_line(error)}") from error
            raise ResourceError(f"{self.folder}: {error.strerror}") from error
        except (ValueError, KeyError, TypeError, RuntimeError, NotImplementedError) as error:
            if "No space left" in str(error):
                raise ResourceError(f"{self.folder}: no space left on the device") from error
            raise CheckpointError(f"{self.folder}: {_first_line(error)}") from error


def _keep() -> Any:
    """The newest steps, and the one with the lowest validation loss."""
    policies = ocp.training.preservation_policies
    best = policies.BestN(
        get_metric_fn=lambda metrics: metrics[METRIC],
        reverse=True,
        n=1,
        keep_checkpoints_without_metrics=False,
    )
    return policies.AnyPreservationPolicy([policies.LatestN(_KEEP_LATEST), best])


def _describe(step: int, problems: list[str]) -> str:
    more = f" and {len(problems) - 1} more" if len(problems) > 1 else ""
    return f"step {step} is damaged ({problems[0]}{more})"


def _say(message: str) -> None:
    print(f"warning: {message}", file=sys.stderr, flush=True)


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:300]


def _leaves(tree: Any) -> dict[str, tuple[tuple[int, ...], str]]:
    """Path of every leaf to its shape and dtype; alike for live trees and for saved metadata."""
    found = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        if hasattr(leaf, "shape"):
            # Orbax turns named tuples into mappings or lists; only the names of the steps count.
            keys = [str(getattr(k, "key", getattr(k, "name", getattr(k, "idx", k)))) for k in path]
            found["/".join(keys)] = (tuple(leaf.shape), np.dtype(leaf.dtype).name)
    return found


def _differences(name: str, saved_tree: Any, expected_tree: Any) -> list[str]:
    saved, expected = _leaves(saved_tree), _leaves(expected_tree)

    def show(leaf: tuple[tuple[int, ...], str] | None) -> str:
        return "nothing" if leaf is None else f"{leaf[1]}{list(leaf[0])}"

    return [
        f"{name}/{path}: saved {show(saved.get(path))}, expected {show(expected.get(path))}"
        for path in sorted(saved.keys() | expected.keys())
        if saved.get(path) != expected.get(path)
    ]
