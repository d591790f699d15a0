"""The encoding-forecasting network of Shi et al. 2015."""

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array

from jaxconvlstm.checks import check_positive
from jaxconvlstm.models.forecaster import Forecast, Forecaster, States
from jaxconvlstm.nn.conv import Conv, depth_to_space, space_to_depth
from jaxconvlstm.nn.conv_lstm import run_layers
from jaxconvlstm.nn.encoder_decoder import pad_to_multiple


class EncoderForecaster(Forecaster):
    """Encoder-forecaster: predicts any number of frames from the encoder's last states.

        frame -> patches -> encoder layer 0 -> encoder layer 1 -> ...
                                 | (last state)     |
                            forecaster layer 0 -> forecaster layer 1 -> ...
                                 |__________________|______________ 1x1 convolution -> frame

    All layers work on patches: `patch_size` x `patch_size` pixels become the channels of one. The
    lowest forecaster layer reads nothing, the others read the layer below, and the hidden states
    of all of them together make the frame.

    Attributes:
      patch_size: side of a patch. Frames whose sides it does not divide are padded with their
        edge, and the prediction is cropped.
      Others: see `Forecaster`. The defaults are the published network for Moving MNIST, of
        7,585,296 parameters: with peepholes of one weight per channel, as this number tells.

    References:
      Shi et al. 2015, "Convolutional LSTM Network: A Machine Learning Approach for Precipitation
      Nowcasting", section 3.2, figure 3; section 4.1 for patches and sizes; table 1.
    """

    features: Sequence[int] = (128, 64, 64)
    peephole: str | None = "channel"
    patch_size: int = 4

    def setup(self) -> None:
        check_positive("patch_size", self.patch_size)
        self.encoder = self._stack("encoder")
        self.forecaster = self._stack("forecaster", without_input=0)
        self.head = Conv(self.channels * self.patch_size**2, (1, 1), dtype=self.dtype, name="head")

    def encode(self, inputs: Array, train: bool) -> States:
        """See `Forecaster.encode`."""
        # [batch, time, height / patch, width / patch, channels * patch**2]
        hidden = space_to_depth(pad_to_multiple(inputs, self.patch_size), self.patch_size)
        states, _ = run_layers(self.encoder, hidden, train)
        return tuple(states)  # each for the forecaster's layer of the same level

    def forecast(self, states: States, steps: int, train: bool) -> Forecast:
        """See `Forecaster.forecast`."""
        last, hidden = self.forecaster[0].unroll(states[0], steps, train)
        after, outputs = [last], [hidden]
        for layer, state in zip(self.forecaster[1:], states[1:]):
            last, hidden = layer(outputs[-1], state, return_carry=True, train=train)
            after.append(last)
            outputs.append(hidden)
        # All layers' states make the frame, not only the highest one's: section 3.2.
        patches = self.head(jnp.concatenate(outputs, axis=-1))
        return tuple(after), depth_to_space(patches, self.patch_size)
