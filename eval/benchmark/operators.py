"""How fast the operators are: `python -m eval.benchmark.operators --json operators.json --plot operators.png`.

Correlation, PrRoI pooling, the IoU-Net and the two solvers, forward and gradient (of the sum of squares, in what is
learned or searched for), in the shapes of DiMP-18, ATOM and the Siamese trackers. Each row takes turns with a large
matrix product, a large copy and, where PyTorch is installed, the same operator there. FLOPs and bytes are XLA's
count for the compiled program, that of a solver with its steps written out, since XLA counts a loop once.
"""

import argparse
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from eval import command, parsers, settings
from eval.benchmark import reporting, torch_operators
from eval.command import keep_freed_memory
from eval.files import ResultError
from eval.measure import roofline
from eval.measure.timing import compile_timed, interleaved
from ops import least_squares
from ops.anchors import RATIOS
from ops.boxes import xywh_to_corners
from ops.correlation import correlate, cross_correlate, depthwise_correlate, up_channel_correlate
from ops.least_squares import gauss_newton, steepest_descent
from ops.prroi_pool import prroi_pool
from trackers import atom
from trackers.nets import dimp_classifier, iou_net, resnet
from trackers.nets.dimp_classifier import FILTER_SIZE, MIN_CURVATURE, STRIDE
from trackers.rules import SettingError

Array = jax.Array


@dataclass(frozen=True)
class Sizes:
    """Sizes of the inputs; the defaults are those of the trackers."""

    channels: int = 256
    cells: int = 18  # of a side of layer3 of a search crop of 288 pixels
    samples: int = 15  # DiMP learns from on frame 1
    descent_steps: int = 5  # as in training
    compressed_channels: int = 64  # of ATOM's features
    memory: int = 250  # samples of ATOM
    cg_steps: int = 5
    boxes: int = 10


class Operator(NamedTuple):
    """A pure function, its inputs, and its counterpart in PyTorch."""

    name: str
    function: Callable[..., Array]
    inputs: tuple[Any, ...]
    learned: tuple[int, ...]  # the arguments that the gradient is for
    peer: Callable[[Callable], tuple[Callable, list, tuple[str, str]]]  # converter -> function, inputs, output's layout
    solver: bool = False  # it has a loop, and float32 inside


def operators(sizes: Sizes = Sizes()) -> list[Operator]:
    """All operators with random inputs, float32, the same on every machine."""
    rng = np.random.default_rng(0)

    def normal(*shape, scale=1.0):
        return (scale * rng.normal(size=shape)).astype(np.float32)

    channels, cells = sizes.channels, sizes.cells
    unit = (channels * FILTER_SIZE**2) ** -0.5  # scores of order 1
    features = normal(sizes.samples, cells, cells, channels, scale=unit)
    filter = normal(FILTER_SIZE, FILTER_SIZE, channels, scale=unit)
    one, several, filter_axes = ("yxc", "1cyx"), ("nyxc", "ncyx"), ("yxc", "1cyx")
    found = [
        Operator(
            "correlation, DiMP",
            correlate,
            (features, filter),
            (0, 1),
            lambda tensor: (
                torch_operators.correlation,
                [tensor(features, *several), tensor(filter, *filter_axes)],
                ("nyx", "nyx"),
            ),
        )
    ]
    for name, function, search_side, side, count in (
        ("correlation, SiamFC", cross_correlate, 22, 6, None),
        ("up-channel correlation, SiamRPN", up_channel_correlate, 22, 4, 4 * len(RATIOS)),
        ("depthwise correlation, SiamRPN++", depthwise_correlate, 29, 5, None),
    ):
        search = normal(search_side, search_side, channels)
        template = normal(side, side, channels, *([count] if count else []), scale=unit)
        depthwise = function is depthwise_correlate
        peer = torch_operators.depthwise_correlation if depthwise else torch_operators.cross_correlation
        layouts = ("yxcn", "ncyx") if count else one
        out = ("yxc", "cyx") if depthwise else ("yxn", "nyx") if count else ("yx", "1yx")
        found.append(
            Operator(name, function, (search, template), (0, 1), partial(_pair, peer, search, template, layouts, out))
        )
    found += [_pooling(sizes, normal, rng), _iou_net(sizes, normal, rng)]
    found += [_gauss_newton(sizes, normal), _descent(sizes, features, filter, rng)]
    return found


def _pair(peer, search, template, layouts, out, tensor):
    return peer, [tensor(search, "yxc", "1cyx"), tensor(template, *layouts)], out


def _corners(sizes: Sizes, rng) -> np.ndarray:
    """Boxes inside a search crop, `[P, 4]` x1, y1, x2, y2 in its pixels."""
    side = STRIDE * sizes.cells
    xywh = rng.uniform(side / 5, side / 3, (sizes.boxes, 4))
    return np.asarray(xywh_to_corners(jnp.asarray(xywh, jnp.float32)))


def _pooling(sizes: Sizes, normal, rng) -> Operator:
    features, boxes = normal(2 * sizes.cells, 2 * sizes.cells, sizes.channels), _corners(sizes, rng)
    bins, scale = iou_net.PREDICTION_BINS[0], iou_net.FINE

    def function(features, boxes):
        return jax.vmap(lambda box: prroi_pool(features, box, bins=bins, spatial_scale=scale))(boxes)

    return Operator(
        "PrRoI pooling",
        function,
        (features, boxes),
        (0, 1),
        lambda tensor: (
            partial(torch_operators.prroi_pooling, bins=bins, spatial_scale=scale),
            [tensor(features, "yxc", "1cyx"), tensor(boxes, "pk", "pk")],
            ("pyxc", "pcyx"),
        ),
    )


def _iou_net(sizes: Sizes, normal, rng) -> Operator:
    """Predicted overlaps of the proposals in a frame; the gradient, in the boxes, is a step of their refinement."""
    channels, corners = sizes.channels, _corners(sizes, rng)
    boxes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], 1)
    maps = [normal(factor * sizes.cells, factor * sizes.cells, channels) for factor in (2, 1)]
    modulation = [normal(channels) for _ in maps]
    network = iou_net.IoUNet(inner=channels)
    given = jax.tree.map(jnp.asarray, (modulation, maps, boxes))
    variables = jax.device_get(network.init(jax.random.key(0), *given, method="predict"))
    bins, scales = iou_net.PREDICTION_BINS, (iou_net.FINE, iou_net.COARSE)

    def function(boxes, variables, modulation, maps):
        return network.apply(variables, modulation, maps, boxes, method="predict")

    def peer(tensor):
        def layer(name):
            weights = variables["params"][name]
            statistics = variables["batch_stats"][name]["bn"]
            kernel = tensor(weights["linear"]["kernel"], "io", "oi")
            rest = [weights["linear"]["bias"], statistics["mean"], statistics["var"]]
            rest += [weights["bn"]["scale"], weights["bn"]["bias"]]
            return [kernel, *(tensor(leaf, "c", "c") for leaf in rest)]

        last = variables["params"]["iou_predictor"]
        constants = (
            [tensor(vector, "c", "c") for vector in modulation],
            [tensor(one, "yxc", "1cyx") for one in maps],
            [layer("fc3_rt"), layer("fc4_rt")],
            (tensor(last["kernel"], "io", "oi"), tensor(last["bias"], "o", "o")),
        )

        def predict(boxes):
            import torch

            at = torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1)
            return torch_operators.iou_prediction(at, *constants, bins, scales, resnet.BATCH_NORM_EPSILON)

        return predict, [tensor(boxes, "pk", "pk")], ("p", "p")

    return Operator("IoU-Net", function, (boxes, variables, tuple(modulation), tuple(maps)), (0,), peer)


def _gauss_newton(sizes: Sizes, normal) -> Operator:
    """An online update of ATOM: one Gauss-Newton step."""
    channels = sizes.compressed_channels
    unit = (channels * FILTER_SIZE**2) ** -0.5
    shape = (sizes.memory, sizes.cells, sizes.cells)
    features, filter = normal(*shape, channels), normal(FILTER_SIZE, FILTER_SIZE, channels, scale=unit)
    labels, weights = np.abs(normal(*shape)), np.full(sizes.memory, 1 / sizes.memory, np.float32)
    config = atom.Config()
    constants = (labels, weights, np.float32(config.filter_reg), np.float32(config.mlu_alpha))

    def function(filter, features, *constants):
        return gauss_newton(
            atom.filter_residuals,
            filter,
            (features, *constants),
            num_steps=1,
            cg_steps=sizes.cg_steps,
            method="polak_ribiere",
        )

    def peer(tensor):
        fixed = [tensor(constants[0], "nyx", "nyx"), tensor(constants[1], "n", "n"), *_scalars(tensor, constants[2:])]

        def update(filter, features):
            residuals = torch_operators.atom_residuals(features, *fixed)
            return torch_operators.gauss_newton(residuals, filter, sizes.cg_steps)

        inputs = [tensor(filter, "yxc", "1cyx"), tensor(features, "nyxc", "ncyx")]
        return update, inputs, ("yxc", "1cyx")

    return Operator("conjugate gradient, ATOM", function, (filter, features, *constants), (0, 1), peer, True)


def _descent(sizes: Sizes, features, filter, rng) -> Operator:
    """DiMP's optimizer as in training: steepest descent on its learned loss."""
    side = STRIDE * sizes.cells
    boxes = jnp.asarray(rng.uniform(side / 4, side / 2, (sizes.samples, 4)), jnp.float32)
    optimizer = dimp_classifier.init_optimizer()
    _, *constants = jax.device_get(dimp_classifier.residual_args(optimizer, jnp.asarray(features), boxes))
    step_length = float(np.exp(optimizer["log_step_length"]))

    def function(filter, features, *constants):
        return steepest_descent(
            dimp_classifier.residuals,
            filter,
            (features, *constants),
            num_steps=sizes.descent_steps,
            step_length=step_length,
            min_curvature=MIN_CURVATURE,
        )

    def peer(tensor):
        fixed = [*(tensor(leaf, "nyx", "nyx") for leaf in constants[:3]), *_scalars(tensor, constants[3:])]

        def descend(filter, features):
            residuals = torch_operators.dimp_residuals(features, *fixed)
            return torch_operators.steepest_descent(residuals, filter, step_length, sizes.descent_steps)

        inputs = [tensor(filter, "yxc", "1cyx"), tensor(features, "nyxc", "ncyx")]
        return descend, inputs, ("yxc", "1cyx")

    return Operator("steepest descent, DiMP", function, (filter, features, *constants), (0, 1), peer, True)


def _scalars(tensor: Callable, values) -> list:
    return [tensor(np.asarray(value), "", "") for value in values]


def measure(
    operator: Operator, dtype: str, repeats: int, sticks: dict[str, roofline.Yardstick]
) -> tuple[dict[str, dict[str, Any]], dict[str, float]]:
    """Rows "name, forward" and "name, gradient" by name, and what the yardsticks reached."""
    inputs = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), operator.inputs)
    calls, rows, asked = {name: stick.call for name, stick in sticks.items()}, {}, {}
    gradient = jax.grad(_energy(operator.function), operator.learned)
    for kind, function in (("forward", operator.function), ("gradient", gradient)):
        name = f"{operator.name}, {kind}"
        compiled, seconds = compile_timed(function, *inputs)
        calls[name], asked[name] = partial(compiled, *inputs), _work(operator, function, compiled, inputs)
        temporary = compiled.memory_analysis().temp_size_in_bytes
        rows[name] = {"operator": operator.name, "kind": kind, "compile_s": seconds, "temporary_bytes": temporary}
    theirs = _torch_calls(operator, dtype) if _torch_is_there() else {}
    calls |= {name: call for name, (call, _) in theirs.items()}
    seconds = interleaved(calls, repeats, warm_up=2)
    for name, row in rows.items():
        row |= {"median_ms": 1e3 * float(np.median(seconds[name])), "min_ms": 1e3 * float(np.min(seconds[name]))}
        row |= asked[name]._asdict() | roofline.share(name, asked[name], sticks, seconds)
        row |= _beside(name, seconds, theirs, jax.tree.leaves(calls[name]()))
    return rows, roofline.peaks(sticks, seconds)


def _energy(function: Callable) -> Callable[..., Array]:
    return lambda *inputs: jnp.sum(function(*inputs).astype(jnp.float32) ** 2)


def _work(operator: Operator, function: Callable, compiled: Any, inputs: tuple) -> roofline.Work:
    if not operator.solver:
        return roofline.work(compiled)
    with mock.patch.object(least_squares, "while_loop", _written_out):
        return roofline.work(jax.jit(lambda *inputs: function(*inputs)).lower(*inputs).compile())


def _written_out(cond_fun, body_fun, state, args=(), *, max_steps: int, mode: str = "reverse", iterates: bool = False):
    """`ops.loops.while_loop` for the last state alone that takes all of its steps, as many copies of the body."""
    del cond_fun, mode
    if iterates:
        raise NotImplementedError("no operator here asks for the iterates")
    for _ in range(max_steps):
        state = body_fun(state, args)
    return state


def _torch_is_there() -> bool:
    """Whether PyTorch is installed and has the device that JAX computes on."""
    if importlib.util.find_spec("torch") is None:
        return False
    import torch

    kind = _platform()
    return kind == "cpu" or (kind == "gpu" and torch.cuda.is_available())


def _platform() -> str:
    return jnp.zeros(()).device.platform


def _torch_calls(operator: Operator, dtype: str) -> dict[str, tuple[Callable[[], Any], Callable[[Any], list]]]:
    """`{row name + layout: (call, its result as numpy arrays in our layout)}`: both layouts, the faster one counts."""
    import torch

    on_gpu = _platform() == "gpu"
    calls = {}
    for layout in ("", " channels last"):
        inputs_axes = []

        def tensor(array, ours, theirs, layout=layout, inputs_axes=inputs_axes):
            inputs_axes.append((ours, theirs))
            found = torch.from_numpy(_relayout(np.array(array), ours, theirs)).to(getattr(torch, dtype))
            found = found.to(memory_format=torch.channels_last) if layout and found.ndim == 4 else found.contiguous()
            return found.cuda() if on_gpu else found

        function, inputs, out = operator.peer(tensor)
        axes = inputs_axes[-len(inputs) :]  # constants are converted before

        def forward(function=function, inputs=inputs):
            with torch.no_grad():
                return _finished([function(*inputs)], on_gpu)

        def gradient(function=function, inputs=inputs):
            learned = [inputs[index].detach().requires_grad_() for index in operator.learned]
            every = [*inputs]
            for index, leaf in zip(operator.learned, learned):
                every[index] = leaf
            (function(*every).float() ** 2).sum().backward()
            return _finished([leaf.grad for leaf in learned], on_gpu)

        backs = {"forward": [out], "gradient": [axes[index] for index in operator.learned]}
        for kind, call in (("forward", forward), ("gradient", gradient)):

            def to_ours(results, backs=backs[kind]):
                arrays = [leaf.float().cpu().numpy() for leaf in results]
                return [_relayout(array, theirs, ours) for array, (ours, theirs) in zip(arrays, backs, strict=True)]

            calls[f"{operator.name}, {kind}, PyTorch{layout}"] = (call, to_ours)
    return calls


def _finished(results: list, on_gpu: bool) -> list:
    if on_gpu:
        import torch

        torch.cuda.synchronize()
    return results


def _relayout(array: np.ndarray, before: str, after: str) -> np.ndarray:
    """Axes named by letters in another order; "1" is an axis of that length that only one of both has."""
    array = array.reshape([size for size, name in zip(array.shape, before) if name != "1"])
    before = before.replace("1", "")
    array = array.transpose([before.index(name) for name in after if name != "1"])
    return array.reshape([1 if name == "1" else array.shape[after.replace("1", "").index(name)] for name in after])


def _beside(name: str, seconds: dict[str, np.ndarray], theirs: dict, ours: list) -> dict[str, Any]:
    """PyTorch's milliseconds in its faster layout, our time over its (median of rounds), relative difference."""
    mine = [other for other in theirs if other.startswith(f"{name}, PyTorch")]
    if not mine:
        return {"torch_ms": None, "over_torch": None, "torch_difference": None}
    best = min(mine, key=lambda other: float(np.median(seconds[other])))
    call, to_ours = theirs[best]
    pairs = [(np.asarray(a, np.float64), np.asarray(b, np.float64)) for a, b in zip(ours, to_ours(call()), strict=True)]
    return {
        "torch_ms": 1e3 * float(np.median(seconds[best])),
        "over_torch": float(np.median(seconds[name] / seconds[best])),
        "torch_difference": max(float(np.linalg.norm(a - b) / np.linalg.norm(a)) for a, b in pairs),
    }


def table(report: dict[str, Any]) -> str:
    """The report as Markdown."""
    versions, peaks = report["versions"], report["peaks"]
    lines = [
        f"{report['dtype']} on {versions['device']}, jax {versions['jax']}, PyTorch {versions['torch']}; "
        f"matrix product {peaks['flops_per_second'] / 1e9:.1f} GFLOP/s, "
        f"copy {peaks['bytes_per_second'] / 1e9:.1f} GB/s",
        "",
        "| operator | median ms | min ms | MFLOP | MB | roofline share | bound | PyTorch ms | ours / PyTorch "
        "| compile s | temporary MB |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, row in report["rows"].items():
        share = "" if row["roofline_share"] is None else f"{row['roofline_share']:.2f}"
        beside = f"{row['torch_ms']:.2f} | {row['over_torch']:.2f}" if row["torch_ms"] else " | "
        lines.append(
            f"| {name} | {row['median_ms']:.2f} | {row['min_ms']:.2f} | {row['flops'] / 1e6:.1f} "
            f"| {row['bytes'] / 1e6:.1f} | {share} | {row['bound']} | {beside} | {row['compile_s']:.1f} "
            f"| {row['temporary_bytes'] / 1e6:.1f} |"
        )
    return "\n".join(lines)


@command.reports(ResultError, SettingError)
def main(argv: list[str] | None = None) -> None:
    """Run the benchmark, print a table, write what is asked for."""
    options = parsers.benchmark_operators().parse_args(argv)
    keep_freed_memory()
    reporting.run(options, lambda: run(options), table)


def run(options: argparse.Namespace, sizes: Sizes = Sizes()) -> dict[str, Any]:
    """The report; SettingError if no operator is left."""
    known = operators(sizes)
    chosen = [one for one in known if not options.only or any(part in one.name for part in options.only)]
    chosen = [one for one in chosen if options.dtype == "float32" or not one.solver]  # solvers stay in float32
    if not chosen:
        names = "; ".join(one.name for one in known)
        raise SettingError(f"--only {','.join(options.only)}: no operator has that in its name: {names}")
    rows, reached, sticks = {}, [], roofline.yardsticks(options.dtype)
    for operator in chosen:
        more, peaks = measure(operator, options.dtype, options.repeats, sticks)
        rows |= more
        reached.append(peaks)
    versions = settings.versions()
    versions["device"] = jnp.zeros(()).device.device_kind
    if _torch_is_there():
        import torch

    versions["torch"] = torch.__version__ if _torch_is_there() else "not here"
    peaks = {name: float(np.median([one[name] for one in reached])) for name in reached[0]}
    return {"dtype": options.dtype, "sizes": asdict(sizes), "rows": rows, "peaks": peaks, "versions": versions}


if __name__ == "__main__":
    sys.exit(main())
