"""Early stopping, and a lower learning rate on a plateau of the validation loss."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Self

SMALLEST_SCALE = 1e-4
"""A learning rate that was reduced so far is not reduced further."""


@dataclasses.dataclass
class Patience:
    """Counts epochs without a better validation loss, which end training early.

    Attributes:
      patience: epochs in a row without a better loss after which it is over.
      best: lowest loss so far, None before the first.
      waited: epochs since then.
    """

    patience: int
    best: float | None = None
    waited: int = 0

    @property
    def over(self) -> bool:
        """Whether `patience` epochs have gone by without a better loss."""
        return self.waited >= self.patience

    def update(self, loss: float) -> bool:
        """Counts an epoch; returns whether patience is over. NaN counts as no better."""
        if loss < (math.inf if self.best is None else self.best):
            self.best, self.waited = float(loss), 0
        else:
            self.waited += 1
        return self.over

    def to_json(self) -> dict[str, Any]:
        """The counters, without the settings: a resumed run may be given more patience."""
        return {"best": self.best, "waited": self.waited}

    def restored(self, counted: Mapping[str, Any]) -> Self:
        """The same settings with the counters that `to_json` gave."""
        return dataclasses.replace(self, **counted)


@dataclasses.dataclass
class Plateau(Patience):
    """Reduces the learning rate whenever patience is over, and starts to count anew.

    Attributes:
      patience, best, waited: see `Patience`.
      factor: the learning rate is multiplied by it each time.
      scale: product of all factors so far, at least `SMALLEST_SCALE`.
    """

    factor: float = 0.1
    scale: float = 1.0

    def update(self, loss: float) -> bool:
        """Counts an epoch; returns whether the scale was reduced."""
        if not super().update(loss):
            return False
        self.waited = 0  # the lower rate gets as many epochs
        before, self.scale = self.scale, max(self.scale * self.factor, SMALLEST_SCALE)
        # Nothing is reduced where the scale was at its smallest already.
        return not math.isclose(self.scale, before)

    def to_json(self) -> dict[str, Any]:
        """See `Patience.to_json`."""
        return {**super().to_json(), "scale": self.scale}
