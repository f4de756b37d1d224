"""What the package brings along of everything that people add, by name; ``my_code.module:Name`` names anything else.

Fusion strategies, backbones, output heads, data sources and box stores are found here, metrics in
``evaluation/metrics/registry.py``. Nothing is imported before a config asks for it. docs/architecture.md says how to
add one of each.
"""

from jaxcolor.runtime.registry import Registry

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
    "model.backbone",
    {"reference": "jaxcolor.models.backbone:Siggraph17", "unet": "jaxcolor.models.unet:UNet"},
)
"""Subclasses of ``models.backbone.Backbone``."""

OUTPUTS = Registry(
    "model.outputs",
    {
        "regression": "jaxcolor.models.outputs.regression:Regression",
        "classes": "jaxcolor.models.outputs.classes:Classes",
    },
)
"""Subclasses of ``models.outputs.OutputHead``."""

FUSION_STRATEGIES = Registry(
    "model.fusion.strategy",
    {
        "learned": "jaxcolor.models.fusion:Learned",
        "box_mask": "jaxcolor.models.fusion:BoxMask",
        "truth_mask": "jaxcolor.models.fusion:TruthMask",
        "gated": "jaxcolor.models.gated:Gated",
    },
)
"""Subclasses of ``models.fusion.FusionStrategy``."""
