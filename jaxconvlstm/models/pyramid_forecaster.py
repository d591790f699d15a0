"""The encoding-forecasting network with maps of several sizes (Shi et al. 2017)."""

from collections.abc import Sequence

from flax import linen as nn
from jaxtyping import Array

from jaxconvlstm.models.forecaster import Forecast, Forecaster, States
from jaxconvlstm.nn.conv import Conv, ConvTranspose
from jaxconvlstm.nn.encoder_decoder import pad_to_multiple


class PyramidForecaster(Forecaster):
    """Encoder-forecaster whose maps are halved from level to level.

        frame -> convolution -> encoder layer 0 -> halved -> encoder layer 1 -> halved -> ...
                                     | (last state)               |
        frame <- convolution <- forecaster layer 0 <- doubled <- forecaster layer 1 <- doubled ...

    The form that Shi et al. 2015 has in most PyTorch implementations: each level's maps have half
    the height and width of the level below. The highest forecaster layer reads nothing, the others
    read the level above. Convolutions between the layers have leaky ReLUs of slope 0.2: 3x3 next
    to the frame, with a fourth of the lowest level's features, and 4x4 where maps are halved
    (usually 3x3, but an even kernel weighs all pixels alike at stride 2) or doubled.

    Attributes:
      See `Forecaster`. Frames whose sides `2 ** (levels - 1)` does not divide are padded with their
      edge, and the prediction is cropped.

    References:
      Shi et al. 2015, "Convolutional LSTM Network: A Machine Learning Approach for Precipitation
      Nowcasting", section 3.2; Shi et al. 2017, "Deep Learning for Precipitation Nowcasting: A
      Benchmark and A New Model", section 3.1, for the levels and the order of the forecaster.
    """

    features: Sequence[int] = (64, 96, 96)

    def setup(self) -> None:
        width = max(8, self.features[0] // 4)  # at full size, where convolutions cost most
        self.stem = Conv(width, (3, 3), dtype=self.dtype, name="stem")
        self.halve = [
            Conv(features, (4, 4), stride=2, dtype=self.dtype, name=f"halve_{level}")
            for level, features in enumerate(self.features[:-1])
        ]
        self.encoder = self._stack("encoder")
        self.forecaster = self._stack("forecaster", without_input=len(self.features) - 1)
        self.double = [
            ConvTranspose(features, dtype=self.dtype, name=f"double_{level}")
            for level, features in enumerate(self.features[1:])
        ]
        self.narrow = Conv(width, (3, 3), dtype=self.dtype, name="narrow")
        self.head = Conv(self.channels, (1, 1), dtype=self.dtype, name="head")

    def encode(self, inputs: Array, train: bool) -> States:
        """See `Forecaster.encode`."""
        # Halved at each level but the lowest, so that doubling gives the same sizes again.
        maps = pad_to_multiple(inputs, 2 ** (len(self.features) - 1))
        states = []
        for convolution, layer in zip([self.stem, *self.halve], self.encoder):
            maps = nn.leaky_relu(convolution(maps), 0.2)
            last, maps = layer(maps, return_carry=True, train=train)
            states.append(last)
        return tuple(states)

    def forecast(self, states: States, steps: int, train: bool) -> Forecast:
        """See `Forecaster.forecast`."""
        # From the smallest maps, of the largest structures, down to the largest.
        last, maps = self.forecaster[-1].unroll(states[-1], steps, train)
        after = [last]
        lower = list(zip(self.double, self.forecaster, states))  # less the highest, which was first
        for double, layer, state in reversed(lower):
            maps = nn.leaky_relu(double(maps), 0.2)
            last, maps = layer(maps, state, return_carry=True, train=train)
            after.append(last)
        frames = self.head(nn.leaky_relu(self.narrow(maps), 0.2))
        return tuple(reversed(after)), frames  # lowest level first, as `encode` gives them
