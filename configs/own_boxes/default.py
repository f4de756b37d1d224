"""Train the head that finds objects on the features of the default weights.

Command: ``python -m jaxcolor.own_boxes --config configs/own_boxes/default.py --workdir runs/boxes
--config.data.path=PHOTOS`` (boxes in ``PHOTOS_bbox/<stem>.npz``, or where ``--config.data.boxes_path`` says).
"""

from ml_collections import ConfigDict

from jaxcolor.config import BoxTrainingConfig, DataConfig
from jaxcolor.config_io import to_config_dict


def get_config() -> ConfigDict:
    """Photos without a box file are photos without objects."""
    data = DataConfig(missing_boxes="none", threads=8)
    return to_config_dict(BoxTrainingConfig(data=data, compute_dtype="bfloat16"))
