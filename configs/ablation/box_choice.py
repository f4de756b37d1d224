"""Ablation of the choice of boxes at test time: the best by score, random ones, all above a threshold, annotated ones.

Command: ``python -m jaxcolor.ablation --config configs/ablation/box_choice.py --workdir runs/box_choice
--config.base.data.path=COCO --config.base.eval.data.path=COCO --config.base.data.boxes_path=TRAIN.boxes
--config.base.eval.data.boxes_path=VAL.boxes``, where COCO is the folder with COCO 2017's downloads, and the boxes are
detections on its gray photos (docs/data.md). From weights that there are, in place of training stages full and
instance: ``--config.shared='()' --config.base.start_from=WEIGHTS``; and if they have a fusion tree to be measured as it
is, ``--config.base.fusion.epochs=0``. On synthetic scenes, to see that it works:
``--config configs/ablation/box_choice.py:scenes``, without paths.
Hardware: one NVIDIA H100 and 16 CPU cores; for ``:scenes`` 2 CPU cores.
Hours: expected, 6.1 + 1.8 for the three stages, as in configs/coco_stuff.py: the variants differ in ``eval`` alone, so
one of them is trained for all. ``:scenes``: measured, 0.02.
Numbers: expected, none known: the paper's table could not be looked up, and nobody ran this. ``:scenes`` trains too
little to show anything.

Training takes the best 8 detections. The threshold, 0.9 where detections begin at 0.7, was chosen. Every variant has
room for 16 crops a photo. Metrics of objects and background are not to be compared here: they look at the boxes that
the variant itself was given. Scenes have 2 to 4 objects, so that there the best one and one random one are taken.
"""

from ml_collections import ConfigDict

from jaxcolor.ablation.plan import Ablation, Variant
from jaxcolor.config import Config, DataConfig, EvalConfig, ModelConfig, StageConfig
from jaxcolor.config_io import to_config_dict

VARIANTS = (
    Variant("top"),
    Variant("random", {"eval.data.box_choice": "random_k"}),
    Variant("threshold", {"eval.data.box_choice": "threshold"}),
    Variant("ground_truth", {"eval.data.box_choice": "ground_truth"}),
)


def get_config(variant: str = "") -> ConfigDict:
    configs = {"": coco, "scenes": scenes}
    if variant not in configs:
        raise ValueError(f"{variant!r}: no such variant; there is configs/ablation/box_choice.py:scenes")
    return to_config_dict(Ablation("box_choice", base=configs[variant](), variants=VARIANTS, baseline="top"))


def coco() -> Config:
    data = DataConfig(source="coco", split="train", threads=16, max_crops_per_image=4.0)
    held_back = DataConfig(source="coco", split="val", score_threshold=0.9, threads=16, max_crops_per_image=16.0)
    backbone = StageConfig(steps=0, epochs=40.0, batch_size=32, learning_rate=5e-4, decay_start=0.5, flip=True)
    fusion = StageConfig(
        steps=0, epochs=10.0, batch_size=16, learning_rate=2e-4, decay_start=0.5, trained="fusion_and_output"
    )
    return Config(
        name="ablation box_choice",
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
    data = DataConfig(source="scenes", max_crops_per_image=4.0)
    held_out = DataConfig(
        source="scenes", split="held_out", boxes_per_photo=1, score_threshold=0.85, max_crops_per_image=4.0
    )
    backbone = StageConfig(steps=20, batch_size=16, learning_rate=1e-3)
    return Config(
        name="ablation box_choice scenes",
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
