"""Classes: the loss and the scores are what NumPy makes of single examples, however batched."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxconvlstm.errors import ConfigError
from jaxconvlstm.metrics.class_scores import (
    CLASS_DEFINITIONS,
    ClassSums,
    class_scores,
    cross_entropy,
)
from jaxconvlstm.metrics.losses import masked_mean

CLASSES = 4
SCORES, LOSSES = jax.jit(class_scores), jax.jit(cross_entropy)


def examples(count: int = 11) -> tuple[np.ndarray, np.ndarray]:
    """Logits `[count, 4]` and labels, of the classes 0, 1 and 3 only and unevenly."""
    generator = np.random.default_rng(3)
    labels = generator.choice([0, 1, 3], count, p=[0.6, 0.2, 0.2]).astype(np.int32)
    logits = generator.normal(0, 3, (count, CLASSES)).astype(np.float32)
    logits[np.arange(count), labels] += 2
    return logits, labels


def reference(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Cross-entropy of each example, float64."""
    logits = logits.astype(np.float64)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return -np.log(probabilities[np.arange(len(labels)), labels])


def summed(logits: np.ndarray, labels: np.ndarray, batch_size: int) -> ClassSums:
    """Scores in batches of `batch_size`, of which the last is filled up with rows that are NaN."""
    sums = ClassSums(CLASSES)
    for start in range(0, len(labels), batch_size):
        rows = slice(start, start + batch_size)
        padding = batch_size - len(labels[rows])
        sums.add(
            SCORES(
                np.pad(logits[rows], ((0, padding), (0, 0)), constant_values=np.nan),
                np.pad(labels[rows], (0, padding)),
                np.pad(np.ones(len(labels[rows]), np.float32), (0, padding)),
            )
        )
    return sums


def test_cross_entropy_equals_its_formula() -> None:
    logits, labels = examples()
    losses = LOSSES(logits, labels, np.ones(11, np.float32))
    np.testing.assert_allclose(losses, reference(logits, labels), rtol=1e-5)


def test_known_values() -> None:
    """By hand: four equal logits, ln 4; a hundred ahead, nothing; a hundred behind, 100."""
    logits = np.array([[0, 0, 0, 0], [100, 0, 0, 0], [100, 0, 0, 0]], np.float32)
    losses = LOSSES(logits, np.array([2, 0, 1], np.int32), np.ones(3, np.float32))
    np.testing.assert_allclose(losses, [np.log(4), 0, 100], rtol=1e-6)


def test_gradient_is_softmax_minus_truth() -> None:
    logits, labels = examples()
    weight = (np.arange(11) != 5).astype(np.float32)

    def loss(values: jax.Array) -> jax.Array:
        return masked_mean(cross_entropy(values, labels, weight), weight)

    exponentials = np.exp(logits.astype(np.float64))
    softmax = exponentials / exponentials.sum(axis=1, keepdims=True)
    expected = (softmax - np.eye(CLASSES)[labels]) * weight[:, None] / 10
    logits[5] = np.nan
    gradient = jax.jit(jax.grad(loss))(logits)
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-7)


def test_narrow_logits_give_float32() -> None:
    logits, labels = examples()
    narrow = jnp.asarray(logits, jnp.bfloat16)
    losses = LOSSES(narrow, labels, np.ones(11, np.float32))
    assert losses.dtype == jnp.float32
    np.testing.assert_allclose(losses, reference(np.asarray(narrow, np.float32), labels), rtol=1e-5)


@pytest.mark.parametrize("batch_size", [11, 4, 1])
def test_scores_do_not_depend_on_the_batches(batch_size: int) -> None:
    logits, labels = examples()
    sums = summed(logits, labels, batch_size)
    predicted = logits.argmax(axis=1)
    confusion = np.array(
        [[((labels == i) & (predicted == j)).sum() for j in range(4)] for i in range(4)]
    )
    np.testing.assert_array_equal(sums.confusion, confusion)
    assert 0 < np.trace(confusion) < 11 and sums.confusion.dtype == np.int64
    recalls = [(predicted[labels == label] == label).mean() for label in (0, 1, 3)]
    expected = {
        "cross_entropy": reference(logits, labels).mean(),
        "accuracy": (predicted == labels).mean(),
        "balanced_accuracy": np.mean(recalls),
    }
    means = sums.means()
    assert means.keys() == expected.keys()
    for key, value in expected.items():
        np.testing.assert_allclose(means[key], value, rtol=1e-5, err_msg=key)


def test_all_right_and_all_wrong() -> None:
    labels = np.array([0, 1, 2, 3, 3], np.int32)
    right = summed(100 * np.eye(CLASSES, dtype=np.float32)[labels], labels, 5)
    assert right.means() == {"cross_entropy": 0, "accuracy": 1, "balanced_accuracy": 1}
    wrong = summed(-100 * np.eye(CLASSES, dtype=np.float32)[labels], labels, 5).means()
    assert wrong["accuracy"] == wrong["balanced_accuracy"] == 0 and wrong["cross_entropy"] > 100


def test_baseline_scores_as_a_model_that_knows_the_frequencies() -> None:
    """Naming class 3 and knowing the frequencies 1/4, 1/4, 1/2: scored as a model would be."""
    labels = np.array([0, 1, 3, 3] * 3, np.int32)
    logits = np.log(np.array([[0.25, 0.25, 1e-30, 0.5]], np.float32)).repeat(12, axis=0)
    sums = summed(logits, labels, 5)
    for key, value in sums.means().items():
        np.testing.assert_allclose(sums.baseline()[key], value, rtol=1e-6, err_msg=key)
    assert sums.baseline()["accuracy"] == 0.5
    assert sums.baseline()["balanced_accuracy"] == 1 / 3


def test_nothing_counted_is_not_a_number() -> None:
    logits, labels = examples()
    sums = ClassSums(CLASSES)
    sums.add(SCORES(logits * np.nan, labels, np.zeros(11, np.float32)))
    assert not sums.confusion.any()
    assert np.isnan([*sums.means().values(), *sums.baseline().values()]).all()


def test_every_score_is_defined() -> None:
    assert set(CLASS_DEFINITIONS) == {*ClassSums(2).means(), "confusion"}


def test_bad_logits_are_named(as_user: None) -> None:
    with pytest.raises(ConfigError, match="logits: expected 2 axes"):
        cross_entropy(jnp.zeros(3), jnp.zeros(3, jnp.int32), jnp.ones(3))
