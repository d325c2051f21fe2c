"""The networks of ATOM and DiMP in PyTorch, with our parameters (`torch_layers.tensors`)."""

from typing import Any

from eval.benchmark import torch_layers, torch_operators
from eval.benchmark.torch_layers import Tensor, at, conv, norm
from trackers.nets import resnet
from trackers.nets.dimp_classifier import FILTER_SIZE, STRIDE
from trackers.nets.iou_net import COARSE, FINE, PREDICTION_BINS

Taps = dict[str, Tensor]  # [N, C, h, w] by layer


def backbone(module: resnet.ResNet, variables: Any, images: Tensor) -> Taps:
    """Images `[N, 3, H, W]` RGB 0..255 -> the taps of a ResNet."""
    import torch
    from torch.nn.functional import max_pool2d, relu

    mean, deviation = (255 * torch.tensor(each)[:, None, None] for each in (resnet.IMAGENET_MEAN, resnet.IMAGENET_STD))
    x = relu(norm(conv((images - mean) / deviation, variables, "conv1", 2, 3), variables, "bn1"))
    x = max_pool2d(x, 3, 2, 1)
    taps = {}
    for index, layer in enumerate(resnet.LAYERS[: resnet.LAYERS.index(module.last_layer) + 1]):
        for block in range(resnet.BLOCKS[module.depth][index]):
            stride = 2 if block == 0 and index > 0 else 1
            if module.depth < 50:
                x = basic_block(x, variables, f"{layer}_{block}", stride)
            else:
                x = _bottleneck(x, variables, f"{layer}_{block}", stride, module.stride_first)
        taps[layer] = x
    return taps


def basic_block(x, variables, name, stride=1):
    from torch.nn.functional import relu

    y = relu(norm(conv(x, variables, f"{name}/conv1", stride, 1), variables, f"{name}/bn1"))
    y = norm(conv(y, variables, f"{name}/conv2", padding=1), variables, f"{name}/bn2")
    return relu(y + _shortcut(x, variables, name, stride))


def _bottleneck(x, variables, name, stride, stride_first):
    from torch.nn.functional import relu

    first, second = (stride, 1) if stride_first else (1, stride)
    y = relu(norm(conv(x, variables, f"{name}/conv1", first), variables, f"{name}/bn1"))
    y = relu(norm(conv(y, variables, f"{name}/conv2", second, 1), variables, f"{name}/bn2"))
    y = norm(conv(y, variables, f"{name}/conv3"), variables, f"{name}/bn3")
    return relu(y + _shortcut(x, variables, name, stride))


def _shortcut(x, variables, name, stride):
    if "downsample_conv" not in at(variables["params"], name):
        return x
    return norm(conv(x, variables, f"{name}/downsample_conv", stride), variables, f"{name}/downsample_bn")


def modulation(variables: Any, taps: Taps, box: Tensor) -> tuple[Tensor, Tensor]:
    """The IoU-Net's vectors `[inner]` of the target with `box` `[4]` in sample 0."""
    import torch

    pool, corners = torch_operators.prroi_pooling, _corners(box)[None]
    fine = pool(_conv_block(taps["layer2"][:1], variables, "conv3_1r", 1), corners, 3, FINE)
    coarse = pool(_conv_block(taps["layer3"][:1], variables, "conv4_1r", 1), corners, 1, COARSE)
    both = torch.cat([_conv_block(fine, variables, "fc3_1r"), coarse], 1)
    return tuple(_conv_block(both, variables, name).flatten() for name in ("fc34_3r", "fc34_4r"))


def iou_features(variables: Any, taps: Taps) -> tuple[Tensor, Tensor]:
    """Of a search crop: `[1, inner, h, w]` of layer2 and of layer3, channels last as pooling takes them."""
    found = (
        _conv_block(_conv_block(taps[layer], variables, f"{name}_1t", 1), variables, f"{name}_2t", 1)
        for layer, name in (("layer2", "conv3"), ("layer3", "conv4"))
    )
    return tuple(torch_layers.laid_out(one, "channels last") for one in found)


def _conv_block(x, variables, name, padding=0):
    from torch.nn.functional import relu

    return relu(norm(conv(x, variables, f"{name}/conv", padding=padding), variables, f"{name}/bn"))


def predict_iou(variables: Any, vectors: tuple, features: tuple, boxes: Tensor) -> Tensor:
    """x, y, w, h `[P, 4]` -> the overlaps `[P]` that the IoU-Net predicts."""

    def layer(name):
        learned, kept = variables["params"][name], variables["batch_stats"][name]["bn"]
        rest = learned["linear"]["bias"], kept["mean"], kept["var"], learned["bn"]["scale"], learned["bn"]["bias"]
        return learned["linear"]["kernel"], *rest

    last = variables["params"]["iou_predictor"]
    return torch_operators.iou_prediction(
        _corners(boxes),
        vectors,
        features,
        (layer("fc3_rt"), layer("fc4_rt")),
        (last["kernel"], last["bias"]),
        PREDICTION_BINS,
        (FINE, COARSE),
        resnet.BATCH_NORM_EPSILON,
    )


def initial_filter(variables: Any, samples: Tensor, boxes: Tensor) -> Tensor:
    """Features `[N, C, h, w]` and boxes `[N, 4]` -> filter `[1, C, 4, 4]`."""
    import torch

    maps = conv(samples, variables, "filter_conv", padding=1)
    corners = _corners(boxes)
    pooled = [torch_operators.prroi_pooling(maps[[i]], corners[[i]], FILTER_SIZE, 1 / STRIDE) for i in range(len(maps))]
    return torch.cat(pooled).mean(0, keepdim=True)


def _corners(xywh: Tensor) -> Tensor:
    import torch

    return torch.cat([xywh[..., :2], xywh[..., :2] + xywh[..., 2:]], -1)
