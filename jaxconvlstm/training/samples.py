"""Sample pictures of a run under way: predictions of the same few held-out windows."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxconvlstm import plots
from jaxconvlstm.config.data import DataConfig
from jaxconvlstm.data.dataset import Dataset
from jaxconvlstm.data.loader import stack
from jaxconvlstm.data.windows import SplitName
from jaxconvlstm.errors import DataError
from jaxconvlstm.evaluation.report import draw_clip, unit_clip
from jaxconvlstm.messages import say
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
            given = data.eval_input_frames or data.input_frames
            steps = data.eval_steps or data.target_frames
            if task.dense_targets or (given, steps) != (data.input_frames, data.target_frames):
                # The loss may have other targets; pictures show the frames that eval.py scores.
                try:
                    self._windows = dataset.windows(split, given, steps)
                except DataError as error:
                    say(f"samples have the lengths of training: {error}")
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
        values, classes = self._dataset.values, self._dataset.classes
        stem = self._folder.samples / f"epoch-{epoch:04}"
        if classes:
            written = [Path(f"{stem}.png")]
            shown = [values.raw_to_unit(frames) for frames, _ in clips]
            labels = [int(label) for _, label in clips]
            plots.classified(shown, classes, predictions[: len(clips)], labels, written[0])
        else:
            written = [Path(f"{stem}-{number}.png") for number in range(len(clips))]
            for index, window, predicted, strip in zip(chosen, clips, predictions, written):
                title = f"{self._windows.name(index)}, epoch {epoch}"
                clip = unit_clip(values, window, predicted)
                draw_clip(clip, strip, strip.with_suffix(""), title=title)
        for number, path in enumerate(written):
            self._folder.log_picture(f"samples/{number}", path, step)
        return written
