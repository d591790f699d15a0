"""Sample pictures of a run under way: a few held-out windows, and what the model makes of them."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxconvlstm import plots
from jaxconvlstm.config.data import DataConfig
from jaxconvlstm.data.dataset import Dataset, Windows
from jaxconvlstm.data.loader import stack
from jaxconvlstm.data.windows import SplitName
from jaxconvlstm.errors import DataError
from jaxconvlstm.runs.folder import RunFolder
from jaxconvlstm.spread import spread
from jaxconvlstm.task import Forecasting, Task

SAMPLES = 3


class Samples:
    """Writes pictures of the same windows at every call."""

    def __init__(
        self,
        folder: RunFolder,
        dataset: Dataset,
        data: DataConfig,
        part: SplitName,
        task: Task,
        eval_step: Callable[[Any, Any], dict[str, Any]],
        batch_size: int,
    ):
        """Prepares; nothing is read yet.

        Args:
          folder: where pictures go.
          dataset, data: the windows are cut as `eval.py` does.
          part: the part that windows are taken from.
          task: what is predicted.
          eval_step: the compiled `task.evaluate`, used where the windows have its shapes.
          batch_size: windows predicted at once.
        """
        self._folder, self._dataset = folder, dataset
        self._windows, self._step = dataset.windows(part), eval_step
        if isinstance(task, Forecasting):
            lengths = sample_lengths(data)
            if task.dense_targets or lengths != (data.input_frames, data.target_frames):
                self._windows = _windows_of(dataset, part, lengths, self._windows)
                self._step = jax.jit(dataclasses.replace(task, dense_targets=False).evaluate)
        self._rows = min(batch_size, len(self._windows))

    def write(self, variables: Any, step: int, epoch: int) -> list[Path]:
        """The pictures of an epoch: strips of frames, or classes with their probabilities."""
        chosen = spread(len(self._windows), SAMPLES).tolist()
        clips = [self._windows.read(0, index) for index in chosen]
        predictions = np.concatenate(
            [
                # The same shapes each time, so that nothing is compiled again.
                np.asarray(self._step(variables, stack(part, self._rows))["predictions"])
                for part in (
                    clips[first : first + self._rows] for first in range(0, len(clips), self._rows)
                )
            ]
        )
        names = [f"{self._windows.name(index)}, epoch {epoch}" for index in chosen]
        stem = self._folder.samples / f"epoch-{epoch:04}"
        if self._dataset.classes:
            written = self._write_classes(clips, predictions, stem)
        else:
            written = self._write_frames(clips, predictions, names, stem)
        for number, path in enumerate(written):
            self._folder.log_picture(f"samples/{number}", path, step)
        return written

    def _write_classes(self, clips: list[Any], probabilities: Any, stem: Path) -> list[Path]:
        shown = [self._dataset.values.raw_to_unit(frames) for frames, _ in clips]
        labels = [int(label) for _, label in clips]
        path = stem.with_name(f"{stem.name}.png")
        plots.classified(shown, self._dataset.classes, probabilities[: len(clips)], labels, path)
        return [path]

    def _write_frames(
        self, clips: list[Any], predictions: Any, titles: list[str], stem: Path
    ) -> list[Path]:
        values = self._dataset.values
        written = []
        for number, (clip, scaled, title) in enumerate(zip(clips, predictions, titles)):
            inputs, targets = map(values.raw_to_unit, clip)
            predicted = values.to_unit(scaled)
            path = stem.with_name(f"{stem.name}-{number}.png")
            plots.strip(inputs, predicted, targets, path, title=title)
            if len(predicted) == 1:
                pair = stem.with_name(f"{stem.name}-{number}")
                plots.decoded_and_raw(predicted[0], targets[0], pair)
            written.append(path)
        return written


def sample_lengths(data: DataConfig) -> tuple[int, int]:
    """Frames given and predicted where pictures and scores are for people to see."""
    return data.eval_input_frames or data.input_frames, data.eval_steps or data.target_frames


def _windows_of(
    dataset: Dataset, part: SplitName, lengths: tuple[int, int], otherwise: Windows
) -> Windows:
    """Windows of other lengths than in training, where the part has any."""
    try:
        return dataset.windows(part, *lengths)
    except DataError as error:
        print(f"samples have the lengths of training: {error}", flush=True)
        return otherwise
