"""Evaluate released weights on a folder of photos with box files.

Command: ``python eval.py --config configs/eval/folder.py --weights W.safetensors --workdir runs/eval
--config.eval.data.path=PHOTOS`` (boxes in ``PHOTOS_bbox/<stem>.npz``, or where ``--config.eval.data.boxes_path`` says).

The best 8 boxes by score of each photo, as in the paper, and room for all of them, so that no crop is ever dropped and
the numbers do not depend on how many devices there are. Photos without a box file count as photos without boxes.
The architecture is that of the weights.
"""

from ml_collections import ConfigDict

from jaxcolor.config import Config, DataConfig, EvalConfig
from jaxcolor.config_io import to_config_dict


def get_config() -> ConfigDict:
    data = DataConfig(
        source="folder", box_choice="top_k", boxes_per_photo=8, max_crops_per_image=8.0, missing_boxes="none"
    )
    return to_config_dict(Config(name="eval_folder", eval=EvalConfig(data=data, batch_size=8)))
