"""Checkpoints: save, list and restore with Orbax.

A step holds these items, so that evaluation reads the weights alone:

- `variables`: the module's parameters (and batch statistics);
- `opt_state`: the optimizer's state;
- `meta`: step, PRNG key, validated epochs and best score, and what rebuilds the model:
  configuration, value scale and channels;
- `data`: the loader's position;
- `trained`: where `variables` hold averaged weights, those that training goes on with.

All leaves are saved and restored as NumPy arrays, so that a checkpoint of one device loads on any.
"""

import logging
from pathlib import Path
from typing import Any

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp

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

        Raises:
          CheckpointError: the folder does not exist and is not to be made.
        """
        folder = Path(folder).absolute()  # Orbax demands absolute paths
        if not writable and not folder.is_dir():
            raise CheckpointError(f"{folder}: no such folder, so there is no checkpoint to load")
        policies = ocp.training.preservation_policies
        keep = policies.AnyPreservationPolicy(
            [
                policies.LatestN(_KEEP_LATEST),
                policies.BestN(
                    get_metric_fn=lambda metrics: metrics[METRIC],
                    reverse=True,
                    n=1,
                    keep_checkpoints_without_metrics=False,
                ),
            ]
        )
        self.folder = folder
        self._checkpointer = ocp.training.Checkpointer(
            folder, preservation_policy=keep, cleanup_tmp_directories=writable
        )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Waits for a save under way and releases the folder."""
        self._guarded(self._checkpointer.close)

    def wait(self) -> None:
        """Waits until the last save is on disk."""
        self._guarded(self._checkpointer.wait)

    def steps(self) -> list[int]:
        """All saved steps, ascending."""
        return sorted(checkpoint.step for checkpoint in self._checkpointer.checkpoints)

    def choose(self, which: str = "best") -> int:
        """The step that `which` means.

        Args:
          which: "best" (lowest validation loss; the newest if none was validated), "last", or a
            step's number.

        Raises:
          CheckpointError: there is no checkpoint, or not that one.
        """
        found = list(self._checkpointer.checkpoints)
        if not found:
            raise CheckpointError(f"{self.folder}: holds no checkpoint")
        if which == "best":
            scored = [c for c in found if c.metrics and METRIC in c.metrics]
            if scored:
                return min(scored, key=lambda c: (c.metrics[METRIC], c.step)).step
        elif which != "last":
            if not which.isdecimal() or int(which) not in self.steps():
                listed = ", ".join(map(str, self.steps()))
                raise CheckpointError(f"{self.folder}: no step {which}; there are: {listed}")
            return int(which)
        return max(self.steps())

    def save(
        self, step: int, items: dict[str, Any], val_loss: float | None, *, replace: bool = False
    ) -> None:
        """Starts to save `items`; the arrays are copied before this returns.

        Args:
          step: number of the step.
          items: `variables`, `opt_state`, `meta`, `data`, and `trained` if there is one.
          val_loss: validation loss of these weights, finite, or None if it was not measured.
          replace: overwrite the same step.
        """
        items = {
            name: item if name in ("meta", "data") else jax.device_get(item)
            for name, item in items.items()
        }
        metrics = None if val_loss is None else {METRIC: float(val_loss)}
        self._guarded(
            lambda: self._checkpointer.save_checkpointables_async(
                step, items, force=True, overwrite=replace, metrics=metrics
            )
        )

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

    def _metadata(self, step: int) -> dict[str, Any]:
        return self._guarded(lambda: self._checkpointer.checkpointables_metadata(step)).metadata

    def _load(self, step: int, abstract: dict[str, Any]) -> dict[str, Any]:
        return self._guarded(lambda: self._checkpointer.load_checkpointables(step, abstract))

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
