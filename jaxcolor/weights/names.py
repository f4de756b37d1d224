"""The reference's parameter names beside ours, and the memory layouts of both.

The reference is the PyTorch code of the paper's authors (ericsujw/InstColorization), whose backbone is
``siggraph17``. Its files are ``latest_net_GComp.pth`` (full), ``latest_net_G.pth`` (instance) and
``latest_net_GF.pth`` (fusion; its keys carry ``module.``).
"""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np

REFERENCE_FILES = {"full": "latest_net_GComp.pth", "instance": "latest_net_G.pth", "fusion": "latest_net_GF.pth"}
REFERENCE_NETWORKS = {"full": "GComp", "instance": "G", "fusion": "GF"}
"""Our trees and the reference's names of them."""

UNUSED = {
    "full": re.compile(r".*\.num_batches_tracked"),
    "instance": re.compile(r".*\.num_batches_tracked|model_class\..*"),
    "fusion": re.compile(r".*\.num_batches_tracked|model_class\..*|weight_layerout\..*"),
}
"""Keys of the reference's files that no computation reads; they are kept so that they can be exported again."""


class Entry(NamedTuple):
    """One array: its path in a tree, and the reference's name of it."""

    collection: str
    """``params`` or ``batch_stats``."""
    path: tuple[str, ...]
    reference: str


_CONVS = [
    (f"conv{block}_{i + 1}", f"model{block}.{2 * i}")
    for block, n in enumerate((2, 2, 3, 3, 3, 3, 3), 1)
    for i in range(n)
]
_CONVS += [
    ("short3_8", "model3short8.0"),
    ("conv8_2", "model8.1"),
    ("conv8_3", "model8.3"),
    ("short2_9", "model2short9.0"),
    ("conv9_3", "model9.1"),
    ("short1_10", "model1short10.0"),
    ("conv10_2", "model10.1"),
    ("output", "model_out.0"),
]
_UPS = [("conv8_up", "model8up.0"), ("conv9_up", "model9up.0"), ("conv10_up", "model10up.0")]
_NORMS = [(f"norm{block}", f"model{block}.{i}") for block, i in enumerate((4, 4, 6, 6, 6, 6, 6, 5, 3), 1)]
_CLASSES = [("classes", "model_class.0")]
WEIGHT_LAYERS = {
    "conv1_2": "weight_layer",
    "conv2_2": "weight_layer2",
    "conv3_3": "weight_layer3",
    "conv4_3": "weight_layer4",
    "conv5_3": "weight_layer5",
    "conv6_3": "weight_layer6",
    "conv7_3": "weight_layer7",
    "conv8_up": "weight_layer8_1",
    "conv8_3": "weight_layer8_2",
    "conv9_up": "weight_layer9_1",
    "conv9_3": "weight_layer9_2",
    "conv10_up": "weight_layer10_1",
    "conv10_2": "weight_layer10_2",
}
"""Tap -> the reference's weight module."""
_HEADS = {"instance_head": "simple_instance_conv", "full_head": "simple_bg_conv"}


def _layer(path: tuple[str, ...], reference: str) -> list[Entry]:
    return [
        Entry("params", (*path, "kernel"), f"{reference}.weight"),
        Entry("params", (*path, "bias"), f"{reference}.bias"),
    ]


def _backbone(prefix: tuple[str, ...], class_head: bool) -> list[Entry]:
    entries: list[Entry] = []
    for ours, reference in _CONVS + _UPS + (_CLASSES if class_head else []):
        entries += _layer((*prefix, ours), reference)
    for ours, reference in _NORMS:
        for collection, leaf, suffix in (
            ("params", "scale", "weight"),
            ("params", "bias", "bias"),
            ("batch_stats", "mean", "running_mean"),
            ("batch_stats", "var", "running_var"),
        ):
            entries.append(Entry(collection, (*prefix, ours, leaf), f"{reference}.{suffix}"))
    return entries


def _heads() -> list[Entry]:
    entries: list[Entry] = []
    for tap, module in WEIGHT_LAYERS.items():
        for head, sequence in _HEADS.items():
            for i in range(3):
                path = (f"fuse_{tap}", head, f"conv{i + 1}")
                entries += _layer(path, f"{module}.{sequence}.{2 * i}")
    return entries


ENTRIES: dict[str, list[Entry]] = {
    "full": _backbone((), class_head=True),
    "instance": _backbone((), class_head=False),
    "fusion": _backbone(("trunk",), class_head=False) + _heads(),
}
"""Every array of each tree of the reference's architecture."""


def unused_shapes(tree: str) -> dict[str, tuple[int, ...]]:
    """Reference key -> shape of every array that the reference's network has and no computation reads."""
    shapes: dict[str, tuple[int, ...]] = {f"{module}.num_batches_tracked": () for _, module in _NORMS}
    if tree != "full":
        shapes |= {"model_class.0.weight": (529, 256, 1, 1), "model_class.0.bias": (529,)}
    if tree == "fusion":
        for head in _HEADS.values():
            for i, (inputs, outputs) in enumerate(((2, 16), (16, 16), (16, 1))):
                name = f"weight_layerout.{head}.{2 * i}"
                shapes |= {f"{name}.weight": (outputs, inputs, 3, 3), f"{name}.bias": (outputs,)}
    return shapes


def from_reference(array: np.ndarray) -> np.ndarray:
    """An array in the reference's layout in ours: kernels O I H W to H W I O, transposed ones I O H W to H W O I."""
    return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array


def to_reference(array: np.ndarray) -> np.ndarray:
    """The inverse of ``from_reference``."""
    return array.transpose(3, 2, 0, 1) if array.ndim == 4 else array
