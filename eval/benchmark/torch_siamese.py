"""The networks of the Siamese trackers in PyTorch, with our parameters: for `eval.benchmark --torch`."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import jax
import numpy as np

from eval.benchmark import torch_layers
from eval.benchmark.torch_layers import LAYOUTS, Tensor
from eval.benchmark.torch_layers import conv as _conv
from eval.benchmark.torch_layers import norm as _norm
from trackers.nets import alexnet, mobilenet, models, resnet
from trackers.nets.dilated_resnet import LAYERS as RESNET_LAYERS
from trackers.nets.dilated_resnet import DilatedResNet50
from trackers.nets.mobilenet import MobileNetV2
from trackers.nets.rpn import TEMPLATE_SIZE, DepthwiseRPN, SiamFCHead, UpChannelRPN


def timed(model: str, params: Any, exemplar: Any, crops: Any) -> AbstractContextManager[dict[str, Callable[[], float]]]:
    """A function for each of `LAYOUTS` that runs the network on the crops, in another process, and returns its seconds.

    exemplar: `[1, 127, 127, 3]`, crops: `[N, H, W, 3]` RGB 0..255.
    """
    return torch_layers.timed(_calls, LAYOUTS, model, *jax.tree.map(np.asarray, (params, exemplar, crops)))


def _calls(model: str, params: Any, exemplar: np.ndarray, crops: np.ndarray) -> dict[str, Callable[[], Any]]:
    calls = {}
    for layout in LAYOUTS:
        template, search = network(model, params, layout)
        kept, images = (torch_layers.images(array, layout) for array in (exemplar, crops))
        calls[layout] = lambda search=search, kept=template(kept), images=images: search(kept, images)
    return calls


def network(
    model: str, params: Any, layout: str
) -> tuple[Callable[[Tensor], Any], Callable[[Any, Tensor], tuple[Tensor, ...]]]:
    """`(template, search)` of `model`, one that is trained on pairs, in one of `LAYOUTS`.

    template: crops `[1, 3, 127, 127]` RGB 0..255 -> what the head keeps of them. search: (that, crops `[N, 3, H, W]`)
    -> maps `[N, C, S, S]` of the head, in our order of channels.
    """
    parts = models.networks(model)
    tensors = {part: torch_layers.tensors(variables, layout) for part, variables in params.items()}

    def taps(images: Tensor) -> tuple[Tensor, ...]:
        found = _backbone(parts["backbone"], images, tensors["backbone"])
        if "neck" not in parts:
            return found
        neck = tensors["neck"]
        return tuple(_norm(_conv(tap, neck, f"conv_{i}"), neck, f"bn_{i}") for i, tap in enumerate(found))

    kind = {SiamFCHead: _SiamFC, UpChannelRPN: _UpChannel, DepthwiseRPN: _Depthwise}[type(parts["head"])]
    head = kind(parts["head"], tensors["head"])

    def template(images: Tensor) -> Any:
        import torch

        with torch.inference_mode():
            return head.template(_center(taps(images)) if "neck" in parts else taps(images))

    def search(kept: Any, images: Tensor) -> tuple[Tensor, ...]:
        import torch

        with torch.inference_mode():
            return head.search(kept, taps(images))

    return template, search


def _backbone(module, images, variables) -> tuple[Tensor, ...]:
    forward = {MobileNetV2: _mobilenet, DilatedResNet50: _resnet50, alexnet.AlexNet: _alexnet}[type(module)]
    return forward(module, images, variables)


def _alexnet(module, x, variables):
    from torch.nn.functional import max_pool2d, relu

    for index, groups in enumerate(module.groups):
        x = _conv(x, variables, f"conv{index + 1}", 2 if index == 0 else 1, groups=groups)
        last = index == len(module.groups) - 1
        if not last or module.last_norm:
            x = _norm(x, variables, f"bn{index + 1}", module.epsilon)
        if index < 2:
            x = max_pool2d(x, 3, 2)
        if not last:
            x = relu(x)
    return (x,)


def _mobilenet(module, x, variables):
    from torch.nn.functional import relu6

    x = relu6(_norm(_conv(x, variables, "conv0", 2), variables, "bn0"))
    taps, reached = [], 1
    for layer, (_, _, blocks, stride, dilation) in enumerate(mobilenet.LAYERS, 1):
        for block in range(blocks):
            step = stride if block == 0 else 1
            spread = max(dilation // 2, 1) if block == 0 and dilation != reached else dilation
            name = f"layer{layer}_{block}"
            y = relu6(_norm(_conv(x, variables, f"{name}/expand"), variables, f"{name}/expand_bn"))
            border = spread if step == 1 else 0
            y = _conv(y, variables, f"{name}/depthwise", step, border, spread, groups=y.shape[1])
            y = relu6(_norm(y, variables, f"{name}/depthwise_bn"))
            y = _norm(_conv(y, variables, f"{name}/project"), variables, f"{name}/project_bn")
            x = x + y if x.shape == y.shape else y
        reached = dilation
        if layer in mobilenet.TAPS:
            taps.append(x)
    return tuple(taps)


def _resnet50(module, x, variables):
    from torch.nn.functional import max_pool2d, relu

    x = relu(_norm(_conv(x, variables, "conv1", 2), variables, "bn1"))
    x = max_pool2d(x, 3, 2, 1)
    taps = []
    for layer, (_, stride, first, others, shortcut) in enumerate(RESNET_LAYERS, 1):
        for block in range(resnet.BLOCKS[50][layer - 1]):
            name, step, spread = f"layer{layer}_{block}", stride if block == 0 else 1, others if block else first
            border = spread if step == 1 else 0
            y = relu(_norm(_conv(x, variables, f"{name}/conv1"), variables, f"{name}/bn1"))
            y = relu(_norm(_conv(y, variables, f"{name}/conv2", step, border, spread), variables, f"{name}/bn2"))
            y = _norm(_conv(y, variables, f"{name}/conv3"), variables, f"{name}/bn3")
            if block == 0:
                at, edge = f"{name}/downsample", border if shortcut > 1 else 0
                x = _norm(_conv(x, variables, f"{at}_conv", step, edge, spread), variables, f"{at}_bn")
            x = relu(x + y)
        taps.append(x)
    return tuple(taps[1:])


def _center(taps):
    cut = []
    for tap in taps:
        top, left = ((size - TEMPLATE_SIZE) // 2 for size in tap.shape[2:])
        cut.append(tap[:, :, top : top + TEMPLATE_SIZE, left : left + TEMPLATE_SIZE])
    return tuple(cut)


class _SiamFC:
    def __init__(self, module, variables):
        self.scale, self.bias = module.scale, variables["params"]["bias"]

    def template(self, taps):
        return taps[0]

    def search(self, kept, taps):
        from torch.nn.functional import conv2d

        return (self.scale * conv2d(taps[0], kept) + self.bias,)


class _UpChannel:
    def __init__(self, module, variables):
        self.channels, self.variables = module.channels, variables

    def template(self, taps):
        maps = {name: _conv(taps[0], self.variables, f"{name}_template") for name in ("cls", "loc")}
        return {name: found[0].reshape(-1, self.channels, *found.shape[2:]) for name, found in maps.items()}

    def search(self, kept, taps):
        from torch.nn.functional import conv2d

        cls, loc = (conv2d(_conv(taps[0], self.variables, f"{name}_search"), kept[name]) for name in ("cls", "loc"))
        return cls, _conv(loc, self.variables, "loc_adjust")


class _Depthwise:
    def __init__(self, module, variables):
        self.levels, self.weighted, self.variables = len(module.channels), module.weighted, variables

    def template(self, taps):
        return {
            name: [self._block(tap, f"{name}_{level}/template_block") for level, tap in enumerate(taps)]
            for name in ("cls", "loc")
        }

    def search(self, kept, taps):
        import torch
        from torch.nn.functional import conv2d

        out = []
        for name in ("cls", "loc"):
            found = []
            for level, (tap, template) in enumerate(zip(taps, kept[name])):
                searched = self._block(tap, f"{name}_{level}/search_block")
                correlated = conv2d(searched, template.transpose(0, 1), groups=searched.shape[1])
                hidden = self._block(correlated, f"{name}_{level}/hidden")
                found.append(_conv(hidden, self.variables, f"{name}_{level}/output"))
            logits = self.variables["params"][f"{name}_weight"] if self.weighted else torch.zeros(self.levels)
            out.append(sum(weight * maps for weight, maps in zip(torch.softmax(logits, 0), found)))
        return tuple(out)

    def _block(self, x, name):
        from torch.nn.functional import relu

        return relu(_norm(_conv(x, self.variables, f"{name}/conv"), self.variables, f"{name}/bn"))
