"""Options of the training."""

import dataclasses
import math
from typing import Literal

from jaxconvlstm.config.options import Options, flag
from jaxconvlstm.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class TrainingConfig(Options):
    """How the network is trained."""

    seed: int = 0
    """Seed of the weights, the order of the data and generated clips."""
    epochs: int = 10
    """Passes over the training windows."""
    steps_per_epoch: int | None = None
    """Steps between validations; by default as many as the training windows fill."""
    batch_size: int = 8
    """Windows per step."""
    learning_rate: float = 2e-3
    """Peak learning rate."""
    schedule: Literal["constant", "cosine", "one-cycle", "exponential", "step"] = "cosine"
    """Learning rate over the run, after the warm-up: constant; a cosine down to a hundredth; up and
    down once (which has a warm-up of its own); times --decay-rate every --decay-epochs, smoothly or
    in steps."""
    decay_rate: float = 0.1
    """What the learning rate is multiplied by (exponential and step)."""
    decay_epochs: float = 10.0
    """Epochs after which it has been (exponential and step)."""
    warmup_steps: int = 20
    """Steps in which the learning rate rises to its peak."""
    reduce_on_plateau: int | None = None
    """Epochs without a better validation loss after which the learning rate is reduced."""
    plateau_factor: float = 0.1
    """What it is multiplied by then."""
    early_stopping: int | None = None
    """Epochs without a better validation loss after which training ends."""
    optimizer: Literal["adam", "adamw", "adadelta", "rmsprop"] = "adam"
    """Optimizer."""
    weight_decay: float = 1e-4
    """Decoupled weight decay (adamw only)."""
    clip_norm: float = 1.0
    """Largest global norm of the gradient; larger ones are scaled down. 0 turns it off."""
    loss: Literal["mse", "mae", "bce", "huber", "mae-ssim", "mse-gdl", "cross-entropy"] = "mse"
    """Mean squared or absolute error; binary cross-entropy (with --output sigmoid); Huber's;
    absolute error mixed with SSIM, or squared error with gradient differences; or cross-entropy of
    classes."""
    supervise: Literal["targets", "all"] = "targets"
    """Frames that the loss is of: the target frames, or every frame after the first, each predicted
    from those before it."""
    sampling: Literal["free", "teacher", "scheduled", "reverse"] = "free"
    """What is fed back in training: the model's own frames; the true ones; the true ones ever more
    rarely; or that, and ever more of the true ones among the input frames (PredRNN-v2)."""
    sampling_curve: Literal["linear", "exponential", "inverse-sigmoid"] = "linear"
    """How the probability of a true frame falls (Bengio et al. 2015)."""
    sampling_steps: int | None = None
    """Steps after which no true frame is fed back any more; by default half of all."""
    ema: float = 0.0
    """Decay of the moving average of the weights, which is evaluated and loaded in their place,
    e.g. 0.999. 0 turns it off."""
    init_from: str | None = None
    """Run folder whose weights to start from, to train on for other data or another purpose."""
    max_steps: int | None = None
    """Save and stop after so many steps of this call; --resume auto goes on."""
    max_hours: float | None = None
    """Save and stop after so many hours of this call, for queues that give no more."""
    checkpoint_every: int | None = None
    """Also save every so many steps; by default after each epoch."""
    sample_every: int = 1
    """Write sample pictures every so many epochs; 0 writes none."""
    log_every: int = 20
    """Write a line of metrics every so many steps."""
    threads: int = 2
    """Threads that read and decode data."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_positive(
            *("epochs", "steps_per_epoch", "batch_size", "learning_rate", "decay_rate"),
            *("decay_epochs", "reduce_on_plateau", "plateau_factor", "early_stopping"),
            *("sampling_steps", "max_steps", "max_hours", "checkpoint_every", "log_every"),
            "threads",
        )
        self._check_not_negative(
            "clip_norm", "weight_decay", "warmup_steps", "sample_every", "seed"
        )
        for name in ("learning_rate", "decay_rate", "decay_epochs"):
            if not math.isfinite(getattr(self, name)):
                raise ConfigError(f"{flag(name)}: expected a number, got {getattr(self, name)}")
        if self.plateau_factor >= 1:
            raise ConfigError(
                f"--plateau-factor: expected less than 1, got {self.plateau_factor:g}"
            )
        if not 0 <= self.ema < 1:
            raise ConfigError(f"--ema: expected a decay from 0 to below 1, got {self.ema:g}")
        self._check_effects()

    def _check_effects(self) -> None:
        """Refuses a setting that means nothing without another."""
        decays = self.schedule in ("exponential", "step")
        warms_up = self.schedule != "one-cycle" or self.warmup_steps == 0
        for name, has_effect, needed in (
            ("weight_decay", self.optimizer == "adamw", "--optimizer adamw"),
            ("plateau_factor", self.reduce_on_plateau, "--reduce-on-plateau"),
            ("decay_rate", decays, "--schedule exponential or step"),
            ("decay_epochs", decays, "--schedule exponential or step"),
            ("warmup_steps", warms_up, "another --schedule than one-cycle"),
            ("sampling_steps", self.sampling in ("scheduled", "reverse"), "--sampling scheduled"),
            ("sampling_curve", self.sampling == "scheduled", "--sampling scheduled"),
        ):
            if not has_effect and getattr(self, name) != getattr(TrainingConfig, name):
                raise ConfigError(f"{flag(name)}: needs {needed}")
