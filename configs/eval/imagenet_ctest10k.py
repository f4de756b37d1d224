"""Evaluate on ImageNet ctest10k: 10,000 photos of ILSVRC2012's validation set, by a list.

Command: ``python eval.py --config configs/eval/imagenet_ctest10k.py --weights W.safetensors --workdir runs/eval
--config.eval.data.path=VAL --config.eval.data.list_path=ctest10k.txt --config.eval.data.boxes_path=BOXES``, where VAL
is the folder (or zip file) of the validation photos and the list is that of Larsson et al. 2016, one photo a line;
a label after the name is not read. Boxes are detections in any form that docs/boxes.md names; without any, all photos
are colored by the full-image network.

256 x 256 pixels, the best 8 detections. The paper's rows stand beside ours, marked as published,
where all 10,000 photos are measured.
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
    return to_config_dict(
        Config(name="eval_imagenet_ctest10k", eval=EvalConfig(data=data, published="imagenet_ctest10k"))
    )
