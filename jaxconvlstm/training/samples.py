"""Sample pictures of a run under way: predictions of the same few held-out windows."""

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
from jaxconvlstm.evaluation.report import draw_clip, unit_clip
from jaxconvlstm.runs.folder import RunFolder
from jaxconvlstm.spread import spread
from jaxconvlstm.task import Forecasting, Task

SAMPLES = 3


class Samples:
    """Pictures of the same windows after every so many epochs."""

    def __init__(
        self,
        folder: RunFolder,
        dataset: Dataset,
        data: DataConfig,
        split: SplitName,
        task: Task,
        eval_step: Callable[[Any, Any], dict[str, Any]],
        batch_size: int,
    ):
        """Choose windows; nothing is read yet.

        Args:
          folder: the run, which pictures and TensorBoard's events are written to.
          dataset, data: the windows are cut as `eval.py` does.
          split: the split that windows are taken from.
          task: predicts frames or classes.
          eval_step: the compiled `task.evaluate`, used where the windows have its shapes.
          batch_size: windows predicted at once.
        """
        self._folder, self._dataset = folder, dataset
        self._windows, self._step = dataset.windows(split), eval_step
        if isinstance(task, Forecasting):
            lengths = sample_lengths(data)
            if task.dense_targets or lengths != (data.input_frames, data.target_frames):
                # The loss may have other targets; pictures show the frames that eval.py scores.
                self._windows = _windows_of(dataset, split, lengths, self._windows)
                self._step = jax.jit(dataclasses.replace(task, dense_targets=False).evaluate)
        self._rows = min(batch_size, len(self._windows))

    def write(self, variables: Any, step: int, epoch: int) -> list[Path]:
        """Draw strips of frames, or clips with the probabilities of their classes.

        Args:
          variables: of the model.
          step, epoch: name the files, and the pictures in TensorBoard.

        Returns:
          A strip for each window, or one picture of all classified clips.
        """
        chosen = spread(len(self._windows), SAMPLES).tolist()
        clips = [self._windows.read(0, index) for index in chosen]
        batches = [clips[i : i + self._rows] for i in range(0, len(clips), self._rows)]
        # The last batch is padded to the shape of the others, so that nothing is compiled again.
        predictions = np.concatenate(  # [windows and padding, ...]
            [
                np.asarray(self._step(variables, stack(batch, self._rows))["predictions"])
                for batch in batches
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
        written = []
        for number, (window, predicted, title) in enumerate(zip(clips, predictions, titles)):
            clip = unit_clip(self._dataset.values, window, predicted)
            pair = stem.with_name(f"{stem.name}-{number}")
            strip = pair.with_name(f"{pair.name}.png")
            draw_clip(clip, strip, pair, title=title)
            written.append(strip)
        return written


def sample_lengths(data: DataConfig) -> tuple[int, int]:
    """Numbers of given and predicted frames in pictures and scores, as `eval.py` has them."""
    return data.eval_input_frames or data.input_frames, data.eval_steps or data.target_frames


def _windows_of(
    dataset: Dataset, split: SplitName, lengths: tuple[int, int], otherwise: Windows
) -> Windows:
    """Windows of other lengths than in training, or `otherwise` if the split has none."""
    try:
        return dataset.windows(split, *lengths)
    except DataError as error:
        print(f"samples have the lengths of training: {error}", flush=True)
        return otherwise
