"""Every variant of the loop over time gives the numbers of the default one, and is another one."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numerics import cosines, normal, random_variables, with_gradients

import jaxconvlstm as jcl
from jaxconvlstm.nn import variants
from jaxconvlstm.nn.convolution import convolution

OTHERS = [name for name in variants.VARIANTS if name != "default"]
# Those that are another program where layers lie above each other or read nothing.
OF_LAYERS = ["late-kernels", "joined-forwards", "wavefront", "whole-steps"]
LAYER = jcl.ConvLSTM(8, peephole="channel", dropout=0.25, recurrent_dropout=0.25)
NETWORKS: dict[str, Any] = {
    "layer": LAYER,
    "remat": LAYER.clone(remat=True, dropout=0.0),
    "layers": jcl.FramePredictor(8, features=(8, 8), downsample=2, recurrent_dropout=0.25),
    # A layer that reads no input, and states that are handed on.
    "forecaster": jcl.EncoderForecaster(8, features=(8, 8), patch_size=1, dropout=0.25),
}
CLIPS = normal(0, 2, 4, 6, 6, 8)


def traced(network: Any) -> tuple[Any, Any]:
    """The gradients of a network, and what they are taken at."""
    steps = () if network is NETWORKS["layer"] or network is NETWORKS["remat"] else (3,)
    variables = random_variables(network, CLIPS, scale=0.2)

    def run(variables: Any, clips: Any) -> Any:
        key = {"dropout": jax.random.key(3)}
        return network.apply(variables, clips, *steps, train=True, rngs=key)

    shape = jax.eval_shape(run, variables, CLIPS).shape
    return with_gradients(run), (cosines(*shape), variables, CLIPS)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n == "layer" else pytest.mark.slow) for n in NETWORKS]
)
def test_values_and_gradients_are_those_of_the_default(name: str) -> None:
    program, given = traced(NETWORKS[name])
    expected = program(*given)
    for other in OTHERS if name == "layer" else OF_LAYERS:
        with variants.using(other):
            found = traced(NETWORKS[name])[0](*given)
        for index, tolerance in ((0, 1e-5), (1, 1e-4)):
            for a, b in zip(*(jax.tree.leaves(result[index]) for result in (found, expected))):
                np.testing.assert_allclose(
                    a, b, rtol=0, atol=tolerance * np.abs(b).max(), err_msg=other
                )
    assert variants.chosen is variants.VARIANTS["default"]


def equations(jaxpr: Any, depth: int = 0) -> Iterator[tuple[Any, int]]:
    """The equations of a program, each with the number of loops it stands in."""
    for equation in jaxpr.eqns:
        yield equation, depth
        for leaf in jax.tree.leaves([*equation.params.values()]):
            inner = getattr(leaf, "jaxpr", leaf)
            if hasattr(inner, "eqns"):
                yield from equations(inner, depth + (equation.primitive.name == "scan"))


def found(name: str, of_inputs: bool) -> dict[str, int]:
    """How many of a layer's operations are of each kind."""
    layer, clips = jcl.ConvLSTM(8), CLIPS
    variables = layer.init(jax.random.key(0), clips)

    def loss(variables: Any, clips: Any) -> jax.Array:
        return jnp.sum(layer.apply(variables, clips) ** 2)

    with variants.using(name):
        gradient = jax.grad(loss, (0, 1) if of_inputs else 0)
        program = list(equations(jax.make_jaxpr(gradient)(variables, clips).jaxpr))
    convolutions = [(e.params["role"], d) for e, d in program if e.primitive is convolution]
    channels = [
        e.outvars[0].aval.shape[-1]
        for e, _ in program
        if e.primitive is convolution and e.params["role"] == "inputs"
    ]
    return {
        "kernels in loops": convolutions.count(("kernel", 1)),
        "kernels outside": convolutions.count(("kernel", 0)),
        "outputs outside": convolutions.count(("outputs", 0)),
        "channels of input gradients": sum(channels),
        "loops": sum(e.primitive.name == "scan" for e, _ in program),
        "longest unrolling": max(e.params.get("unroll", 1) for e, _ in program),
    }


def test_each_variant_is_what_it_says() -> None:
    default = found("default", of_inputs=False)
    assert default["longest unrolling"] == 1 and default["loops"] == 2
    late = found("late-kernels", of_inputs=False)
    assert (late["kernels in loops"], late["kernels outside"]) == (0, 2)
    assert default["kernels in loops"] > 0
    assert found("before-loop", of_inputs=False)["outputs outside"] == 1
    assert found("inside-loop", of_inputs=False)["outputs outside"] == 0
    assert found("unrolled", of_inputs=False)["longest unrolling"] == CLIPS.shape[1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jaxconvlstm.nn.conv_lstm.PIXELS_IN_LOOP", 0)
        both, forwards = (found(n, of_inputs=False) for n in ("default", "joined-forwards"))
        needed = found("joined-forwards", of_inputs=True)
    assert both["channels of input gradients"] == needed["channels of input gradients"] == 16
    assert forwards["channels of input gradients"] == 8  # of the state alone, not of the data
