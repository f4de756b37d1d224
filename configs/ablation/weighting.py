"""Ablation of the weighting: a softmax of predicted maps, gates, box masks, annotated masks (the paper's section 4).

Command: ``python -m jaxcolor.ablation --config configs/ablation/weighting.py --workdir runs/weighting
--config.base.data.path=COCO --config.base.eval.data.path=COCO``, where COCO is the folder with COCO 2017's downloads
(docs/data.md). From weights that there are, in place of training stages full and instance: ``--config.shared='()'
--config.base.start_from=WEIGHTS``. On synthetic scenes, to see that it works:
``--config configs/ablation/weighting.py:scenes``, without paths.
Hardware: one NVIDIA H100 and 16 CPU cores; for ``:scenes`` 2 CPU cores.
Hours: expected, 6.1 for stages full and instance as in configs/coco_stuff.py, then 1.8 for each of the four variants
and seeds. ``:scenes``: measured, 0.05 (187 s, with other work on the machine).
Numbers: expected, none known: the paper's table could not be looked up, and nobody ran this. ``:scenes`` trains too
little to show anything.

All variants use annotated boxes, since only these have masks; each has room for the same crops. ``gated``, which the
paper does not have, has the heads of ``learned`` and a sigmoid for each instance (``models/gated.py``). The variants by
masks have no weight heads: what they train is the output block alone, which the others train as well.
"""

from ml_collections import ConfigDict

from jaxcolor.ablation.plan import Ablation, Variant
from jaxcolor.config import Config, DataConfig, EvalConfig, ModelConfig, StageConfig
from jaxcolor.config_io import to_config_dict

VARIANTS = (
    Variant("learned"),
    Variant("gated", {"model.fusion.strategy": "gated"}),
    Variant("box_mask", {"model.fusion.strategy": "box_mask"}),
    Variant("truth_mask", {"model.fusion.strategy": "truth_mask", "data.masks": True, "eval.data.masks": True}),
)


def get_config(variant: str = "") -> ConfigDict:
    configs = {"": coco, "scenes": scenes}
    if variant not in configs:
        raise ValueError(f"{variant!r}: no such variant; there is configs/ablation/weighting.py:scenes")
    return to_config_dict(Ablation("weighting", base=configs[variant](), variants=VARIANTS, baseline="learned"))


def coco() -> Config:
    data = DataConfig(source="coco", split="train", box_choice="ground_truth", threads=16, max_crops_per_image=4.0)
    held_back = DataConfig(source="coco", split="val", box_choice="ground_truth", threads=16, max_crops_per_image=16.0)
    backbone = StageConfig(steps=0, epochs=40.0, batch_size=32, learning_rate=5e-4, decay_start=0.5, flip=True)
    fusion = StageConfig(
        steps=0, epochs=10.0, batch_size=16, learning_rate=2e-4, decay_start=0.5, trained="fusion_and_output"
    )
    return Config(
        name="ablation weighting",
        stages=("fusion",),
        model=ModelConfig(compute_dtype="bfloat16"),
        data=data,
        full=backbone,
        instance=backbone,
        fusion=fusion,
        log_every=100,
        checkpoint_every=5000,
        eval=EvalConfig(data=held_back),
    )


def scenes() -> Config:
    data = DataConfig(source="scenes", box_choice="ground_truth", max_crops_per_image=4.0)
    held_out = DataConfig(source="scenes", split="held_out", box_choice="ground_truth", max_crops_per_image=4.0)
    backbone = StageConfig(steps=20, batch_size=16, learning_rate=1e-3)
    return Config(
        name="ablation weighting scenes",
        stages=("fusion",),
        model=ModelConfig(side=32, width=0.125),
        data=data,
        full=backbone,
        instance=backbone,
        fusion=StageConfig(steps=20, batch_size=8, learning_rate=1e-3, trained="fusion_and_output"),
        log_every=5,
        checkpoint_every=20,
        eval=EvalConfig(data=held_out, photos=32, metrics=""),
    )
