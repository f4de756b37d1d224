"""LPIPS in PyTorch, from its paper and torchvision's lists of layers: what ours is compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import nn


class Fire(nn.Module):
    def __init__(self, inputs: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(inputs, squeezed, 1)
        self.expand1x1 = nn.Conv2d(squeezed, expanded, 1)
        self.expand3x3 = nn.Conv2d(squeezed, expanded, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.squeeze(x))
        return torch.cat([torch.relu(self.expand1x1(x)), torch.relu(self.expand3x3(x))], 1)


def alexnet() -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2)]
    layers += [nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)]
    for inputs, outputs in [(192, 384), (384, 256), (256, 256)]:
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers)


def squeezenet() -> nn.Sequential:
    def pool() -> nn.Module:
        return nn.MaxPool2d(3, 2, ceil_mode=True)

    layers: list[nn.Module] = [nn.Conv2d(3, 64, 3, 2), nn.ReLU(), pool(), Fire(64, 16, 64), Fire(128, 16, 64), pool()]
    layers += [Fire(128, 32, 128), Fire(256, 32, 128), pool(), Fire(256, 48, 192), Fire(384, 48, 192)]
    return nn.Sequential(*layers, Fire(384, 64, 256), Fire(512, 64, 256))


def vgg() -> nn.Sequential:
    layers: list[nn.Module] = []
    inputs = 3
    for outputs in [64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512]:
        if outputs:
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()]
            inputs = outputs
        else:
            layers.append(nn.MaxPool2d(2, 2))
    return nn.Sequential(*layers)


NETWORKS = {"alex": alexnet, "squeeze": squeezenet, "vgg": vgg}
TAPS = {"alex": (1, 4, 7, 9, 11), "squeeze": (1, 4, 7, 9, 10, 11, 12), "vgg": (3, 8, 15, 22, 29)}
"""Numbers of the layers whose outputs are compared."""


def lpips(
    net: str, trunk: Mapping[str, np.ndarray], heads: Sequence[np.ndarray], first: np.ndarray, second: np.ndarray
) -> np.ndarray:
    """Of pictures (B, H, W, 3) with values 0 to 255."""
    network = NETWORKS[net]()
    state = {name.removeprefix("features."): torch.from_numpy(array) for name, array in trunk.items()}
    network.load_state_dict(state, strict=True)
    features = []
    for picture in (first, second):
        x = torch.from_numpy(picture).permute(0, 3, 1, 2).double() / 127.5 - 1
        shift = torch.tensor([-0.030, -0.088, -0.188]).double()[:, None, None]
        x = (x - shift) / torch.tensor([0.458, 0.448, 0.450]).double()[:, None, None]
        taps = []
        with torch.no_grad():
            for i, layer in enumerate(network.double()):
                x = layer(x)
                if i in TAPS[net]:
                    taps.append(x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10))
        features.append(taps)
    total = np.zeros(len(first))
    for a, b, head in zip(*features, heads, strict=True):
        weights = torch.from_numpy(head).double()[:, None, None]
        total += ((a - b).square() * weights).sum(1).mean((1, 2)).numpy()
    return total
