"""The small weights that come with the package, for small machines: half the width, distilled from the default ones.

The network starts from the teacher's most important channels and learns the teacher's colors, not the photos'
(docs/fast_weights.md says why, and what came out).

Command: ``python train.py --config configs/fast_weights.py --workdir runs/fast --config.data.path=PHOTOS``, where
PHOTOS is a folder or zip file of photos of short side 256 or more. Teacher and start are the package's weights;
``--config.objective.teacher=FILE --config.start_from=narrowed:FILE`` names others, say those before rounding.
Hardware: one NVIDIA H200 (110,000 photos take 34 GB of its memory), or several GPUs.
Hours: measured, 0.22 for 15,600 steps of 64 photos on one NVIDIA H200 (1,480 photos/s), compilation included.
Numbers: measured, 72,675 photos: 119 photos of COCO, PSNR gray 22.33, full 24.03 dB (the teacher 24.07), LPIPS 0.178;
COCO val2017 24.55 dB, 0.164.
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
            name="fast_weights",
            stages=("full",),
            start_from="narrowed:default",
            low_chroma=0.0,  # what the photo's own color is does not matter
            model=ModelConfig(width=0.5, compute_dtype="bfloat16", outputs=("regression", "classes")),
            data=DataConfig(source="folder", cache="device", threads=32, missing_boxes="none", bad_photos="skip"),
            full=StageConfig(
                steps=20_000,
                batch_size=64,
                learning_rate=1e-3,
                warmup_steps=300,
                schedule="cosine",
                flip=True,
                crop_area=0.35,
            ),
            objective=ObjectiveConfig(teacher="default", distill=1.0, classes=0.2),
            hints=HintConfig(enabled=True, probability=0.3),
            augment=AugmentConfig(color_jitter=0.15, cutmix=0.3, old_photos=0.15),
            optimizer=OptimizerConfig(ema_decay=0.999),
            log_every=100,
            checkpoint_every=2000,
            eval=EvalConfig(data=DataConfig(source="folder", threads=16, missing_boxes="none")),
        )
    )
