"""Classification of clips: the loss, and scores that are exact over padded batches."""

from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from jaxconvlstm.checks import check_rank

CLASS_DEFINITIONS = {
    "cross_entropy": (
        "Minus the logarithm of the probability of the true class, mean over clips; nats, from 0, "
        "lower is better."
    ),
    "accuracy": (
        "Fraction of clips whose most probable class is the true one; no unit, 0 to 1, higher is "
        "better."
    ),
    "balanced_accuracy": (
        "Accuracy among the clips of each class, then the mean over the classes that there are "
        "clips of, so that a frequent class counts no more than a rare one; no unit, 0 to 1, "
        "higher is better."
    ),
    "confusion": "Number of clips by true class (rows) and most probable class (columns).",
}

AnyArray = Array | np.ndarray
Logits = Float[AnyArray, "batch classes"]
Labels = Int[AnyArray, "batch"]
Weight = Float[AnyArray, "batch"]


def cross_entropy(logits: Logits, labels: Labels, weight: Weight) -> Float[Array, "batch"]:
    """Compute the cross-entropy of each example: `-log(softmax(logits)[label])`.

    Args:
      logits: `[batch, classes]`.
      labels: `[batch]`, integers from 0 to below the number of classes.
      weight: `[batch]`, 0 or more; an example of weight 0 is ignored.

    Returns:
      `[batch]`, float32, nats, from 0; 0 where the weight is. Its mean over a batch is
      `losses.masked_mean` with the same weight.
    """
    check_rank("logits", logits, 2, "batch, classes")
    there = jnp.asarray(weight) > 0
    # Masked before the loss, not after it: 0 times NaN is NaN, in the gradient too.
    logits = jnp.where(there[:, None], logits, 0).astype(jnp.float32)
    losses = optax.losses.softmax_cross_entropy_with_integer_labels(
        logits, jnp.where(there, labels, 0)
    )
    return jnp.where(there, losses, 0)


def class_scores(logits: Logits, labels: Labels, weight: Weight) -> dict[str, Array]:
    """Sum scores over the examples of a batch whose weight is above 0, for `ClassSums.add`.

    Args:
      logits, labels, weight: see `cross_entropy`.

    Returns:
      `cross_entropy`: float32 scalar; `confusion`: int32 `[classes, classes]`, number of examples
      by true and most probable class.
    """
    classes = logits.shape[1]
    there = jnp.asarray(weight) > 0
    # Sums of integers, as a float32 stops counting at 2**24; rows that pad a batch add 0.
    confusion = jnp.zeros((classes, classes), jnp.int32)
    return {
        "cross_entropy": jnp.sum(cross_entropy(logits, labels, weight)),
        "confusion": confusion.at[labels, jnp.argmax(logits, axis=1)].add(there.astype(jnp.int32)),
    }


class ClassSums:
    """Scores of classes over a data set, exact however it is cut into batches.

    Attributes:
      confusion: `[classes, classes]`, int64: examples by true class (rows) and most probable class
        (columns).

    Example:
      >>> sums = ClassSums(2)
      >>> sums.add({"cross_entropy": 2.0, "confusion": [[3, 0], [1, 0]]})
      >>> sums.means()
      {'cross_entropy': 0.5, 'accuracy': 0.75, 'balanced_accuracy': 0.5}
    """

    def __init__(self, classes: int) -> None:
        """`classes`: number of classes."""
        self.confusion = np.zeros((classes, classes), np.int64)
        self._cross_entropy = 0.0

    def add(self, scores: Mapping[str, Array | np.ndarray]) -> None:
        """Add the scores of a batch, which `class_scores` gives."""
        self.confusion += np.asarray(scores["confusion"])
        self._cross_entropy += float(scores["cross_entropy"])

    def means(self) -> dict[str, float]:
        """Compute scores over all examples, as in `CLASS_DEFINITIONS`; NaN if there were none."""
        clips = self.confusion.sum(axis=1)
        right = self.confusion.diagonal()
        if not clips.any():
            return dict.fromkeys(("cross_entropy", "accuracy", "balanced_accuracy"), float("nan"))
        occurs = clips > 0  # a class without clips has no accuracy
        return {
            "cross_entropy": self._cross_entropy / int(clips.sum()),
            "accuracy": float(right.sum() / clips.sum()),
            "balanced_accuracy": float((right[occurs] / clips[occurs]).mean()),
        }

    def baseline(self) -> dict[str, float]:
        """Compute the same scores of always naming the most frequent class.

        Its probabilities are the classes' frequencies among these very examples, so that no other
        constant prediction can score better.
        """
        clips = self.confusion.sum(axis=1)
        if not clips.any():
            return self.means()
        frequency = clips[clips > 0] / clips.sum()
        return {
            # Their entropy, which no other constant probabilities can fall below.
            "cross_entropy": float((frequency * np.log(1 / frequency)).sum()),
            "accuracy": float(frequency.max()),
            "balanced_accuracy": float(1 / len(frequency)),  # all of one class, none of the others
        }
