"""Evaluate on the validation photos of Places205, by the data set's own list.

Command: ``python eval.py --config configs/eval/places205.py --weights W.safetensors --workdir runs/eval
--config.eval.data.path=PLACES --config.eval.data.list_path=val_places205.csv --config.eval.data.boxes_path=BOXES``,
where PLACES is the folder that the list's names are relative to; labels in the list are not read. Boxes are detections
in any form that docs/boxes.md names; without any, all photos are colored by the full-image network.

256 x 256 pixels, the best 8 detections. The paper's rows stand beside ours, marked as published,
where all 20,500 photos are measured.
"""

from ml_collections import ConfigDict

from jaxcolor.config import Config, DataConfig, EvalConfig
from jaxcolor.config_io import to_config_dict


def get_config() -> ConfigDict:
    data = DataConfig(
        source="folder",
        box_choice="top_k",
        boxes_per_photo=8,
        max_crops_per_image=8.0,
        missing_boxes="none",
        threads=8,
    )
    return to_config_dict(Config(name="eval_places205", eval=EvalConfig(data=data, published="places205")))
