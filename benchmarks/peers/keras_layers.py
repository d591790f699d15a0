"""Keras's own ConvLSTM2D, on the backend that the environment names (KERAS_BACKEND)."""

import keras
import numpy as np
from keras import layers

from peers import WORKS, Peer

MODES = ("tensorflow", "torch", "jax")


def build(work: str, mode: str, batch: int, dtype: str, forecast: bool) -> Peer:
    """The keras.io example as in its article; the worker has set the backend to `mode`."""
    if work != "keras-example" or forecast or dtype != "float32":
        raise NotImplementedError("Keras is there for training of the keras.io example, in float32")
    shape = (None, *WORKS[work].frame)
    inputs = layers.Input(shape)
    hidden = inputs
    for index, size in enumerate((5, 3, 1)):
        hidden = layers.ConvLSTM2D(
            64, (size, size), padding="same", return_sequences=True, activation="relu"
        )(hidden)
        if index < 2:
            hidden = layers.BatchNormalization()(hidden)
    outputs = layers.Conv3D(1, (3, 3, 3), activation="sigmoid", padding="same")(hidden)
    model = keras.Model(inputs, outputs)
    model.compile(loss="binary_crossentropy", optimizer="adam")
    clips = np.random.default_rng(0).random((batch, WORKS[work].given, *shape[1:]), np.float32)

    def run(count: int) -> None:
        for _ in range(count):
            model.train_on_batch(clips, clips)  # returns the loss, so it waits for the step to end

    parameters = sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
    return Peer(run, parameters, {"versions": {"keras": keras.__version__, **_backend(mode)}})


def _backend(mode: str) -> dict[str, str]:
    module = __import__(mode)
    return {mode: module.__version__}
