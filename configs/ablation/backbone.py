"""Ablation of the backbone: the reference's, with BatchNorm and with GroupNorm, and a U-Net (``models/unet.py``).

Command: ``python -m jaxcolor.ablation --config configs/ablation/backbone.py --workdir runs/backbone
--config.base.data.path=COCO --config.base.eval.data.path=COCO``, where COCO is the folder with COCO 2017's downloads
(docs/data.md). On synthetic scenes: ``--config configs/ablation/backbone.py:scenes``, without paths.
Hardware: one NVIDIA H100 and 16 CPU cores; for ``:scenes`` 2 CPU cores.
Hours: expected, 7.9 for each of the three variants and seeds as in configs/coco_stuff.py. ``:scenes``: measured, 0.013
for each on one NVIDIA H200 (46 s), 0.06 expected on 2 CPU cores.
Numbers: expected, none known for COCO: nobody ran it. ``:scenes``: measured, two seeds, PSNR 28.65 (reference), 25.54
(GroupNorm), 19.24 dB (U-Net); docs/ablation.md.

No variant can start from another's weights, so each trains all three stages, and nothing is shared. The U-Net has
GroupNorm and no dilation; ``reference_group`` tells apart what the norm does and what the layers do.
"""

from ml_collections import ConfigDict

from jaxcolor.ablation.plan import Ablation, Variant
from jaxcolor.config import Config, DataConfig, EvalConfig, ModelConfig, StageConfig
from jaxcolor.config_io import to_config_dict

VARIANTS = (
    Variant("reference"),
    Variant("reference_group", {"model.norm": "group"}),
    Variant("unet", {"model.backbone": "unet"}),
)


def get_config(variant: str = "") -> ConfigDict:
    recipes = {"": coco, "scenes": scenes}
    if variant not in recipes:
        raise ValueError(f"backbone.py:{variant}: no such variant; there is configs/ablation/backbone.py:scenes")
    return to_config_dict(Ablation("backbone", base=recipes[variant](), variants=VARIANTS, baseline="reference"))


def coco() -> Config:
    data = DataConfig(source="coco", split="train", box_choice="ground_truth", threads=16, max_crops_per_image=4.0)
    held_back = DataConfig(source="coco", split="val", box_choice="ground_truth", threads=16, max_crops_per_image=16.0)
    stage = StageConfig(steps=0, epochs=40.0, batch_size=32, learning_rate=5e-4, decay_start=0.5, flip=True)
    fusion = StageConfig(
        steps=0, epochs=10.0, batch_size=16, learning_rate=2e-4, decay_start=0.5, trained="fusion_and_output"
    )
    return Config(
        name="ablation backbone",
        model=ModelConfig(compute_dtype="bfloat16"),
        data=data,
        full=stage,
        instance=stage,
        fusion=fusion,
        log_every=100,
        checkpoint_every=5000,
        eval=EvalConfig(data=held_back),
    )


def scenes() -> Config:
    """The demo's model and training."""
    data = DataConfig(source="scenes", max_crops_per_image=4.0)
    held_out = DataConfig(source="scenes", split="held_out", max_crops_per_image=4.0)
    return Config(
        name="ablation backbone scenes",
        model=ModelConfig(side=64, width=0.25),
        data=data,
        full=StageConfig(steps=100, batch_size=16, learning_rate=1e-3),
        instance=StageConfig(steps=150, batch_size=16, learning_rate=1e-3),
        fusion=StageConfig(steps=56, batch_size=8, learning_rate=1e-3, trained="fusion_and_output"),
        log_every=5,
        checkpoint_every=50,
        eval=EvalConfig(data=held_out, photos=64, metrics=""),
    )
