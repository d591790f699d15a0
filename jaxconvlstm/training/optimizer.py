"""Learning rate schedule and optimizer of a run, made of those of Optax."""

import optax

from jaxconvlstm.config.training import TrainingConfig


def make_schedule(config: TrainingConfig, total_steps: int, steps_per_epoch: int) -> optax.Schedule:
    """Makes the learning rate schedule: a linear warm-up, then `config.schedule`.

    With `s` for the steps taken since the warm-up, `S` for all steps after it, and `d` for the
    steps of `config.decay_epochs` epochs:

        constant      peak
        cosine        peak (0.01 + 0.99 (1 + cos(pi s / S)) / 2)
        exponential   peak decay_rate^(s / d)
        step          peak decay_rate^floor(s / d)
        one-cycle     no warm-up, but half a cosine from peak / 25 up to the peak in the first 30 %
                      of the steps, and another down to peak / 250,000

    Args:
      config: the settings; `learning_rate` is the peak.
      total_steps: steps of the run.
      steps_per_epoch: steps between validations, the unit of `decay_epochs`.

    Returns:
      A function from the number of steps taken to the learning rate of the next one. The first
      rate is never zero: such a step would be wasted.

    References:
      Smith & Topin 2017, "Super-Convergence: Very Fast Training of Neural Networks Using Large
      Learning Rates": one-cycle, with the fractions of PyTorch's `OneCycleLR`.
    """
    peak = config.learning_rate
    if config.schedule == "one-cycle":
        return optax.schedules.cosine_onecycle_schedule(max(total_steps, 1), peak)
    # At least one step is left for the peak, however short the run.
    warmup = min(config.warmup_steps, max(total_steps - 1, 0))
    after = _after_warmup(config, max(total_steps - warmup, 1), steps_per_epoch)
    if warmup == 0:
        return after
    # From peak / (warmup + 1), not from zero: see Returns.
    rise = optax.linear_schedule(peak / (warmup + 1), peak, warmup)
    return optax.join_schedules([rise, after], [warmup])


def _after_warmup(config: TrainingConfig, steps: int, steps_per_epoch: int) -> optax.Schedule:
    peak = config.learning_rate
    interval = max(round(config.decay_epochs * steps_per_epoch), 1)
    if config.schedule == "cosine":
        return optax.cosine_decay_schedule(peak, steps, alpha=0.01)
    if config.schedule == "exponential":
        return optax.exponential_decay(peak, interval, config.decay_rate)
    if config.schedule == "step":
        stairs = optax.exponential_decay(peak, interval, config.decay_rate, staircase=True)
        # XLA divides by multiplying with a rounded reciprocal, so that a whole number of
        # intervals may come out just below it; half a step further on it cannot.
        return lambda step: stairs(step + 0.5)
    return optax.constant_schedule(peak)


def make_optimizer(
    config: TrainingConfig, total_steps: int, steps_per_epoch: int
) -> optax.GradientTransformation:
    """Makes gradient clipping by global norm, then the optimizer, at the rate of `make_schedule`.

    Adam and AdamW have Optax's (and PyTorch's) constants; Adadelta (decay 0.95, epsilon 1e-7) and
    RMSprop (decay 0.9, epsilon 1e-7 under the root) Keras's. Adadelta finds the size of its steps
    itself: it was published with a learning rate of 1 (Zeiler 2012), and Keras's default is 0.001.
    """
    schedule = make_schedule(config, total_steps, steps_per_epoch)
    optimizer = {
        "adam": optax.adam(schedule),
        "adamw": optax.adamw(schedule, weight_decay=config.weight_decay),
        "adadelta": optax.adadelta(schedule, rho=0.95, eps=1e-7),
        "rmsprop": optax.rmsprop(schedule, decay=0.9, eps=1e-7),
    }[config.optimizer]
    if config.clip_norm == 0:
        return optimizer
    return optax.chain(optax.clip_by_global_norm(config.clip_norm), optimizer)
