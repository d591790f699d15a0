"""The short scripts of `gpu.py`, each for a process of its own, which frees the device's memory."""

RATES = """
import json, sys, time
import flax, jax, jax.numpy as jnp, optax
size, numbers = int(sys.argv[1]), int(sys.argv[2])
def seconds(function, *arguments):
    compiled = jax.jit(function)
    jax.block_until_ready(compiled(*arguments))
    taken = []
    for _ in range(5):
        began = time.perf_counter()
        for _ in range(10):
            result = compiled(*arguments)
        jax.block_until_ready(result)
        taken.append((time.perf_counter() - began) / 10)
    return sorted(taken)[2]
for dtype in ("bfloat16", "float32"):
    matrix = jax.random.normal(jax.random.key(0), (size, size), dtype)
    print(json.dumps({dtype: 2 * size**3 / seconds(jnp.matmul, matrix, matrix)}), flush=True)
vector = jnp.ones(numbers, jnp.float32)
print(json.dumps({
    "copy": 8 * numbers / seconds(lambda v: v + 1, vector),
    "device": jax.devices()[0].device_kind,
    "jax": jax.__version__, "flax": flax.__version__, "optax": optax.__version__,
}))
"""
AGREEMENT = """
import jax, jax.numpy as jnp, numpy as np
from jaxconvlstm import ConvLSTM
from jaxconvlstm.nn import variants
jax.config.update("jax_default_matmul_precision", "highest")
clip = np.random.default_rng(0).normal(size=(2, 6, 24, 32, 16)).astype(np.float32)
def results(layer, variables, device):
    def loss(variables, clip):
        return jnp.mean(jnp.sin(layer.apply(variables, clip)))
    with jax.default_device(device):
        values = jax.jit(jax.value_and_grad(loss, (0, 1)))(variables, clip)
        return jax.device_get(values)
worst = {}
for size, options in [("5x5", {"kernel_size": (5, 5), "remat": True}),
                      ("3x3", {"peephole": "channel"})]:
    layer = ConvLSTM(32, **options)
    variables = jax.device_get(layer.init(jax.random.key(0), clip))
    theirs = results(layer, variables, jax.devices("cpu")[0])
    for name in ("default", "late-kernels"):
        with variants.using(name):
            ours = results(layer, variables, jax.devices()[0])
        worst[f"{name}, {size}"] = max(float(np.abs(a - b).max() / np.abs(b).max())
                                       for a, b in zip(*map(jax.tree.leaves, (ours, theirs))))
print("largest difference from a CPU, values and gradients, as a share of the largest: "
      + ", ".join(f"{name} {value:.1e}" for name, value in worst.items()))
assert max(worst.values()) < 1e-4
"""
EXCHANGE = """
import sys, numpy as np, jaxconvlstm as jcl
run, clip = sys.argv[1], np.random.default_rng(0).random((5, 40, 40, 1), np.float32)
if sys.argv[2] == "train":
    data, model = jcl.DataConfig(limit=8), jcl.ModelConfig(features=(8,))
    jcl.fit(jcl.Config(data, model, jcl.TrainingConfig(epochs=1)), run)
    np.save(run + ".npy", jcl.load(run).predict(clip, steps=3))
else:
    print("largest difference of a prediction:",
          np.abs(jcl.load(run).predict(clip, steps=3) - np.load(run + ".npy")).max())
"""
METRICS = """
import sys, time
sys.path.insert(0, "benchmarks")
import jax, optax
from jaxconvlstm.training.step import init_state
from peers import WORKS, ours
work, steps = WORKS["seq2one"], int(sys.argv[1])
module, data = ours.network("seq2one", "bfloat16"), ours.clips(work, 8)
traced, _, _ = ours.trace(module, work, 8, False)
step = traced.lower().compile()
def seconds(state, lag):
    # `lag` steps are under way before the metrics of the first of them are waited for.
    waiting = []
    began = time.perf_counter()
    for _ in range(steps):
        state, metrics = step(state, data)
        waiting.append(metrics)
        if len(waiting) > lag:
            jax.device_get(waiting.pop(0))
    jax.block_until_ready(state)
    return state, (time.perf_counter() - began) / steps
state = init_state(module, optax.adam(1e-3), work.frame, seed=0)
taken = {"at once": [], "one step late": [], "never": []}
for _ in range(5):
    for name, lag in zip(taken, (0, 1, steps)):
        state, time_of = seconds(state, lag)
        taken[name].append(time_of)
for name, times in taken.items():
    print(f"metrics are fetched {name}: {sorted(times)[2] * 1e3:.2f} ms a step")
"""
MEMORY = """
import sys
sys.path.insert(0, "benchmarks")
import memory
print("| layer | memory, units | of another layer | seconds |")
print("| --- | ---: | ---: | ---: |")
memory.layers()
"""
