"""Instances of the package's weights: crops with context, fused into the decoder (docs/instances.md, run 4).

The instance network is the full-image network itself (no steps of its own); the fusion network's encoder stays the
full network's, its decoder and weight heads are trained. Photos and boxes are held in the devices' memory, where crops
are cut.

Command: ``python train.py --config configs/instances.py --workdir runs/instances --config.start_from=WEIGHTS
--config.data.path=PHOTOS --config.objective.prior=prior.npz``, where WEIGHTS holds a full-image network that
configs/default_weights.py trained, PHOTOS is a folder of photos of short side 480 or more with their boxes in
PHOTOS_bbox, and prior.npz is the prior that the network was trained with.
Hardware: one NVIDIA H200 (18,000 photos take 13 GB of its memory), or several GPUs.
Hours: measured, 0.06 for 3,000 steps on one NVIDIA H200 (499 photos/s); 0.09 for 4,300 steps of 96 on three.
Package: stored with ``scripts/make_default_weights.py --taps conv8_3,conv10_2``: at the decoder's four other taps
instances have hardly a share. Trained for these two alone (``--config.model.fusion.layers``) it is as good (run 8).
Numbers: measured, the former on COCO val2017 with own boxes (run 4): full 24.65, fused 24.79 dB, objects 25.53 and
25.74, LPIPS 0.160 and 0.155.
"""

from ml_collections import ConfigDict

from jaxcolor.config import (
    AugmentConfig,
    Config,
    DataConfig,
    EvalConfig,
    FusionConfig,
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
            name="instances",
            stages=("instance", "fusion"),
            model=ModelConfig(
                compute_dtype="bfloat16",
                outputs=("regression", "classes"),
                crop_context=1.0,
                crop_least=0.35,
                fusion=FusionConfig(strategy="feathered", outside="masked", layers="decoder"),
            ),
            data=DataConfig(
                source="folder",
                cache="device",
                cache_side=480,
                threads=32,
                missing_boxes="none",
                bad_photos="skip",
                gray_photos="skip",
            ),
            instance=StageConfig(steps=0, batch_size=32),
            fusion=StageConfig(
                steps=3000,
                batch_size=32,
                learning_rate=1e-3,
                schedule="cosine",
                warmup_steps=100,
                flip=True,
                crop_area=0.5,
                trained="fusion_and_decoder",
            ),
            objective=ObjectiveConfig(classes=0.2),
            hints=HintConfig(enabled=True, probability=0.3),
            augment=AugmentConfig(color_jitter=0.15, old_photos=0.15),
            # Weight heads are new; the decoder knows its work.
            optimizer=OptimizerConfig(ema_decay=0.99, layer_rates="trunk/=0.2"),
            log_every=100,
            checkpoint_every=1000,
            eval=EvalConfig(data=DataConfig(source="folder", threads=16, missing_boxes="none")),
        )
    )
