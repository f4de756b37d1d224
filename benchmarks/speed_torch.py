"""The rows of ``benchmarks/speed.py`` in PyTorch, to be measured beside them on the same machine.

Command: ``python benchmarks/speed_torch.py train_full predict_8`` prints JSON. As one would write it for speed: the
networks on all photos and on all crops at once, channels_last, bfloat16 autocast on a GPU (float32 on a CPU),
cuDNN's own search for algorithms, Adam in one kernel; ``--compile`` puts the networks through ``torch.compile``. The
blend goes over the boxes one by one, as the reference code does: it resizes each feature into its box and pads it.
Same shapes, made-up batches and boxes (``speed.made_up``), rounds and medians; L and ab are computed beforehand.
"""

from __future__ import annotations

import argparse
import itertools
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

try:
    import torch
    from torch import nn
    from torch.nn import functional
except ImportError:
    sys.exit("speed_torch.py: needs PyTorch: pip install -e '.[torch]'")
from speed import ROWS, Row, made_up

from jaxcolor.models.backbone import Siggraph17

WEIGHTED = {tap.name: (tap.level, tap.channels) for tap in Siggraph17.taps}


def conv(inputs: int, outputs: int, dilation: int = 1) -> nn.Conv2d:
    """3x3, same size."""
    return nn.Conv2d(inputs, outputs, 3, padding=dilation, dilation=dilation)


def block(*channels: int, dilation: int = 1) -> nn.Sequential:
    """Convolutions with ReLU, then BatchNorm."""
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(channels):
        layers += [conv(inputs, outputs, dilation), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.BatchNorm2d(channels[-1]))


Tap = Callable[[str, torch.Tensor], torch.Tensor]


class Backbone(nn.Module):
    """The encoder-decoder."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.ModuleList(
            [
                block(4, 64, 64),
                block(64, 128, 128),
                block(128, 256, 256, 256),
                block(256, 512, 512, 512),
                block(512, 512, 512, 512, dilation=2),
                block(512, 512, 512, 512, dilation=2),
                block(512, 512, 512, 512),
            ]
        )
        sizes = ((512, 256, 256), (256, 128, 128), (128, 64, 128))  # from below, from the side, out
        self.ups = nn.ModuleList([nn.ConvTranspose2d(deep, out, 4, 2, 1) for deep, _, out in sizes])
        self.shorts = nn.ModuleList([conv(side, out) for _, side, out in sizes])
        self.decoder = nn.ModuleList([block(256, 256, 256), block(128, 128), conv(128, 128)])
        self.output = nn.Conv2d(128, 2, 1)

    def forward(self, inputs: torch.Tensor, at_tap: Tap = lambda name, x: x) -> torch.Tensor:
        """Normalized ab."""
        features, x = [], inputs
        for number, layers in enumerate(self.encoder, start=1):
            x = layers(x if number in (1, 5, 6, 7) else x[:, :, ::2, ::2])
            x = at_tap(f"conv{number}_{3 if number > 2 else 2}", x)
            features.append(x)
        for number, skip in ((8, features[2]), (9, features[1]), (10, features[0])):
            x = at_tap(f"conv{number}_up", self.ups[number - 8](x) + self.shorts[number - 8](skip))
            x = self.decoder[number - 8](functional.relu(x))
            x = at_tap(f"conv{number}_{2 if number == 10 else 3}", functional.leaky_relu(x, 0.2) if number == 10 else x)
        return torch.tanh(self.output(x).float())


class Fusion(nn.Module):
    """A backbone whose taps are blended with those of crops."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = Backbone()

        def head(channels: int) -> nn.Sequential:
            layers = [conv(channels, 16), nn.ReLU(), conv(16, 16), nn.ReLU(), conv(16, 1), nn.ReLU()]
            return nn.Sequential(*layers)

        self.full = nn.ModuleDict({name: head(channels) for name, (_, channels) in WEIGHTED.items()})
        self.instance = nn.ModuleDict({name: head(channels) for name, (_, channels) in WEIGHTED.items()})

    def forward(self, inputs: torch.Tensor, taps: dict[str, torch.Tensor], boxes: np.ndarray, each: int) -> Any:
        """Normalized ab; ``boxes`` are (M, L, 4), ``each`` of them a photo."""

        def at_tap(name: str, feature: torch.Tensor) -> torch.Tensor:
            full_logits, logits = self.full[name](feature).float(), self.instance[name](taps[name]).float()
            height, width = feature.shape[2:]
            blended = []
            for photo in range(len(feature)):
                own = range(photo * each, (photo + 1) * each)
                covered = torch.zeros((1, height, width), device=feature.device)
                features, weights = [feature[photo]], [full_logits[photo]]
                for m in own:
                    x, y, w, h = (int(v) for v in boxes[m, WEIGHTED[name][0]])
                    margin = (x, width - x - w, y, height - y - h)

                    def place(values: torch.Tensor, size: Any = (h, w), margin: Any = margin) -> torch.Tensor:
                        small = functional.interpolate(values[None], size=size, mode="bilinear", align_corners=False)
                        return functional.pad(small, margin)[0]

                    features.append(place(taps[name][m]))
                    weights.append(place(logits[m]))
                    covered[:, y : y + h, x : x + w] = 1
                weights[0] = weights[0] + (1 - covered) * 1e5
                shares = torch.softmax(torch.stack(weights), dim=0)
                blended.append((torch.stack(features) * shares).sum(dim=0))
            return torch.stack(blended).to(feature.dtype, memory_format=torch.channels_last)

        return self.trunk(inputs, at_tap)


def made(count: int, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs and true ab of so many pictures."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.rand((count, 4, 256, 256), generator=generator) - 0.5
    ab = torch.rand((count, 2, 256, 256), generator=generator) - 0.5
    return inputs.to(device, memory_format=torch.channels_last), ab.to(device, memory_format=torch.channels_last)


def loss_of(ab: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """As ``losses.picture_loss``, averaged."""
    return 10 * 2 * functional.smooth_l1_loss(ab, truth, beta=1 / 110)


def prepare(row: Row, device: str, compiled: bool) -> Callable[[], Any]:
    """One step or prediction."""

    def on_device(module: Any) -> Any:
        return module.to(device, memory_format=torch.channels_last)

    def precision() -> Any:
        return torch.autocast(device, torch.bfloat16, enabled=device == "cuda")

    inputs, truth = made(row.photos, device)
    network = on_device(Backbone())
    backbone: Any = torch.compile(network) if compiled else network
    if row.work in ("full", "instance"):
        optimizer = torch.optim.Adam(network.parameters(), lr=5e-4, fused=device == "cuda")

        def train() -> torch.Tensor:
            optimizer.zero_grad(set_to_none=True)
            with precision():
                loss = loss_of(backbone(inputs), truth)
            loss.backward()
            optimizer.step()
            return loss.detach()

        return train
    if not row.boxes:

        @torch.inference_mode()
        def color() -> torch.Tensor:
            with precision():
                return backbone.eval()(inputs)

        return color
    batch = made_up(row)
    crops = made(row.photos * row.boxes, device)[0]
    fusion = on_device(Fusion().eval())
    network.eval()
    boxes = np.asarray(batch.level_boxes)

    def taps_of_crops() -> dict[str, torch.Tensor]:
        taps: dict[str, torch.Tensor] = {}

        def keep(name: str, x: torch.Tensor) -> torch.Tensor:
            taps[name] = functional.relu(x) if name.endswith("_up") else x
            return x

        with torch.no_grad():
            network(crops, keep)
        return taps

    def blend_all() -> Any:
        with precision():
            return fusion(inputs, taps_of_crops(), boxes, row.boxes)

    if row.work == "predict":
        return torch.inference_mode()(blend_all)
    for parameter in fusion.trunk.parameters():
        parameter.requires_grad_(False)
    trained = [
        p
        for part in (fusion.full, fusion.instance, fusion.trunk.decoder[2], fusion.trunk.output)
        for p in part.parameters()
    ]
    for parameter in trained:
        parameter.requires_grad_(True)
    optimizer = torch.optim.Adam(trained, lr=5e-5, fused=device == "cuda")

    def train_fusion() -> torch.Tensor:
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(blend_all(), truth)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return train_fusion


def measure(row: Row, device: str, compiled: bool, rounds: int) -> dict[str, Any]:
    """One row."""
    call = prepare(row, device, compiled)

    def wait() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    began = time.perf_counter()
    call()
    wait()
    first = time.perf_counter() - began
    times = []
    for _ in range(rounds + 2):
        began = time.perf_counter()
        for _ in range(row.calls):
            call()
        wait()
        times.append((time.perf_counter() - began) / row.calls)
    seconds = statistics.median(times[2:])
    return {
        "ms": round(1e3 * seconds, 3),
        "ms_lowest_highest": [round(1e3 * f(times[2:]), 3) for f in (min, max)],
        "photos_per_second": round(row.photos / seconds, 1),
        "first_call_s": round(first, 1),
        "peak_memory_gib": round(torch.cuda.max_memory_allocated() / 2**30, 2) if device == "cuda" else None,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    rows = tuple(name for name, row in ROWS.items() if not (row.cuda_graphs or row.crop_sides))
    parser.add_argument("rows", nargs="+", choices=rows, metavar="ROW", help=", ".join(rows))
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--compile", action="store_true", help="torch.compile; rows without boxes only")
    parser.add_argument("--threads", type=int, help="on a CPU")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    name = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    result: dict[str, Any] = {
        "machine": f"{platform.machine()}, {name}",
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "compiled": options.compile,
    }
    for row in options.rows:
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        result[row] = measure(ROWS[row], device, options.compile, options.rounds)
        print(json.dumps({row: result[row]}), flush=True)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
