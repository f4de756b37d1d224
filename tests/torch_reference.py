"""The reference's networks in PyTorch, as their state dicts and DESIGN describe them: what weights written back run in.

Small on purpose: inference mode, one photo at a time, as the reference runs them.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from jaxcolor.weights.names import WEIGHT_LAYERS

LEVELS = dict(zip(WEIGHT_LAYERS, (0, 1, 2, 3, 3, 3, 3, 2, 2, 1, 1, 0, 0), strict=True))
CHANNELS = dict(zip(WEIGHT_LAYERS, (64, 128, 256, 512, 512, 512, 512, 256, 256, 128, 128, 128, 128), strict=True))


def _conv(inputs: int, outputs: int, dilation: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=dilation, dilation=dilation)


def _block(*channels: int, dilation: int = 1, relu_first: bool = False) -> nn.Sequential:
    layers: list[nn.Module] = [nn.ReLU()] if relu_first else []
    for inputs, outputs in itertools.pairwise(channels):
        layers += [_conv(inputs, outputs, dilation), nn.ReLU()]
    return nn.Sequential(*layers, nn.BatchNorm2d(channels[-1]))


class Backbone(nn.Module):
    """GComp, G, siggraph17. ``at_tap`` changes features on their way."""

    def __init__(self) -> None:
        super().__init__()
        self.model1 = _block(4, 64, 64)
        self.model2 = _block(64, 128, 128)
        self.model3 = _block(128, 256, 256, 256)
        self.model4 = _block(256, 512, 512, 512)
        self.model5 = _block(512, 512, 512, 512, dilation=2)
        self.model6 = _block(512, 512, 512, 512, dilation=2)
        self.model7 = _block(512, 512, 512, 512)
        for number, deep, skip, outputs in ((8, 512, (3, 256), 256), (9, 256, (2, 128), 128), (10, 128, (1, 64), 128)):
            self.add_module(f"model{number}up", nn.Sequential(nn.ConvTranspose2d(deep, outputs, 4, 2, 1)))
            self.add_module(f"model{skip[0]}short{number}", nn.Sequential(_conv(skip[1], outputs)))
        self.model8 = _block(256, 256, 256, relu_first=True)
        self.model9 = _block(128, 128, relu_first=True)
        self.model10 = nn.Sequential(nn.ReLU(), _conv(128, 128), nn.LeakyReLU(0.2))
        self.model_class = nn.Sequential(nn.Conv2d(256, 529, 1))
        self.model_out = nn.Sequential(nn.Conv2d(128, 2, 1), nn.Tanh())
        self.taps: dict[str, torch.Tensor] = {}

    def at_tap(self, name: str, feature: torch.Tensor) -> torch.Tensor:
        # What is fused from an instance's *_up features comes after the ReLU that follows (DESIGN, trap 2).
        self.taps[name] = functional.relu(feature) if name.endswith("_up") else feature
        return feature

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        x1 = self.at_tap("conv1_2", self.model1(inputs))
        x2 = self.at_tap("conv2_2", self.model2(x1[:, :, ::2, ::2]))
        x3 = self.at_tap("conv3_3", self.model3(x2[:, :, ::2, ::2]))
        x4 = self.at_tap("conv4_3", self.model4(x3[:, :, ::2, ::2]))
        x5 = self.at_tap("conv5_3", self.model5(x4))
        x6 = self.at_tap("conv6_3", self.model6(x5))
        x7 = self.at_tap("conv7_3", self.model7(x6))
        x8 = self.model8(self.at_tap("conv8_up", self.model8up(x7) + self.model3short8(x3)))
        x8 = self.at_tap("conv8_3", x8)
        x9 = self.model9(self.at_tap("conv9_up", self.model9up(x8) + self.model2short9(x2)))
        x9 = self.at_tap("conv9_3", x9)
        x10 = self.model10(self.at_tap("conv10_up", self.model10up(x9) + self.model1short10(x1)))
        return self.model_out(self.at_tap("conv10_2", x10))


class _WeightLayer(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        for name in ("simple_instance_conv", "simple_bg_conv"):
            convs = [_conv(channels, 16), nn.ReLU(), _conv(16, 16), nn.ReLU(), _conv(16, 1), nn.ReLU()]
            self.add_module(name, nn.Sequential(*convs))


class Fusion(Backbone):
    """GF: one photo and the taps of its instances."""

    def __init__(self) -> None:
        super().__init__()
        for tap, module in WEIGHT_LAYERS.items():
            self.add_module(module, _WeightLayer(CHANNELS[tap]))
        self.weight_layerout = _WeightLayer(2)
        self.instances: dict[str, torch.Tensor] = {}
        self.boxes: Sequence = ()

    def at_tap(self, name: str, feature: torch.Tensor) -> torch.Tensor:
        heads = self.get_submodule(WEIGHT_LAYERS[name])
        side = feature.shape[2:]
        covered = torch.zeros(side)
        features, logits = [], [heads.simple_bg_conv(feature)[0, 0]]
        instance_logits = heads.simple_instance_conv(self.instances[name])
        for i, box in enumerate(self.boxes):
            x, y, width, height = (int(v) for v in box[LEVELS[name]])
            at = (slice(y, y + height), slice(x, x + width))

            def place(values: torch.Tensor, at: tuple = at, size: tuple = (height, width)) -> torch.Tensor:
                placed = torch.zeros((values.shape[0], *side))
                small = functional.interpolate(values[None], size=size, mode="bilinear", align_corners=False)
                placed[(slice(None), *at)] = small[0]
                return placed

            features.append(place(self.instances[name][i]))
            logits.append(place(instance_logits[i])[0])
            covered[at] = 1
        logits[0] = logits[0] + (1 - covered) * 1e5
        weights = torch.softmax(torch.stack(logits), dim=0)
        return (torch.stack([feature[0], *features]) * weights[:, None]).sum(0)[None]
