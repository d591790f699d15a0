"""Plant small faults one at a time and report which the tests catch.

python tests/mutants.py                     # all of them; some twenty minutes on two cores
python tests/mutants.py --only metrics/     # those whose file, fault or test holds this text
python tests/mutants.py --list              # names them and checks that each can be planted
python tests/mutants.py --json scores.json  # writes the outcome as well

Pytest does not collect this file. It works on a copy of the repository (the files that git tracks
or does not ignore), so that the working tree stays as it is. First all tests that the mutants name
are run without a fault; they must pass. Then each mutant, a piece of the package's text with its
replacement, is planted and its tests are run. It is caught if one of them fails; if all pass, it
has survived, and a test is missing. A mutant is a mistake that somebody could make and that no
import or type check would reveal.

The last lines are a table in Markdown with the number caught in each folder. The exit code is 1 if
any survived, and 2 if the run is invalid: a text that is not in its file exactly once, a test that
does not exist, or a test that fails without a fault.

A change of a line that a mutant names has to change the mutant as well.
"""

import argparse
import contextlib
import importlib
import json
import math
import os
import re
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple, NoReturn

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "jaxconvlstm"
LIBRARIES = (
    "flax.linen optax orbax.checkpoint hypothesis PIL.Image tyro pooch requests h5py".split()
)
LIBRARIES += "netCDF4 zarr av matplotlib.figure keras tensorboardX beartype rich".split()
"""Libraries that tests import: imported once, as each run of pytest is a fork of this process."""
SECONDS = 600
"""Time limit of one mutant's tests. A fault that makes them wait forever counts as caught."""


class Mutant(NamedTuple):
    """A small fault.

    Attributes:
      path: of the file, below the package.
      before: a piece of its text that occurs exactly once.
      after: what stands there instead.
      tests: pytest ids, below `tests`, of which at least one ought to fail.
      why: the fault in a few words.
    """

    path: str
    before: str
    after: str
    tests: tuple[str, ...]
    why: str

    @property
    def folder(self) -> str:
        """The folder that the table counts it in."""
        return str(Path(self.path).parent).replace(".", "top level")


MUTANTS = [
    Mutant(
        "config/data.py",
        "if sum(fractions.values()) > 1 + 1e-9:",
        "if sum(fractions.values()) > 3:",
        ("config/test_config.py::test_what_cannot_work_is_refused",),
        "fractions that add up to more than 1 are accepted",
    ),
    Mutant(
        "config/model.py",
        "if value not in _DEFAULTS[name]:",
        "if name not in _DEFAULTS:",
        ("config/test_config.py::test_a_flag_without_effect_on_the_model_is_refused",),
        "a flag without effect on the model is accepted",
    ),
    Mutant(
        "config/run.py",
        "        if flat:\n",
        "        if len(flat) > 1:\n",
        ("config/test_config.py::test_a_bad_file_names_what_is_wrong",),
        "a single key that no flag has is ignored",
    ),
    Mutant(
        "config/data.py",
        'return cls(0.0, 0.0, 0.0).updated(values, "split")',
        'return cls(0.1, 0.1, 0.1).updated(values, "split")',
        ("config/test_config.py::test_split_leaves_out_what_it_does_not_name",),
        "a fraction that is not named is 0.1",
    ),
    Mutant(
        "config/options.py",
        "found = tuple(map(_convert, value, kinds))",
        "listed = value[::-1] if isinstance(value, list) else value\n"
        "    found = tuple(map(_convert, listed, kinds))",
        ("config/test_config.py::test_json_round_trip",),
        "lists of a file are read backwards: height and width exchanged",
    ),
    Mutant(
        "config/presets.py",
        "(inspect.getdoc(PRESETS[name]) or name).splitlines()[0]",
        "(inspect.getdoc(PRESETS[name]) or name).splitlines()[-1]",
        ("config/test_presets.py::test_every_preset_is_described_and_stands_in_the_readme",),
        "presets are described by their last line",
    ),
    Mutant(
        "config/options.py",
        "return fitting[0] if fitting and not isinstance(value, bool) else _REFUSED",
        "return fitting[0] if fitting else value",
        ("config/test_config.py::test_a_bad_file_names_what_is_wrong",),
        "a file may name a choice that there is not",
    ),
    Mutant(
        "nn/cell.py",
        "c = f * c + i * g",
        "c = i * c + f * g",
        ("nn/test_cell.py::test_cell_is_the_numpy_loop",),
        "forget gate and input gate exchanged",
    ),
    Mutant(
        "nn/cell.py",
        "c = f * c + i * g",
        "c = f * c - i * g",
        ("nn/test_cell.py::test_cell_is_the_numpy_loop",),
        "the candidate is subtracted",
    ),
    Mutant(
        "nn/cell.py",
        "o = _add_peephole(o, terms.w_co, c)",
        "o = _add_peephole(o, terms.w_co, carry[0])",
        ("nn/test_cell.py::test_cell_is_the_numpy_loop",),
        "the output gate's peephole reads the old cell state",
    ),
    Mutant(
        "nn/cell.py",
        "forget = slice(self.features, 2 * self.features)",
        "forget = slice(0, self.features)",
        (
            "nn/test_cell.py::test_initial_weights_forget_nothing_are_orthogonal_and_have_no_peepholes",
        ),
        "the bias of 1 is the input gate's",
    ),
    Mutant(
        "nn/cell.py",
        "return widest(self.param_dtype, self.dtype), self.dtype",
        "return self.dtype, self.dtype",
        ("nn/test_cell.py::test_bfloat16_keeps_the_cell_state_in_float32",),
        "the cell state adds up in bfloat16",
    ),
    Mutant(
        "nn/convolution.py",
        "((height - 1) // 2, height // 2), ((width - 1) // 2, width // 2)",
        "(height // 2, (height - 1) // 2), (width // 2, (width - 1) // 2)",
        (
            "nn/test_cell.py::test_cell_is_the_numpy_loop",
            "nn/test_cell.py::test_cell_is_kerass_with_its_weights_as_they_are",
        ),
        "an even kernel is padded on the other side",
    ),
    Mutant(
        "nn/convolution.py",
        "second = transpose_kernel(second)",
        "second = second.swapaxes(2, 3)",
        ("nn/test_conv.py::test_the_ways_of_a_cpu_and_a_gpu_are_lax_with_its_gradients",),
        "the kernel of a GPU's gradient is not rotated",
    ),
    Mutant(
        "nn/convolution.py",
        "first = jnp.moveaxis(first, axes[0], -5)",
        "first = jnp.moveaxis(first, axes[0], -4)",
        ("nn/test_derivatives.py::test_mapped_over_inputs_and_kernels_with_gradients",),
        "a mapped axis joins the batch the wrong way round",
    ),
    Mutant(
        "nn/cell.py",
        "or got != wanted",
        "or got[0][0] != wanted[0][0]",
        (
            "nn/test_derivatives.py::test_a_carry_or_kernel_that_does_not_fit_is_refused_in_one_line",
        ),
        "a carry of another dtype is taken",
    ),
    Mutant(
        "nn/winograd.py",
        "return (down - top, down - bottom), (across - left, across - right)",
        "return padding",
        (
            "nn/test_conv.py::test_the_ways_of_a_cpu_and_a_gpu_are_lax_with_its_gradients",
            "nn/test_winograd.py::test_rows_of_any_length_are_convolved_in_tiles_or_one_product",
        ),
        "a gradient is padded as the convolution is",
    ),
    Mutant(
        "nn/winograd.py",
        "b[np.abs(b) < 1e-9] = 0",
        "b[np.abs(b) < 0.3] = 0",
        ("nn/test_winograd.py::test_the_matrices_filter_a_tile",),
        "small entries of a Winograd matrix are lost",
    ),
    Mutant(
        "nn/blocking.py",
        "values = values + self.slice(inputs, block, self.halo)",
        "values = values + 0",
        ("nn/test_winograd.py::test_blocks_make_up_the_whole",),
        "the gradient of rows that two blocks read is that of the last",
    ),
    Mutant(
        "nn/conv_lstm.py",
        "if rate == 0 or not train:",
        "if rate == 0:",
        ("nn/test_conv_lstm.py::test_there_is_dropout_only_in_training_and_only_then_a_prng",),
        "dropout in evaluation",
    ),
    Mutant(
        "nn/conv_lstm.py",
        "return jnp.where(kept, 1 / (1 - rate), 0).astype(dtype)",
        "return kept.astype(dtype)",
        (
            "nn/test_conv_lstm.py::test_dropped_inputs_are_zero_all_the_time_and_the_others_are_scaled",
        ),
        "what dropout keeps is not scaled up",
    ),
    Mutant(
        "nn/conv_lstm.py",
        "[hidden[1:], last[None]]",
        "[hidden[:-1], last[None]]",
        (
            "nn/test_conv_lstm.py::test_layer_and_its_last_carry_stay_on_the_numpy_loop_over_many_steps",
        ),
        "hidden states a step late",
    ),
    Mutant(
        "nn/conv_lstm.py",
        "nn.remat(body, prevent_cse=False) if self.remat else body,",
        "body,",
        ("nn/test_conv_lstm.py::test_remat_takes_less_memory",),
        "--remat without effect",
    ),
    Mutant(
        "nn/encoder_decoder.py",
        "jax.nn.sigmoid(logits + jax.lax.stop_gradient(limited - logits))",
        "jax.nn.sigmoid(limited)",
        (
            "nn/test_encoder_decoder.py::test_limited_sigmoid_is_the_sigmoid_and_never_stops_learning",
        ),
        "a saturated pixel has no gradient",
    ),
    Mutant(
        "nn/motion.py",
        "place = jnp.clip(grid[None].astype(flow.dtype) + flow,",
        "place = jnp.clip(grid[None].astype(flow.dtype) - flow,",
        ("nn/test_motion.py::test_whole_pixels_are_moved_exactly",),
        "things move backwards",
    ),
    Mutant(
        "models/autoregressive.py",
        "truth = jnp.moveaxis(teacher[:, : steps - 1], 1, 0)",
        "truth = jnp.moveaxis(teacher[:, 1:], 1, 0)",
        ("models/test_contract.py::test_no_prediction_depends_on_a_later_frame[frame-predictor]",),
        "the teacher shows the very frame to be predicted",
    ),
    Mutant(
        "models/autoregressive.py",
        "mask = jnp.moveaxis(teacher_mask[:, 1:], 1, 0)",
        "mask = jnp.moveaxis(teacher_mask[:, :-1], 1, 0)",
        (
            "models/test_contract.py::test_reading_at_once_equals_reading_frame_by_frame_with_gradients[frame-predictor-mixed]",
        ),
        "the teacher mask is a step off",
    ),
    Mutant(
        "models/autoregressive.py",
        'split_rngs={"params": False, "dropout": False}',
        'split_rngs={"params": False, "dropout": True}',
        (
            "models/test_frame_predictor.py::test_frames_fed_back_have_one_dropout_mask_for_all_of_them",
        ),
        "dropout masks drawn anew for each frame that is fed back",
    ),
    Mutant(
        "models/stacked.py",
        "jnp.pad(frames, ((0, 0), (by, 0), (0, 0), (0, 0), (0, 0)))[:, :-by]",
        "jnp.pad(frames, ((0, 0), (0, by), (0, 0), (0, 0), (0, 0)))[:, by:]",
        (
            "models/test_contract.py::test_no_prediction_depends_on_a_later_frame[stacked]",
            "models/test_stacked.py::test_the_last_convolution_is_causal_in_time_and_same_in_space",
        ),
        "the causal convolution looks ahead",
    ),
    Mutant(
        "models/stacked.py",
        "hidden = self._normalise(index, hidden, train=False)",
        "hidden = self._normalise(index, hidden, train)",
        (
            "models/test_stacked.py::test_frames_given_make_the_statistics_that_normalise_those_fed_back",
        ),
        "frames fed back spoil batch normalisation's statistics",
    ),
    Mutant(
        "models/seq2one_lstm.py",
        "hidden = nn.relu(norm(conv(hidden), use_running_average=not train))",
        "hidden = nn.relu(norm(conv(hidden), use_running_average=False))",
        (
            "models/test_seq2one_lstm.py::test_training_normalises_with_the_batch_and_keeps_its_statistics",
            "models/test_seq2one_lstm.py::test_the_model_is_its_numpy_loop",
        ),
        "batch normalisation by the batch in evaluation",
    ),
    Mutant(
        "models/seq2one_lstm.py",
        "forget_bias=0.0,",
        "forget_bias=1.0,",
        ("models/test_seq2one_lstm.py::test_the_forget_gate_starts_as_pytorchs",),
        "another forget bias than PyTorch's",
    ),
    Mutant(
        "models/frame_predictor.py",
        "before = jnp.concatenate([inputs[:, :1], inputs[:, :-1]], axis=1)",
        "before = jnp.concatenate([inputs[:, 1:], inputs[:, -1:]], axis=1)",
        (
            "models/test_contract.py::test_changing_a_later_frame_changes_no_earlier_prediction[motion]",
        ),
        "motion is read from the next frame",
    ),
    Mutant(
        "models/convlstm_classifier.py",
        "state.max((1, 2))",
        "state.min((1, 2))",
        ("models/test_classifiers.py::test_conv_lstm_classifier_is_its_numpy_loop",),
        "minimum in place of maximum",
    ),
    Mutant(
        "models/convlstm_classifier.py",
        "state = hidden[:, -1].astype",
        "state = hidden[:, 0].astype",
        (
            "models/test_contract.py::test_every_weight_and_frame_has_a_finite_gradient[convlstm-classifier]",
        ),
        "the class is read after the first frame",
    ),
    Mutant(
        "models/tiled.py",
        "return np.minimum(places, places[::-1]) + 1.0",
        "return places + 1.0",
        ("models/test_tiled.py",),
        "tiles weigh most at one end, where they end with a seam",
    ),
    Mutant(
        "models/tiled.py",
        "old + weight * predicted, at)",
        "old + predicted, at)",
        ("models/test_tiled.py::test_predictions_that_depend_on_one_pixel_are_exact",),
        "tiles are added without their weights",
    ),
    Mutant(
        "models/scheduled_sampling.py",
        "columns < input_frames,",
        "columns <= input_frames,",
        ("models/test_scheduled_sampling.py::test_reverse_fractions_are_those_of_their_phases",),
        "reverse sampling shows a target frame as if it were an input",
    ),
    Mutant(
        "models/scheduled_sampling.py",
        "probability = _LEFT**time",
        "probability = _LEFT ** (2 * time)",
        ("models/test_scheduled_sampling.py::test_curves_follow_their_formulas",),
        "the exponential curve falls twice as fast",
    ),
    Mutant(
        "models/pyramid_forecaster.py",
        "layer(maps, state, return_carry=True, train=train)",
        "layer(maps, None, return_carry=True, train=train)",
        ("models/test_encoder_forecaster.py::test_the_model_is_its_numpy_loop",),
        "the forecaster's lower layers start from nothing",
    ),
    Mutant(
        "metrics/ssim.py",
        "K1, K2 = 0.01, 0.03",
        "K1, K2 = 0.01, 0.01",
        ("metrics/test_frame_scores.py::test_equals_scikit_image",),
        "another constant of SSIM",
    ),
    Mutant(
        "metrics/ssim.py",
        "GAUSSIAN_SIZE = 11",
        "GAUSSIAN_SIZE = 9",
        ("metrics/test_frame_scores.py::test_equals_scikit_image",),
        "a smaller window of SSIM",
    ),
    Mutant(
        "metrics/ssim.py",
        "correction = pixels / (pixels - 1) if sample_covariance else 1.0",
        "correction = 1.0",
        ("metrics/test_frame_scores.py::test_equals_scikit_image",),
        "population covariance in OpenSTL's SSIM",
    ),
    Mutant(
        "metrics/ssim.py",
        "functools.reduce(jnp.minimum, _shifted(weight, size, axis))",
        "functools.reduce(jnp.maximum, _shifted(weight, size, axis))",
        ("metrics/test_frame_scores.py::test_masked_ssim_is_the_mean_over_whole_windows",),
        "windows with missing pixels count in SSIM",
    ),
    Mutant(
        "metrics/frame_scores.py",
        "return -10 * jnp.log10(",
        "return -20 * jnp.log10(",
        ("metrics/test_frame_scores.py::test_equals_scikit_image",),
        "twice the PSNR",
    ),
    Mutant(
        "metrics/frame_scores.py",
        "_mean_over_frame((clipped - y) ** 2, mask)",
        "_mean_over_frame((p - y) ** 2, mask)",
        ("metrics/test_frame_scores.py",),
        "PSNR of predictions that are not clipped",
    ),
    Mutant(
        "metrics/frame_scores.py",
        "counted = np.asarray(valid) > 0",
        "counted = np.asarray(valid) >= 0",
        ("metrics/test_frame_scores.py::test_sums_do_not_depend_on_the_batches",),
        "frames without a valid pixel count",
    ),
    Mutant(
        "metrics/losses.py",
        "return _divide(jnp.sum(weight * values, axes), jnp.sum(weight, axes))",
        "return _divide(jnp.sum(weight * values, axes), jnp.sum(jnp.ones_like(weight), axes))",
        ("metrics/test_losses.py::test_masked_equals_unmasked_on_the_valid_part",),
        "missing pixels count as right",
    ),
    Mutant(
        "metrics/losses.py",
        "return _divide(jnp.sum(per_example * totals), jnp.sum(totals))",
        "return _divide(jnp.sum(per_example * (totals > 0)), jnp.sum(totals > 0))",
        ("metrics/test_losses.py::test_masked_mean_weighs_examples_by_their_valid_values",),
        "an example of one valid pixel counts as much as a whole one",
    ),
    Mutant(
        "metrics/losses.py",
        "HUBER_DELTA = 0.1",
        "HUBER_DELTA = 1.0",
        (
            "metrics/test_losses.py::test_losses_of_values_equal_their_formulas",
            "metrics/test_losses.py::test_known_values",
        ),
        "Huber's loss that is never linear",
    ),
    Mutant(
        "metrics/losses.py",
        "_mean(jnp.abs(jnp.subtract(*changes)), jnp.minimum(before, after))",
        "_mean(jnp.abs(jnp.subtract(*changes)), after)",
        (
            "metrics/test_losses.py::test_gradient_difference_equals_formula",
            "metrics/test_losses.py::test_only_valid_values_count",
        ),
        "differences from a missing pixel count",
    ),
    Mutant(
        "metrics/ghosting.py",
        "left = been & ~_dilated(objects)",
        "left = been & ~objects",
        ("metrics/test_ghosting.py::test_the_pixel_beside_the_object_does_not_count",),
        "a blurred edge counts as ghosting",
    ),
    Mutant(
        "metrics/ghosting.py",
        "seen = valid & (jnp.abs(deviation) > TOLERANCE)",
        "seen = jnp.abs(deviation) > TOLERANCE",
        ("metrics/test_ghosting.py::test_missing_pixels_are_left_out",),
        "missing pixels count as ghosting",
    ),
    Mutant(
        "metrics/class_scores.py",
        ".add(there.astype(jnp.int32))",
        ".add(1)",
        ("metrics/test_class_scores.py::test_scores_do_not_depend_on_the_batches",),
        "rows that only pad a batch count in the accuracy",
    ),
    Mutant(
        "metrics/class_scores.py",
        '"balanced_accuracy": float((right[occurs] / clips[occurs]).mean()),',
        '"balanced_accuracy": float(right.sum() / clips.sum()),',
        ("metrics/test_class_scores.py",),
        "balanced accuracy weighs classes by their clips",
    ),
    Mutant(
        "data/windows.py",
        "(input_frames + horizon - 1 + target_frames - 1) * frame_step + 1",
        "(input_frames + target_frames - 1) * frame_step + 1",
        (
            "data/test_windows.py::test_span",
            "data/test_dataset.py::test_horizon_and_frame_step_say_which_frames_a_window_has",
        ),
        "a window has no room for its horizon",
    ),
    Mutant(
        "data/windows.py",
        "(s.stop - s.start - span) // stride + 1)",
        "(s.stop - s.start - span + 1) // stride + 1)",
        ("data/test_windows.py::test_windows_stay_inside_their_segments",),
        "the last window reaches past its segment",
    ),
    Mutant(
        "data/windows.py",
        "rest.append(Segment(last.sequence, last.start, cut))",
        "rest.append(Segment(last.sequence, last.start, cut + 1))",
        ("data/test_windows.py::test_splits_share_no_frame_and_all_have_a_window",),
        "training and validation share a frame",
    ),
    Mutant(
        "data/windows.py",
        "units.setdefault(groups[sequence] if groups else sequence, [])",
        "units.setdefault(sequence, [])",
        ("data/test_windows.py::test_sequences_that_share_frames_stay_together",),
        "sequences that share frames are in two splits",
    ),
    Mutant(
        "data/frames_dataset.py",
        "step, first = config.frame_step, input_frames + config.horizon - 1",
        "step, first = config.frame_step, input_frames + config.horizon",
        ("data/test_dataset.py::test_horizon_and_frame_step_say_which_frames_a_window_has",),
        "targets a lead time late",
    ),
    Mutant(
        "data/frames_dataset.py",
        'training = self.splits["train"] or self._segments',
        "training = self._segments",
        ("data/test_dataset.py::test_the_scale_follows_from_the_training_part_alone",),
        "the scale is measured on test frames, too",
    ),
    Mutant(
        "data/fit_scale.py",
        "np.sqrt(np.maximum(squares / count - mean**2, 0))",
        "np.sqrt(squares / count)",
        ("data/test_dataset.py::test_the_scale_follows_from_the_training_part_alone",),
        "root mean square in place of the standard deviation",
    ),
    Mutant(
        "data/augment.py",
        "default_rng([seed, CHANGE_STREAM, epoch, index])",
        "default_rng([seed, CHANGE_STREAM, index])",
        ("data/test_augment.py::test_each_number_matters",),
        "the same augmentation in every epoch",
    ),
    Mutant(
        "data/augment.py",
        "inputs, targets = self._turn(inputs), self._turn(targets)",
        "inputs, targets = self._turn(inputs), targets",
        ("data/test_augment.py::test_all_frames_of_a_window_are_changed_alike",),
        "the inputs are mirrored and the targets are not",
    ),
    Mutant(
        "data/augment.py",
        "clip = np.concatenate([inputs[:1] if dense_targets else inputs, targets])[::-1]",
        "clip = np.concatenate([inputs[:1] if dense_targets else inputs[::-1], targets[::-1]])",
        ("data/test_augment.py::test_a_clip_played_backwards_begins_with_its_targets",),
        "inputs and targets are each played backwards",
    ),
    Mutant(
        "data/augment.py",
        "int(fraction * (side - length + 1))",
        "int(fraction * (side - length))",
        ("data/test_augment.py::test_uniform_crops_reach_every_place_alike",),
        "no crop reaches the last row or column",
    ),
    Mutant(
        "data/loader.py",
        "inputs, targets = change.cut(inputs), change.cut(targets)",
        "inputs, targets = change.cut(inputs), change.cut(targets[:, ::-1])",
        ("data/test_loader.py::test_changes_are_the_same_in_all_frames_of_a_window",),
        "targets are cropped at another place than inputs",
    ),
    Mutant(
        "data/loader.py",
        "default_rng([seed, ORDER_STREAM, epoch])",
        "default_rng([seed, ORDER_STREAM])",
        ("data/test_loader.py::test_an_epoch_has_each_window_once_and_the_next_another_order",),
        "the same order in every epoch",
    ),
    Mutant(
        "data/loader.py",
        "weight[len(rows) :] = 0",
        "weight[len(rows) :] = 1",
        ("data/test_loader.py::test_evaluation_is_in_order_and_padded_without_weight",),
        "rows that only pad a batch have weight",
    ),
    Mutant(
        "data/prefetch.py",
        "            raise error\n        return item",
        "            raise StopIteration\n        return item",
        ("data/test_loader.py::test_an_error_in_a_thread_names_the_sample",),
        "reading ahead swallows an error",
    ),
    Mutant(
        "data/prefetch.py",
        "item, error = self._wait(self._results.popleft())",
        "ready = (n for n, result in enumerate(self._results) if not result.empty())\n"
        "        self._results.rotate(-next(ready, 0))\n"
        "        item, error = self._wait(self._results.popleft())",
        ("data/test_loader.py::test_threads_and_restarts_change_nothing",),
        "batches come in the order in which threads finish them",
    ),
    Mutant(
        "data/preprocess.py",
        "LUMA = (0.299, 0.587, 0.114)",
        "LUMA = (0.333, 0.334, 0.333)",
        (
            "data/sources/test_arrays.py::test_preparation_is_that_of_each_frame",
            "data/sources/test_image_folder.py::test_modes_of_8_bits",
            "data/sources/test_video.py::test_grey_is_that_of_rec_601",
        ),
        "grey as the mean of the colours",
    ),
    Mutant(
        "data/preprocess.py",
        "top, left = (height - rows) // 2, (width - columns) // 2",
        "top, left = 0, 0",
        (
            "data/sources/test_arrays.py::test_preparation_is_that_of_each_frame",
            "data/sources/test_video.py::test_a_real_clip_agrees_with_its_published_frames",
        ),
        "--fit crop keeps the top left corner",
    ),
    Mutant(
        "data/preprocess.py",
        "exact = _bicubic(np.where(valid, plane, 0), size) / np.where(enough, fraction, 1)",
        "exact = _bicubic(np.where(valid, plane, 0), size)",
        ("data/sources/test_image_folder.py::test_resizing_does_not_mix_in_missing_values",),
        "resizing mixes missing pixels in as zero",
    ),
    Mutant(
        "data/split_file.py",
        "if after.start < before.stop:",
        "if after.start < before.stop - 1:",
        ("data/test_dataset.py::test_what_a_split_file_must_not_say",),
        "a split file may put one frame in two splits",
    ),
    Mutant(
        "data/fingerprint.py",
        "digest.update(np.ascontiguousarray(array).data)",
        "digest.update(str(array.size).encode())",
        ("training/test_resume.py::test_other_data_in_the_place_of_the_runs_own_are_refused",),
        "the fingerprint does not see the values",
    ),
    Mutant(
        "data/labels.py",
        "known or sorted(counts)",
        "known or list(counts)",
        (
            "data/test_labels.py::test_the_class_is_the_folder_and_classes_are_in_order_of_their_names",
        ),
        "classes are numbered as they come",
    ),
    Mutant(
        "data/last_frames.py",
        "numbers = range(stop - self._span, stop, self._step)",
        "numbers = range(stop - self._span - 1, stop - 1, self._step)",
        ("tools/test_scripts.py::test_forecast_writes_the_future_of_every_sequence",),
        "a forecast starts one frame before the last",
    ),
    Mutant(
        "data/download.py",
        'f"md5:{file.md5}"',
        "None",
        ("data/test_download.py::test_another_file_than_the_known_one_is_not_kept",),
        "the checksum of a download is not checked",
    ),
    Mutant(
        "data/dataset.py",
        "getattr(config, field.name) != field.default:",
        'field.name == "data" and config.data is not None:',
        ("data/test_dataset.py::test_a_setting_without_effect_is_refused",),
        "a flag without effect on the data is accepted",
    ),
    Mutant(
        "data/synthetic/moving_mnist.py",
        "min(max(position, 0.0), 1.0), -velocity",
        "min(max(position, 0.0), 1.0), velocity",
        (
            "data/synthetic/test_moving_mnist.py::test_clips_equal_the_loops_of_the_common_generator",
        ),
        "digits stop at the edge",
    ),
    Mutant(
        "data/synthetic/moving_mnist.py",
        "np.maximum(place, picture, out=place)",
        "np.add(place, picture, out=place)",
        (
            "data/synthetic/test_moving_mnist.py::test_clips_equal_the_loops_of_the_common_generator",
        ),
        "digits that overlap overflow",
    ),
    Mutant(
        "data/synthetic/moving_mnist.py",
        "            start += size\n",
        "            start += size - 1\n",
        (
            "data/synthetic/test_moving_mnist.py::test_no_digit_is_in_two_parts_and_the_seed_says_where_each_is",
        ),
        "a digit is in training and validation",
    ),
    Mutant(
        "data/synthetic/generated.py",
        "1 if dense_targets else input_frames + dataset.config.horizon - 1",
        "1 if dense_targets else input_frames",
        ("data/synthetic/test_moving_mnist.py::test_lengths_steps_regions_and_every_frame",),
        "generated clips ignore --horizon",
    ),
    Mutant(
        "data/synthetic/moving_squares.py",
        "return moving_squares(generator, frames)",
        "return moving_squares(generator, frames)[:1] * 2",
        ("data/synthetic/test_moving_squares.py::test_targets_follow_the_inputs_without_noise",),
        "targets with noise",
    ),
    Mutant(
        "data/synthetic/generated.py",
        'new = epoch if self.split == "train" else 0',
        "new = epoch",
        (
            "data/synthetic/test_moving_squares.py::test_only_training_clips_change_with_the_epoch_and_splits_differ",
        ),
        "validation clips change with the epoch",
    ),
    Mutant(
        "data/synthetic/moving_lines.py",
        'if name in ("right-to-left", "bottom-to-top"):',
        'if name in ("left-to-right", "bottom-to-top"):',
        (
            "data/synthetic/test_moving_lines.py::test_a_line_grows_a_pixel_a_frame_from_edge_to_edge",
        ),
        "left and right exchanged",
    ),
    Mutant(
        "data/synthetic/digits.py",
        "factor = 255 if floats or truth else 1",
        "factor = 255 if floats else 1",
        ("data/synthetic/test_moving_mnist.py::test_arrays_of_digits",),
        "digits of truth values are nearly black",
    ),
    Mutant(
        "data/sources/base.py",
        "cuts = {0, length, *self.gaps.get(sequence, ()), *bad,",
        "cuts = {0, length, *bad,",
        ("data/test_dataset.py::test_no_window_crosses_a_gap_or_touches_a_bad_frame",),
        "windows cross gaps",
    ),
    Mutant(
        "data/sources/base.py",
        "return range(first, stop)",
        "return range(count)",
        ("data/sources/test_image_folder.py::test_a_range_of_sequences",),
        "--sequences without effect",
    ),
    Mutant(
        "data/sources/files.py",
        'return f"{len(digits):03d}{digits}"',
        "return digits",
        (
            "data/sources/test_image_folder.py::test_order_is_natural_with_and_without_padding",
            "data/sources/test_video.py::test_folders_are_listed_in_natural_order",
        ),
        "frame10 before frame2",
    ),
    Mutant(
        "data/sources/files.py",
        "folders[index] = Folder(path, [name for name in files if name not in names])",
        "folders[index] = Folder(path, files)",
        ("data/sources/test_video.py::test_a_file_that_is_linked_to_counts_once",),
        "a video and a link to it are two",
    ),
    Mutant(
        "data/sources/split_folders.py",
        'if len(known) < len(splits) or not counts["train"]',
        'if not counts["train"]',
        (
            "data/sources/test_image_folder.py",
            "data/sources/test_array_files.py::test_folders_named_as_parts",
        ),
        "sequences beside folders named as splits are lost",
    ),
    Mutant(
        "data/sources/timestamps.py",
        "np.where(late, century, century + 1)",
        "np.where(late, century + 1, century)",
        ("data/sources/test_numbering.py::test_dates_without_a_century_or_a_month",),
        "years of two digits in the wrong century",
    ),
    Mutant(
        "data/sources/images/image_file.py",
        "upright = ImageOps.exif_transpose(image)",
        "upright = image",
        ("data/sources/test_image_folder.py::test_exif_rotation",),
        "the EXIF orientation is ignored",
    ),
    Mutant(
        "data/sources/images/image_file.py",
        "return np.dtype(np.uint16)",
        "return np.dtype(np.uint8)",
        ("data/sources/test_image_folder.py::test_16_bits_keep_every_value",),
        "16 bits are squeezed into 8",
    ),
    Mutant(
        "data/sources/images/image_file.py",
        "image.seek(page)",
        "image.seek(0)",
        ("data/sources/test_image_file.py::test_pages_are_read_one_by_one",),
        "every page of a GIF is the first",
    ),
    Mutant(
        "data/sources/images/image_file.py",
        "if not (allow_nan or np.isfinite(pixels).all()):",
        "if not (allow_nan or not np.isnan(pixels).any()):",
        ("data/sources/test_image_file.py::test_nan_and_infinity_are_refused_unless_allowed",),
        "infinity in a picture passes",
    ),
    Mutant(
        "data/sources/images/image_file.py",
        "return bool(arguments[-1] > 255)",
        "return bool(arguments[-1] > 65535)",
        ("data/sources/test_image_folder.py::test_16_bit_colour_ppm_is_not_squeezed",),
        "16-bit colour of a PPM is cut to 8 bits",
    ),
    Mutant(
        "data/sources/images/numbering.py",
        "sequence._replace(files=[sequence.files[i] for i in order])",
        "sequence._replace(files=list(sequence.files))",
        ("data/sources/test_image_folder.py::test_a_time_format_orders_frames",),
        "--time-format does not order the frames",
    ),
    Mutant(
        "data/sources/images/path_list.py",
        'file.write(json.dumps([os.path.join(start, n) for n in names]) + "\\n")',
        'file.write(" ".join([os.path.join(start, n) for n in names]) + "\\n")',
        ("data/sources/test_path_list.py::test_any_name_survives",),
        "names in a path list are not escaped",
    ),
    Mutant(
        "data/sources/images/path_list.py",
        "parents[find(line)] = find(owners.setdefault(number, line))",
        "owners.setdefault(number, line)",
        ("data/sources/test_path_list.py::test_lines_that_share_frames_are_a_group",),
        "lines that share frames are no group",
    ),
    Mutant(
        "data/sources/images/path_list.py",
        "ends = [0, *numbering.gaps.get(index, ()), sequence.length]",
        "ends = [0, sequence.length]",
        ("data/sources/test_path_list.py::test_written_lines_are_windows",),
        "a line of a path list crosses a gap",
    ),
    Mutant(
        "data/sources/images/tiff_tags.py",
        "if image.mode in _INTEGERS_8_BIT and max(bits) > 8:",
        "if image.mode in _INTEGERS_8_BIT and max(bits) > 16:",
        (
            "data/sources/test_image_file.py::test_tiff_files_that_would_be_misread",
            "data/sources/test_image_folder.py::test_16_bit_colour_is_not_squeezed",
        ),
        "TIFF colours of 16 bits are cut to 8",
    ),
    Mutant(
        "data/sources/arrays/axes.py",
        'return _transpose(array, self.axes, "NTHWC")',
        'return _transpose(array, self.axes, "NTWHC")',
        ("data/sources/test_arrays.py::test_every_order_of_axes_reads_the_same_frames",),
        "height and width exchanged",
    ),
    Mutant(
        "data/sources/arrays/axes.py",
        'self.axes.replace("N", ""), "THWC")',
        'self.axes.replace("N", ""), "HTWC")',
        ("data/sources/test_array_files.py::test_every_kind_reads_the_same",),
        "time and height exchanged in files of a library",
    ),
    Mutant(
        "data/sources/arrays/library_arrays.py",
        "unpacked[values == fill] = np.nan",
        "unpacked[values == fill] = fill",
        ("data/sources/test_array_files.py::test_packed_values_with_missing_ones",),
        "the code for a missing value is read as a number",
    ),
    Mutant(
        "data/sources/arrays/library_arrays.py",
        "values.astype(np.float64) * self.scale + self.offset",
        "(values.astype(np.float64) + self.offset) * self.scale",
        ("data/sources/test_array_files.py::test_packed_values_with_missing_ones",),
        "the offset is scaled, too",
    ),
    Mutant(
        "data/sources/arrays/array_gaps.py",
        "if index in found and not allow_gaps:",
        "if index in found and allow_gaps:",
        ("data/sources/test_array_files.py::test_gaps_in_a_time_coordinate",),
        "--allow-gaps means its opposite",
    ),
    Mutant(
        "data/sources/arrays/array_values.py",
        "if low < limits.min or high > limits.max:",
        "if low < limits.min:",
        ("data/sources/test_arrays.py::test_integers_that_do_not_fit",),
        "large integers wrap around",
    ),
    Mutant(
        "data/sources/arrays/array_values.py",
        "at row {top + row}, column {left + column}",
        "at row {row}, column {column}",
        ("data/sources/test_arrays.py::test_nan_is_named_with_its_place",),
        "the place of a NaN is that in the crop",
    ),
    Mutant(
        "data/sources/arrays/array_reader.py",
        "return [slice(first, last + 1, step)]",
        "return [slice(first, last, step)]",
        ("data/sources/test_arrays.py::test_runs_name_the_same_frames",),
        "the last frame of a run is left out",
    ),
    Mutant(
        "data/sources/arrays/npy_files.py",
        'return "F" if self.fortran_order else "C"',
        'return "C"',
        (
            "data/sources/test_array_files.py",
            "data/sources/test_arrays.py",
        ),
        "arrays in Fortran's order are scrambled",
    ),
    Mutant(
        "data/sources/video/video_file.py",
        "np.rot90(pixels, _quarter_turns(frame))",
        "np.rot90(pixels, -_quarter_turns(frame))",
        ("data/sources/test_video.py::test_a_rotated_video_is_turned_upright",),
        "rotated videos are turned the other way",
    ),
    Mutant(
        "data/sources/video/video_file.py",
        "if packet.size and not packet.is_discard:",
        "if packet.size:",
        ("data/sources/test_video.py::test_frames_that_an_edit_list_hides_are_not_counted",),
        "frames that an edit list hides are counted",
    ),
    Mutant(
        "data/sources/video/video_reader.py",
        "for follower in range(frame + 1, int(end)):",
        "for follower in range(frame + 1, frame + 1):",
        ("data/sources/test_video.py::test_damage_spoils_the_frames_up_to_the_next_keyframe",),
        "frames predicted from a damaged one are used",
    ),
    Mutant(
        "data/sources/video/video_reader.py",
        "if not keyframe - 1 <= stands < wanted:",
        "if not keyframe - 1 <= stands:",
        ("data/sources/test_video.py::test_any_order_gives_the_frames_of_one_pass",),
        "no going back in a video",
    ),
    Mutant(
        "data/sources/video/video_frames.py",
        "steps > GAP * video.step",
        "steps > 100 * video.step",
        ("data/sources/test_video.py::test_a_jump_in_time_is_a_gap",),
        "jumps in a video's time are no gaps",
    ),
    Mutant(
        "runs/manifest.py",
        'elif _digest(path) != expected["sha256"]:',
        'elif not expected["sha256"]:',
        ("runs/test_checkpoint.py::test_no_damage_to_any_file_is_loaded",),
        "a file's digest is not checked",
    ),
    Mutant(
        "runs/manifest.py",
        '_digest_of(contents) == parsed["sha256"] and _is_well_formed(contents)',
        "_is_well_formed(contents)",
        ("runs/test_checkpoint.py::test_the_manifest_says_what_was_saved",),
        "the manifest's own digest is not checked",
    ),
    Mutant(
        "runs/manifest.py",
        "if not (folder == str(step) and NAME in name)",
        'if not (folder == str(step) and (NAME in name or name[0] == "_"))',
        (
            "runs/test_checkpoint.py::test_no_damage_to_any_file_is_loaded",
            "runs/test_checkpoint.py::test_the_manifest_says_what_was_saved",
        ),
        "the manifest leaves out a file",
    ),
    Mutant(
        "atomic.py",
        'temporary = path.with_name(f".{path.name}.{_host()}.{os.getpid()}.tmp")',
        "temporary = path",
        (
            "plots/test_strips.py::test_a_picture_is_whole_or_not_there",
            "runs/test_checkpoint.py::test_a_full_disk_takes_no_step_that_was_saved",
        ),
        "small files are written in place",
    ),
    Mutant(
        "runs/checkpoint.py",
        "return (2, 0.0) if loss is None else (1, loss)",
        "return (2, 0.0) if loss is None else (1, -loss)",
        ("runs/test_checkpoint.py::test_the_newest_two_and_the_best_are_kept",),
        "best is the highest loss",
    ),
    Mutant(
        "runs/checkpoint.py",
        "_KEEP_LATEST = 2",
        "_KEEP_LATEST = 1",
        ("runs/test_checkpoint.py::test_the_newest_two_and_the_best_are_kept",),
        "only the newest step is kept",
    ),
    Mutant(
        "runs/checkpoint.py",
        "        if version != FORMAT_VERSION:",
        "        if version is None:",
        ("runs/test_checkpoint.py::test_another_format_is_refused",),
        "checkpoints of another format are read",
    ),
    Mutant(
        "runs/folder.py",
        "fcntl.LOCK_EX | fcntl.LOCK_NB",
        "fcntl.LOCK_SH | fcntl.LOCK_NB",
        (
            "runs/test_run_folder.py::test_a_folder_in_use_names_its_holder_and_a_dead_one_is_taken_over",
        ),
        "two processes may train in one folder",
    ),
    Mutant(
        "runs/folder.py",
        'elif record["step"] < step or (',
        'elif record["step"] >= 0 or (',
        ("runs/test_run_folder.py::test_metrics_of_steps_that_are_taken_again_are_dropped",),
        "metrics of steps that are taken again stay",
    ),
    Mutant(
        "runs/tensorboard.py",
        "self._write(step + 1, session_log=start)",
        "self._write(step, session_log=start)",
        ("runs/test_run_folder.py::test_events_hold_what_is_logged_and_hide_what_was_rewound",),
        "TensorBoard hides the step that a run goes on from",
    ),
    Mutant(
        "evaluation/predictor.py",
        "return predict_tiled(whole, inputs, tile) if tile else whole(inputs)",
        "return whole(inputs)",
        (
            "evaluation/test_predictor.py::test_a_tile_smaller_than_the_frames_is_predicted_by_itself",
        ),
        "predict without its tiles",
    ),
    Mutant(
        "evaluation/predictor.py",
        "predicted = self.values.inverse(self.predict_scaled(inputs, steps, tile), dtype)",
        "predicted = self.predict_scaled(inputs, steps, tile).astype(dtype)",
        (
            "evaluation/test_predictor.py::test_floats_are_in_the_data_s_own_units",
            "evaluation/test_predictor.py::test_prediction_is_the_modules_own",
        ),
        "predictions stay on the network's scale",
    ),
    Mutant(
        "evaluation/predictor.py",
        "state = self._advance(self.variables, *state)",
        "state = state[0], self._advance(self.variables, *state)[1]",
        ("evaluation/test_predictor.py::test_a_stream_is_the_prediction_frame_by_frame",),
        "a stream forgets its state",
    ),
    Mutant(
        "evaluation/trained_model.py",
        'if frames.dtype.kind != "f" and frames.dtype.name != values.dtype:',
        'if frames.dtype.kind not in "fui":',
        ("evaluation/test_predictor.py::test_what_does_not_fit_is_said",),
        "integers of another range are taken",
    ),
    Mutant(
        "evaluation/evaluate.py",
        'weight = float(result["weight"])',
        "weight = float(rows)",
        (
            "evaluation/test_evaluate.py::test_batches_count_by_their_valid_pixels_and_padding_is_no_window",
        ),
        "batches of few valid pixels count as much as others",
    ),
    Mutant(
        "evaluation/evaluate.py",
        "rows = int((batch.weight.reshape(len(batch.weight), -1).max(axis=1) > 0).sum())",
        "rows = len(batch.weight)",
        (
            "evaluation/test_evaluate.py::test_batches_count_by_their_valid_pixels_and_padding_is_no_window",
        ),
        "rows that only pad a batch are counted as windows",
    ),
    Mutant(
        "evaluation/classifier.py",
        "return jax.nn.softmax(logits)",
        "return logits",
        ("config/test_presets.py::test_a_classifier_trains_evaluates_and_loads[folder-classes]",),
        "a classifier's probabilities are logits",
    ),
    Mutant(
        "evaluation/compatibility.py",
        "if channels != model.channels:",
        "if channels > model.channels:",
        ("evaluation/test_evaluate.py::test_data_of_other_channels_are_refused",),
        "data of fewer channels are taken",
    ),
    Mutant(
        "evaluation/report.py",
        "            lead + first_lead,\n",
        "            lead + 1,\n",
        (
            "evaluation/test_evaluate.py::test_the_table_counts_lead_times_from_the_first_that_is_scored",
        ),
        "the table counts lead times from 1, whatever the horizon",
    ),
    Mutant(
        "evaluation/load.py",
        "step = checkpoints.choose(which)",
        'step = checkpoints.choose("last")',
        (
            "training/test_resume.py::test_early_stopping_ends_a_run_for_good_or_until_patience_grows",
        ),
        "the newest weights are loaded, not the best",
    ),
    Mutant(
        "training/optimizer.py",
        "if config.clip_norm == 0:",
        "if config.clip_norm >= 0:",
        ("training/test_optimizer.py::test_gradients_are_clipped_by_their_norm_together",),
        "gradients are not clipped",
    ),
    Mutant(
        "training/optimizer.py",
        "rise = optax.linear_schedule(peak / (warmup + 1), peak, warmup)",
        "rise = optax.linear_schedule(0.0, peak, warmup)",
        ("training/test_optimizer.py::test_the_warm_up_rises_in_a_line_and_its_first_step_moves",),
        "the first step moves nothing",
    ),
    Mutant(
        "training/optimizer.py",
        "optax.cosine_decay_schedule(peak, steps, alpha=0.01)",
        "optax.cosine_decay_schedule(peak, steps, alpha=0.1)",
        ("training/test_optimizer.py::test_cosine_goes_down_to_a_hundredth",),
        "the cosine ends at a tenth",
    ),
    Mutant(
        "training/step.py",
        "lambda ours, old: jnp.where(finite, ours, old)",
        "lambda ours, old: ours",
        ("training/test_step.py::test_a_step_that_is_not_finite_changes_no_weights",),
        "a step that is not finite is applied",
    ),
    Mutant(
        "training/step.py",
        "optax.incremental_update(params, average, 1 - decay)",
        "optax.incremental_update(params, average, decay)",
        ("training/test_step.py::test_the_moving_average_follows_the_weights",),
        "the moving average's decay and its complement exchanged",
    ),
    Mutant(
        "training/step.py",
        "lambda update: update * state.rate_scale",
        "lambda update: update",
        ("training/test_step.py::test_a_lower_rate_scale_makes_smaller_steps",),
        "a plateau does not lower the learning rate",
    ),
    Mutant(
        "training/early_stopping.py",
        "return self.waited >= self.patience",
        "return self.waited > self.patience",
        ("training/test_early_stopping.py::test_patience_by_hand",),
        "one epoch too much of patience",
    ),
    Mutant(
        "training/early_stopping.py",
        'return {**super().to_json(), "scale": self.scale}',
        "return super().to_json()",
        (
            "training/test_early_stopping.py::test_a_resumed_count_goes_on_as_if_it_had_never_stopped",
        ),
        "a plateau's scale is not saved",
    ),
    Mutant(
        "training/resume.py",
        'return state, data["next_index"], meta',
        "return state, 0, meta",
        ("training/test_resume.py::test_a_run_with_everything_goes_on_as_if_never_stopped",),
        "a resume loses the loader's position",
    ),
    Mutant(
        "training/validation.py",
        'self._patience = self._patience.restored(counted["patience"])',
        "self._patience = self._patience.restored({})",
        ("training/test_resume.py::test_a_run_with_everything_goes_on_as_if_never_stopped",),
        "a resume loses the patience",
    ),
    Mutant(
        "training/validation.py",
        'self._plateau = self._plateau.restored(counted["plateau"])',
        "self._plateau = self._plateau.restored({})",
        ("training/test_resume.py::test_a_run_with_everything_goes_on_as_if_never_stopped",),
        "a resume loses the plateau",
    ),
    Mutant(
        "training/resume.py",
        'variables = {**variables, "params": items["trained"]}',
        "variables = {**variables}",
        ("training/test_resume.py::test_a_run_with_everything_goes_on_as_if_never_stopped",),
        "a resume goes on from the averaged weights",
    ),
    Mutant(
        "training/validation.py",
        "better = self.best is None or loss < self.best[0]",
        "better = self.best is None or loss > self.best[0]",
        (
            "training/test_resume.py::test_early_stopping_ends_a_run_for_good_or_until_patience_grows",
        ),
        "the run names its worst step as the best",
    ),
    Mutant(
        "training/loop.py",
        "self.state.evaluated, self._step, self._progress.say",
        "self.state.variables, self._step, self._progress.say",
        (
            "training/test_resume.py::test_early_stopping_ends_a_run_for_good_or_until_patience_grows",
        ),
        "validation is not of the averaged weights that are saved",
    ),
    Mutant(
        "runs/manifest.py",
        'if contents.get("step") != (number := int(step.name.partition(".")[0])):',
        'if (number := int(step.name.partition(".")[0])) < 0:',
        ("runs/test_identity.py::test_a_step_is_believed_only_where_it_was_saved",),
        "a step is believed under any number",
    ),
    Mutant(
        "runs/manifest.py",
        'if run is not None and not run.owns(number, contents.get("run")):',
        'if run is not None and number in run.older and not contents.get("run"):',
        ("runs/test_identity.py::test_a_step_is_believed_only_where_it_was_saved",),
        "a step of another run is believed",
    ),
    Mutant(
        "runs/edits.py",
        "if name not in MAY_CHANGE_ON_RESUME\n    ]\n    expected",
        "if name in MAY_CHANGE_ON_RESUME\n    ]\n    expected",
        ("runs/test_identity.py::test_an_edited_configuration_is_refused_unless_asked_for",),
        "an edited configuration is believed",
    ),
    Mutant(
        "errors.py",
        "class Interrupted(BaseException):",
        "class Interrupted(Exception):",
        ("tools/test_start.py::test_while_training_a_signal_is_noted_and_is_no_exception",),
        "any handler of exceptions keeps a signal",
    ),
    Mutant(
        "nn/gpu_loops.py",
        "works = (iteration >= index) & (iteration < index + time)",
        "works = (iteration >= 0) & (iteration < index + time)",
        ("nn/test_variants.py::test_values_and_gradients_are_those_of_the_default[layers]",),
        "layers of a wavefront start before they are given anything",
    ),
    Mutant(
        "training/resume.py",
        "    if refused:\n",
        "    if len(refused) > 9:\n",
        ("tools/test_scripts.py::TestBadInput::test_resume_refuses_other_settings",),
        "a run goes on with other settings",
    ),
    Mutant(
        "training/cost.py",
        'repeats = equation.params.get("length", 1) if name == "scan" else 1',
        "repeats = 1",
        ("training/test_cost.py::test_a_loop_counts_every_iteration",),
        "a loop's operations count once",
    ),
    Mutant(
        "training/warnings.py",
        "    if reach < motion:",
        "    if reach < motion / 2:",
        ("training/test_warnings.py::test_a_network_that_sees_less_far_than_things_move",),
        "no warning where the network sees too little",
    ),
    Mutant(
        "plots/drawing.py",
        "np.rint(np.clip(np.nan_to_num(frames, nan=0.0), 0, 1) * 255)",
        "np.rint(np.nan_to_num(frames, nan=0.0) * 255)",
        (
            "plots/test_strips.py::test_strip_clips_and_marks_the_difference",
            "plots/test_strips.py::test_infinite_values_are_clipped",
        ),
        "plots do not clip",
    ),
    Mutant(
        "plots/drawing.py",
        "painted[np.isnan(frames).any(axis=-1)] = MISSING",
        "painted[np.isnan(frames).any(axis=-1)] = 0",
        ("plots/test_strips.py::test_missing_pixels_have_their_own_colour_and_a_key",),
        "missing pixels are painted as zero",
    ),
    Mutant(
        "plots/drawing.py",
        'f"t{index - count + 1:d}"',
        'f"t{index - count:d}"',
        ("plots/test_strips.py::test_last_inputs_are_shown",),
        "the last input is labelled t-1",
    ),
    Mutant(
        "plots/drawing.py",
        "return (np.clip(predictions, 0, 1) - np.clip(targets, 0, 1)).mean(axis=-1)",
        "return (np.clip(targets, 0, 1) - np.clip(predictions, 0, 1)).mean(axis=-1)",
        ("plots/test_strips.py::test_strip_clips_and_marks_the_difference",),
        "too low is red and too high is blue",
    ),
    Mutant(
        "plots/gif.py",
        "first, *others = map(",
        "*others, first = map(",
        ("plots/test_animations.py::test_animation",),
        "a clip begins with its last page",
    ),
    Mutant(
        "plots/gif.py",
        "return max(2, round(",
        "return max(1, round(",
        ("plots/test_animations.py::test_pages_are_held_as_long_as_viewers_can",),
        "pages too fast for viewers",
    ),
    Mutant(
        "plots/drawing.py",
        "return replacing(path)",
        'return Path(path).open("wb")',
        ("plots/test_strips.py::test_a_picture_is_whole_or_not_there",),
        "pictures are written in place",
    ),
    Mutant(
        "plots/animations.py",
        "yield panels.page([(future[lead], predicted), (truth[lead], true),",
        "yield panels.page([(future[lead], true), (truth[lead], predicted),",
        ("plots/test_animations.py::test_animation",),
        "prediction and truth exchanged",
    ),
    Mutant(
        "plots/animations.py",
        "INITIAL if step < given else PREDICTION",
        "INITIAL if step <= given else PREDICTION",
        ("plots/test_animations.py::test_step_pictures",),
        "the first prediction is marked as given",
    ),
    Mutant(
        "plots/drawing.py",
        "return np.rint(np.clip(np.nan_to_num(frames, nan=0.0), 0, 1) * 255).astype(np.uint8)",
        "return (np.clip(np.nan_to_num(frames, nan=0.0), 0, 1) * 255).astype(np.uint8)",
        ("plots/test_strips.py::test_decoded_and_raw_are_the_pixels_alone",),
        "pixels are rounded down",
    ),
    Mutant(
        "plots/score_curves.py",
        "leads = range(first_lead, first_lead + len(scores.get(key, ())))",
        "leads = range(len(scores.get(key, ())))",
        ("plots/test_score_curves.py::test_curves_of_many_scores",),
        "lead times are counted from 0",
    ),
    Mutant(
        "plots/confusion_matrix.py",
        "panel.imshow(fractions,",
        "panel.imshow(fractions.T,",
        ("plots/test_score_curves.py::test_confusion",),
        "true and predicted class exchanged",
    ),
    Mutant(
        "plots/class_strips.py",
        "if predicted == truth:",
        "if predicted != truth:",
        ("plots/test_class_strips.py::test_right_is_green_and_wrong_is_red",),
        "right is red and wrong is green",
    ),
    Mutant(
        "plots/mp4.py",
        "frame.pts, frame.time_base = number, Fraction(hundredths, 100)",
        "frame.pts, frame.time_base = number, Fraction(1, 100)",
        ("plots/test_animations.py::test_mp4_shows_the_same_pages",),
        "a clip plays too fast",
    ),
    Mutant(
        "tools/cli.py",
        "code = error.exit_code",
        "code = 1",
        ("tools/test_scripts.py::TestBadInput::test_unknown_flag",),
        "every error has exit code 1",
    ),
    Mutant(
        "tools/eval.py",
        "split=read_split(parsed.run) if is_own else None,",
        "split=None,",
        ("tools/test_scripts.py::test_the_test_split_is_the_one_that_the_run_has_recorded",),
        "evaluation divides the data anew",
    ),
    Mutant(
        "tools/eval.py",
        'part = parsed.part or ("test" if own_or_made else "all")',
        'part = parsed.part or ("val" if own_or_made else "all")',
        ("tools/test_scripts.py::test_the_test_split_is_the_one_that_the_run_has_recorded",),
        "the validation split is scored as if it were the test split",
    ),
    Mutant(
        "tools/train.py",
        'training, supervise="targets", sampling="free", sampling_steps=None',
        'training, sampling="free", sampling_steps=None',
        ("config/test_config.py::test_another_model_keeps_no_feeding_back_that_it_cannot_have",),
        "another model keeps a setting that it cannot have",
    ),
    Mutant(
        "tools/verify.py",
        "    if damaged:",
        "    if damaged > 1:",
        ("runs/test_checkpoint.py::test_verify_names_the_state_of_every_step",),
        "one damaged step is no failure",
    ),
    Mutant(
        "tools/pathlist.py",
        "--input-frames {parsed.length - 1} --target-frames 1",
        "--input-frames {parsed.length} --target-frames 1",
        ("tools/test_inspection.py::TestFolders::test_path_list",),
        "the proposed command needs a frame too many",
    ),
    Mutant(
        "tools/inspect/warnings.py",
        "    if survey.equal:",
        "    if survey.equal > survey.pairs:",
        ("tools/test_inspection.py::TestWarnings::test_constant_and_repeated_frames",),
        "no warning of repeated frames",
    ),
    Mutant(
        "tools/inspect/warnings.py",
        "if survey.outside > 0.01 * survey.valid:",
        "if survey.outside > survey.valid:",
        ("tools/test_inspection.py::TestWarnings::test_values_outside_the_range",),
        "no warning of values outside the range",
    ),
    Mutant(
        "tools/inspect/survey.py",
        "inputs, valid = inputs[-1:], valid[-1:]",
        "inputs, valid = inputs[:1], valid[:1]",
        ("tools/test_inspection.py::TestPersistence::test_equals_what_evaluation_counts",),
        "persistence repeats the first frame",
    ),
    Mutant(
        "tools/inspect/main.py",
        "if given.resolve().is_relative_to(place):",
        "if given.resolve() == place:",
        ("tools/test_inspection.py::TestFlags::test_pictures_never_land_in_the_data",),
        "pictures land among the data",
    ),
    Mutant(
        "tools/inspect/main.py",
        "enumerate(zip(mse, mae), start=horizon)",
        "enumerate(zip(mse, mae), start=1)",
        ("tools/test_inspection.py::TestFolders::test_lead_times_are_counted_from_the_horizon",),
        "lead times are counted from 1, whatever the horizon",
    ),
    Mutant(
        "tools/inspect/pictures.py",
        "numbers = range(start + int(first), min(start + int(first) + span, stop), step)",
        "numbers = range(start, min(start + span, stop), step)",
        ("tools/test_inspection.py::TestPictures::test_rows_come_from_all_over_the_data",),
        "all rows show the start of a sequence",
    ),
    Mutant(
        "scale.py",
        "np.expm1(np.abs(values))",
        "np.exp(np.abs(values))",
        ("test_scale.py::test_every_integer_comes_back_exactly",),
        "the inverse of the logarithm is off by 1",
    ),
    Mutant(
        "scale.py",
        "return scaled * std + mean",
        "return scaled * std",
        (
            "test_scale.py",
            "test_task.py::test_scores_are_on_the_value_range_whatever_the_networks_scale",
        ),
        "the mean is not added back",
    ),
    Mutant(
        "scale.py",
        ".where(valid, scaled, np.float32(0))",
        ".where(valid, scaled, scaled)",
        ("test_scale.py::test_missing_values_and_nan_become_zero_and_are_not_valid",),
        "missing values reach the network",
    ),
    Mutant(
        "scale.py",
        "np.where(below, missing - 1, missing + 1)",
        "np.where(below, missing, missing + 1)",
        ("test_scale.py::test_a_prediction_never_is_the_code_for_missing",),
        "a prediction may be the code for missing",
    ),
    Mutant(
        "task.py",
        "repeated = jnp.repeat(last[:, -1:],",
        "repeated = jnp.repeat(last[:, :1],",
        (
            "test_task.py::test_persistence_stands_beside_the_model",
            "test_task.py::test_persistence_of_every_frame_is_the_frame_before",
        ),
        "persistence repeats the first frame",
    ),
    Mutant(
        "metrics/persistence.py",
        "inputs[..., time, :, :, :], newest)",
        "inputs[..., time, :, :, :], inputs[..., 0, :, :, :])",
        ("test_task.py::test_persistence_repeats_the_last_value_that_was_there",),
        "persistence repeats the first value where the last is missing",
    ),
    Mutant(
        "task.py",
        "predictions = predictions[:, -targets.shape[1] :]\n        last = inputs",
        "predictions = predictions[:, : targets.shape[1]]\n        last = inputs",
        ("test_task.py::test_the_horizon_is_predicted_through_and_not_scored",),
        "the lead times before the horizon are scored",
    ),
    Mutant(
        "task.py",
        "weight = weight * values.valid(batch.targets)",
        "weight = weight * values.valid(batch.targets).max()",
        ("test_task.py::test_missing_pixels_count_neither_as_zero_nor_in_the_loss",),
        "missing pixels count in the loss",
    ),
    Mutant(
        "memory.py",
        "(_MMAP_MAX, 0)",
        "(_MMAP_MAX, 65536)",
        ("test_memory.py::test_pages_are_used_again",),
        "freed memory goes back to the system",
    ),
    Mutant(
        "errors.py",
        "self.exit_code = 128 + signal_number",
        "self.exit_code = 128",
        ("training/test_resume.py::test_a_run_with_everything_goes_on_as_if_never_stopped",),
        "the exit code does not tell the signal",
    ),
    Mutant(
        "errors.py",
        "exit_code = 3",
        "exit_code = 2",
        ("tools/test_scripts.py::TestBadInput::test_missing_folder",),
        "bad data have the exit code of a bad flag",
    ),
    Mutant(
        "messages.py",
        "c if c.isprintable() else ascii(c)[1:-1] for c in text",
        "c for c in text",
        ("data/sources/test_image_folder.py::test_printable_is_one_line",),
        "a file's name can break a line",
    ),
    Mutant(
        "data/sources/arrays/radar_hdf5.py",
        'offset=_number(what.get("offset"), 0.0)',
        "offset=0.0",
        ("data/sources/test_radar_hdf5.py::test_odim_gain_offset_and_codes",),
        "the offset of ODIM is not applied",
    ),
    Mutant(
        "data/sources/arrays/radar_hdf5.py",
        "codes=() if undetect is None or undetect == nodata else ((undetect, nothing),)",
        "codes=()",
        ("data/sources/test_radar_hdf5.py::test_odim_gain_offset_and_codes",),
        "undetect is a measurement",
    ),
    Mutant(
        "data/sources/arrays/radar_hdf5.py",
        '"missing_data", "out_of_image"',
        '"missing_data",',
        ("data/sources/test_radar_hdf5.py::test_knmi_formula_and_codes",),
        "what is out of KNMI's image is a measurement",
    ),
    Mutant(
        "data/sources/images/products.py",
        "values[:2], values[255] = 0, np.nan",
        "values[:1], values[255] = 0, np.nan",
        ("data/sources/test_products.py::test_swiss_rain",),
        "no rain is a little rain",
    ),
    Mutant(
        "training/signals.py",
        "heeded = [n for n in may_be_ignored if",
        "heeded = [n for n in () if",
        ("tools/test_start.py::test_no_handler_of_exceptions_keeps_a_signal",),
        "a closed terminal kills without a word",
    ),
    Mutant(
        "runs/folder.py",
        "found is None or not os.path.samestat",
        "found is not None and not os.path.samestat",
        ("runs/test_identity.py::test_a_run_folder_that_is_moved_ends_the_run",),
        "a run folder that is moved away is not noticed",
    ),
    Mutant(
        "spread.py",
        "np.linspace(0, count - 1, min(count, most))",
        "np.linspace(0, count - 1, min(count, most), endpoint=False)",
        ("plots/test_class_strips.py::test_frames_are_spread_over_each_clip",),
        "the last of many is never shown",
    ),
    Mutant(
        "checks.py",
        "if len(values) == 1:",
        "if len(values) <= layers:",
        (
            "config/test_config.py::test_what_cannot_work_is_refused",
            "models/test_contract.py::test_inputs_that_do_not_fit_are_refused_in_one_line[frame-predictor]",
        ),
        "too few values for the layers are repeated",
    ),
]


class Outcome(NamedTuple):
    """The outcome of a mutant."""

    mutant: Mutant
    caught: bool
    seconds: float


class Copy:
    """A copy of the repository, in which faults are planted and tests are run.

    Attributes:
      root: its folder.
      broken: ids of tests that fail without any fault, which are left out.
    """

    def __init__(self, folder: Path):
        """Copy the repository's files to a new folder in `folder`."""
        self.root, self.broken = folder / "repository", list[str]()
        listed = ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
        for name in subprocess.check_output(listed, cwd=ROOT, text=True).split("\0"):
            if (ROOT / name).is_file():
                target = self.root / name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, target)
        if (ROOT.parent / "shared").is_dir():  # real clips, which some tests read if they are there
            (folder / "shared").symlink_to((ROOT.parent / "shared").resolve())
        # Also for the scripts that tests start.
        os.environ["PYTHONPATH"] = str(self.root)
        # Two texts of one length, written in the same second, would share their bytecode.
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
        sys.dont_write_bytecode = True
        look = (sys.executable, "-c", f"import {PACKAGE}; print({PACKAGE}.__file__)")
        found = subprocess.check_output(look, cwd=self.root, text=True)
        if not Path(found.strip()).is_relative_to(self.root):
            fail(f"tests would run {found.strip()}, not the copy in {self.root}")

    def check(self, tests: set[str]) -> None:
        """Run tests without a fault; those that fail are named and left out from then on."""
        for exact in (False, True):
            chosen = sorted(test for test in tests if ("::" in test) == exact)
            if not chosen:
                continue
            code, output = self._pytest(chosen, math.inf)
            if code not in (0, 1):
                fail(f"pytest ended with code {code}:\n{output[-3000:]}")
            lines = output.splitlines()
            starts = ("FAILED ", "ERROR ")
            self.broken += [
                line.split(" ", 1)[1].split(" - ")[0] for line in lines if line.startswith(starts)
            ]
        for test in self.broken:
            print(f"fails without any fault, and is left out: {test}", flush=True)

    def plant(self, mutant: Mutant) -> bool:
        """Return whether a test catches the mutant; the file is restored afterwards."""
        file = self.root / PACKAGE / mutant.path
        text = file.read_text(encoding="utf-8")
        file.write_text(mutated(text, mutant), encoding="utf-8")
        try:
            for exact in (False, True):
                chosen = [test for test in mutant.tests if ("::" in test) == exact]
                code, output = self._pytest(chosen, SECONDS, "-x") if chosen else (0, "")
                if code == 1:
                    return True
                # 5: the tests that were to be run are all left out, as broken.
                if code not in (0, 5):
                    fail(f"{mutant.path}: {mutant.why}: code {code}:\n{output[-3000:]}")
            return False
        finally:
            file.write_text(text, encoding="utf-8")

    def _pytest(self, tests: list[str], seconds: float, *flags: str) -> tuple[int, str]:
        """Return exit code and output of pytest; code 1, a failure, where it takes too long."""
        # Slow tests are run only where they are named.
        slow = ("-m", "") if "::" in tests[0] else ()
        left_out = [f"--deselect={test}" for test in self.broken]
        options = ["-q", "-n0", "-p", "no:cacheprovider", *slow, *flags, *left_out]
        with tempfile.TemporaryFile("w+", errors="replace") as output:
            sys.stdout.flush()
            process = os.fork()
            if process == 0:
                try:
                    os.setsid()
                    os.dup2(output.fileno(), 1), os.dup2(output.fileno(), 2)
                    os.chdir(self.root)
                    sys.path.insert(0, str(self.root))
                    # Of what is imported already, pytest would say that it comes too late.
                    quiet = ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
                    code = pytest.main([*options, *quiet, *(f"tests/{test}" for test in tests)])
                    sys.stdout.flush()
                    os._exit(code)
                finally:
                    os._exit(70)
            code, end = None, time.monotonic() + seconds
            try:
                while code is None and time.monotonic() < end:
                    time.sleep(0.05)
                    found, status = os.waitpid(process, os.WNOHANG)
                    code = os.waitstatus_to_exitcode(status) if found else None
            finally:
                if code is None:
                    os.kill(process, signal.SIGKILL)
                    os.waitpid(process, 0)
                # What the tests have started, and not ended.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process, signal.SIGKILL)
            output.seek(0)
            return 1 if code is None else code, output.read()


def mutated(text: str, mutant: Mutant) -> str:
    """Plant a mutant in the text of its file; the result has to be valid Python."""
    place = f"{mutant.path}: {mutant.why}"
    if (count := text.count(mutant.before)) != 1:
        fail(f"{place}: its text is there {count} times, not once: {mutant.before!r}")
    text = text.replace(mutant.before, mutant.after)
    try:
        compile(text, mutant.path, "exec")
    except SyntaxError as error:
        fail(f"{place}: no Python: {error}")
    return text


def check_exists(mutant: Mutant, test: str) -> None:
    """End the run unless a test's file holds the names in its id."""
    file, *names = test.partition("[")[0].split("::")
    path = ROOT / "tests" / file
    text = path.read_text(encoding="utf-8") if path.is_file() else None
    if text is None or not all(re.search(rf"(def|class) {name}\b", text) for name in names):
        fail(f"{mutant.path}: {mutant.why}: there is no tests/{test}")


def table(outcomes: list[Outcome]) -> str:
    """Count the mutants caught in each folder, as a table in Markdown."""
    caught = Counter(outcome.mutant.folder for outcome in outcomes if outcome.caught)
    survived = Counter(outcome.mutant.folder for outcome in outcomes if not outcome.caught)
    lines = ["| folder | mutants | caught | survived |", "|---|---:|---:|---:|"]
    for folder in dict.fromkeys(outcome.mutant.folder for outcome in outcomes):
        ours = caught[folder], survived[folder]
        lines.append(f"| {folder} | {sum(ours)} | {ours[0]} | {ours[1]} |")
    total = caught.total(), survived.total()
    return "\n".join([*lines, f"| total | {sum(total)} | {total[0]} | {total[1]} |"])


def write_json(path: Path, outcomes: list[Outcome], broken: list[str]) -> None:
    """Write the outcome of every mutant, and the tests that failed without any."""
    mutants = [
        {**mutant._asdict(), "folder": mutant.folder, "caught": caught, "seconds": round(seconds)}
        for mutant, caught, seconds in outcomes
    ]
    caught = sum(outcome.caught for outcome in outcomes)
    scores = {"caught": caught, "survived": len(outcomes) - caught, "broken_tests": broken}
    path.write_text(json.dumps({**scores, "mutants": mutants}, indent=1) + "\n", encoding="utf-8")


def fail(message: str) -> NoReturn:
    """End the run as invalid."""
    print(f"error: {message}", file=sys.stderr, flush=True)
    sys.exit(2)


def main() -> None:
    """Read the flags, plant the mutants and report the outcomes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default="", metavar="TEXT", help="those that hold this text")
    parser.add_argument("--list", action="store_true", help="name them, and run nothing")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the outcome")
    arguments = parser.parse_args()
    chosen = [m for m in MUTANTS if arguments.only in f"{m.path}: {m.why} {' '.join(m.tests)}"]
    if not chosen:
        fail(f"no mutant holds {arguments.only!r}")
    tests = {test for mutant in chosen for test in mutant.tests}
    for mutant in chosen:
        mutated((ROOT / PACKAGE / mutant.path).read_text(encoding="utf-8"), mutant)
        for test in mutant.tests:
            check_exists(mutant, test)
        if arguments.list:
            print(f"{mutant.path}: {mutant.why}")
    if arguments.list:
        print(f"{len(chosen)} mutants")
        return
    # What is compiled for the programs that no fault has changed, the next run loads.
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(ROOT / ".pytest_cache" / "xla")
    runpy.run_path(str(ROOT / "tests" / "conftest.py"))  # JAX, set up as the tests do
    for name in LIBRARIES:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    outcomes = []
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copy = Copy(Path(folder))
        copy.check(tests)
        for mutant in chosen:
            began = time.monotonic()
            caught = copy.plant(mutant)
            outcomes.append(Outcome(mutant, caught, time.monotonic() - began))
            word = "caught  " if caught else "SURVIVED"
            print(f"{word}  {mutant.path}: {mutant.why} ({outcomes[-1].seconds:.0f} s)", flush=True)
            if arguments.json:  # each time, lest an interrupted run leaves nothing
                write_json(arguments.json, outcomes, copy.broken)
    print(f"\n{table(outcomes)}")
    sys.exit(any(not outcome.caught for outcome in outcomes))


if __name__ == "__main__":
    main()
