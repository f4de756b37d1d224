"""The training that the paper describes: ImageNet, 2 / 5 / 2 epochs from Zhang et al. 2017, fusion modules alone.

Command: ``python train.py --config configs/paper.py --workdir runs/paper --config.data.data_dir=TFDS
--config.data.boxes_path=TRAIN.boxes --config.start_from=siggraph17-df00044c.pth``. The start is the file of the
``colorizers`` package (richzhang/colorization), whose hint mask is ``model.hint_mask`` here; TFDS holds the prepared
imagenet2012, TRAIN.boxes are detections on its gray train photos (docs/data.md). Set
``--config.data.index_path=FILE`` to start faster the next time. Reading the .pth file needs PyTorch
(``pip install -e '.[torch]'``).
Hardware: one NVIDIA H100 and 16 CPU cores.
Hours: expected, 1.5 + 4.5 + 4.0: 2, 5 and 2 times 1,281,167 photos at the 466, 398 and 180 photos/s that were
measured (benchmarks/RESULTS.md) with photos of at most 288 pixels on the short side; ImageNet's are larger, so that
reading may decide. Photos without boxes are left out of the last two stages.
Numbers: expected, about those of the paper's tables; this was not run here.

Known of the paper's settings: the epochs, 1e-5 in stage 1, and that stage 3 trains the fusion modules alone. Its
learning rates of stages 2 and 3 are not known here: 5e-5 and 2e-5 were chosen, above that of stage 1 because crops are
further from what the start has seen and the fusion modules begin from scratch, below the released code's because these
epochs are few. Batch sizes 16 / 16 / 8 and constant learning rates were chosen as well.
"""

from ml_collections import ConfigDict

from jaxcolor.config import Config, DataConfig, EvalConfig, ModelConfig, StageConfig
from jaxcolor.config_io import to_config_dict


def get_config() -> ConfigDict:
    data = DataConfig(source="tfds", path="imagenet2012", split="train", threads=16, max_crops_per_image=4.0)
    held_back = DataConfig(source="tfds", path="imagenet2012", split="validation", threads=16, max_crops_per_image=8.0)
    return to_config_dict(
        Config(
            name="paper",
            model=ModelConfig(compute_dtype="bfloat16", hint_mask="siggraph17"),
            data=data,
            full=StageConfig(steps=0, epochs=2.0, batch_size=16, learning_rate=1e-5),
            instance=StageConfig(steps=0, epochs=5.0, batch_size=16, learning_rate=5e-5),
            fusion=StageConfig(steps=0, epochs=2.0, batch_size=8, learning_rate=2e-5, trained="fusion"),
            log_every=100,
            checkpoint_every=5000,
            eval=EvalConfig(data=held_back),
        )
    )
