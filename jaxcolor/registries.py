"""What the package brings along of everything that people add, by name; ``my_code.module:Name`` names anything else.

Fusion strategies, backbones, output heads, data sources, box stores and trackers are found here, metrics in
``evaluation/metrics/registry.py``. Nothing is imported before a config asks for it. docs/architecture.md says how to
add one of each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jaxcolor.runtime.registry import Registry

if TYPE_CHECKING:
    from jaxcolor.config import ModelConfig

SOURCES = Registry(
    "data source",
    {
        "scenes": "jaxcolor.data.sources.scenes:scene_source",
        "folder": "jaxcolor.data.sources.registry:photo_source",
        "coco": "jaxcolor.data.sources.registry:photo_source",
        "tfds": "jaxcolor.data.sources.registry:photo_source",
    },
)
"""``data.source``: callables (DataConfig, side of the canvas) -> ``data.types.Source``."""

BOX_STORES = Registry(
    "box store",
    {
        "npz": "jaxcolor.data.boxes.npz:npz_store",
        "coco_detections": "jaxcolor.data.boxes.coco:read_detections",
        "coco_instances": "jaxcolor.data.boxes.coco:read_instances",
        "voc": "jaxcolor.data.boxes.voc:voc_store",
        "packed": "jaxcolor.data.boxes.packed:PackedStore",
    },
)
"""``data.boxes_format``: callables (path) -> ``data.boxes.base.BoxStore``."""

BACKBONES = Registry(
    "backbone",
    {"reference": "jaxcolor.models.backbone:Siggraph17", "unet": "jaxcolor.models.unet:UNet"},
    base="jaxcolor.models.backbone:Backbone",
)
"""``model.backbone``: subclasses of ``models.backbone.Backbone``."""

OUTPUTS = Registry(
    "output head",
    {
        "regression": "jaxcolor.models.outputs.regression:Regression",
        "classes": "jaxcolor.models.outputs.classes:Classes",
    },
    base="jaxcolor.models.outputs:OutputHead",
)
"""``model.outputs``: subclasses of ``models.outputs.OutputHead``."""

FUSION_STRATEGIES = Registry(
    "fusion strategy",
    {
        "learned": "jaxcolor.models.fusion:Learned",
        "box_mask": "jaxcolor.models.fusion:BoxMask",
        "truth_mask": "jaxcolor.models.fusion:TruthMask",
        "gated": "jaxcolor.models.gated:Gated",
        "feathered": "jaxcolor.models.feathered:Feathered",
    },
    base="jaxcolor.models.fusion:FusionStrategy",
)
"""``model.fusion.strategy``: subclasses of ``models.fusion.FusionStrategy``."""


TRACKERS = Registry("tracker", {"tensorboard": "jaxcolor.training.trackers:TensorBoard"})
"""``trackers``: callables (``training.trackers.Tracked``) -> ``training.trackers.Tracker``."""


def _model_parts(model: ModelConfig) -> list[tuple[Registry, str]]:
    """What a model is put together from."""
    outputs = [(OUTPUTS, name) for name in model.outputs]
    return [(BACKBONES, model.backbone), *outputs, (FUSION_STRATEGIES, model.fusion.strategy)]


def import_parts(model: ModelConfig) -> None:
    """Imports what a run's own config names, so that mistakes show before anything is computed.

    Raises:
      UserError: a part that cannot be found (``Registry.get``).
    """
    for registry, name in _model_parts(model):
        registry.get(name)


def check_parts_imported(model: ModelConfig) -> None:
    """Checks that a config found in a file names nothing but built-in parts and what this process has imported.

    Raises:
      NotImportedError: the file alone asks for it (``Registry.check_imported``).
    """
    for registry, name in _model_parts(model):
        registry.check_imported(name)
