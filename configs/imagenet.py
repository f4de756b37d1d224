"""ImageNet from scratch: the three stages on tfds imagenet2012, without anybody's weights.

Command: ``python train.py --config configs/imagenet.py --workdir runs/imagenet --config.data.data_dir=TFDS
--config.data.boxes_path=TRAIN.boxes --config.data.index_path=TRAIN.index.npz``. TFDS holds the prepared imagenet2012,
TRAIN.boxes are detections on its gray train photos (docs/data.md); the index is written at the first start.
Hardware: one NVIDIA H100 and 16 CPU cores.
Hours: expected, 7.6 + 4.5 + 2.0: 10, 5 and 1 times 1,281,167 photos at the 466, 398 and 180 photos/s that were
measured (benchmarks/RESULTS.md) with photos of at most 288 pixels on the short side. ImageNet's are larger; the JPEG
decoder is allowed to reduce them in stage full (``jpeg_draft``), in the others reading may decide.
Numbers: expected, none known: nobody ran this. docs/first_light.md has the result of a few minutes on 1,736 photos.

Epochs, batch sizes 64 / 64 / 16 and the learning rates were chosen: those of the released code for Adam from He
initialization, which were seen to train on few photos; constant for half of each stage, then linearly to 0.
"""

from ml_collections import ConfigDict

from jaxcolor.config import Config, DataConfig, EvalConfig, ModelConfig, StageConfig
from jaxcolor.config_io import to_config_dict


def get_config() -> ConfigDict:
    data = DataConfig(
        source="tfds",
        path="imagenet2012",
        split="train",
        threads=16,
        max_crops_per_image=4.0,
        jpeg_draft=True,
        gray_photos="skip",
    )
    held_back = DataConfig(source="tfds", path="imagenet2012", split="validation", threads=16, max_crops_per_image=8.0)
    backbone = StageConfig(steps=0, epochs=10.0, batch_size=64, learning_rate=5e-4, decay_start=0.5, flip=True)
    return to_config_dict(
        Config(
            name="imagenet",
            model=ModelConfig(compute_dtype="bfloat16"),
            data=data,
            full=backbone,
            instance=StageConfig(steps=0, epochs=5.0, batch_size=64, learning_rate=5e-4, decay_start=0.5, flip=True),
            fusion=StageConfig(
                steps=0, epochs=1.0, batch_size=16, learning_rate=2e-4, decay_start=0.5, trained="fusion_and_output"
            ),
            log_every=100,
            checkpoint_every=5000,
            eval=EvalConfig(data=held_back),
        )
    )
