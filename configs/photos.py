"""Full width on a folder of photos with box files: the three stages from scratch, at 256 x 256.

Command: ``python train.py --config configs/photos.py --workdir runs/photos --config.data.path=PHOTOS``, where PHOTOS
is a folder of photos and PHOTOS_bbox has a ``<stem>.npz`` for each (``--config.data.missing_boxes=none`` if some have
none). Evaluate with
``python eval.py --config configs/photos.py --config.eval.data.path=OTHER_PHOTOS --weights … --workdir …``.
Hardware: one NVIDIA H100 and 16 CPU cores.
Hours: expected, 0.4 + 0.5 + 0.1: 640,000, 640,000 and 80,000 photos at the 466, 398 and 180 photos/s that were measured
(benchmarks/RESULTS.md) with photos of at most 288 pixels on the short side.
Numbers: measured after 1300 + 1000 + 350 steps on 1,736 photos, not after this config's steps: PSNR gray 22.33, full
23.07, fused 23.05 dB (docs/first_light.md).

Room for crops: 3 a photo on a device; before the run it is said how many boxes find no place in it.

The learning rates are the released ones; Adam from He initialization bears them.
"""

from ml_collections import ConfigDict

from jaxcolor.config import Config, DataConfig, EvalConfig, ModelConfig, StageConfig
from jaxcolor.config_io import to_config_dict


def get_config() -> ConfigDict:
    return to_config_dict(
        Config(
            name="photos",
            model=ModelConfig(compute_dtype="bfloat16"),
            data=DataConfig(source="folder", threads=8),
            full=StageConfig(steps=20_000, batch_size=32, learning_rate=5e-4, decay_start=0.5, flip=True),
            instance=StageConfig(steps=20_000, batch_size=32, learning_rate=5e-4, decay_start=0.5, flip=True),
            fusion=StageConfig(
                steps=10_000, batch_size=8, learning_rate=5e-5, decay_start=0.5, trained="fusion_and_output"
            ),
            log_every=50,
            checkpoint_every=1000,
            eval=EvalConfig(data=DataConfig(source="folder", threads=8, max_crops_per_image=8.0)),
        )
    )
