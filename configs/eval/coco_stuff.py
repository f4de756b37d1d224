"""Evaluate on COCO-Stuff val (the 5,000 photos of COCO's val2017), as the paper's Tables 1 and 2.

Command: ``python eval.py --config configs/eval/coco_stuff.py --weights W.safetensors --workdir runs/eval
--config.eval.data.path=COCO --config.eval.data.boxes_path=BOXES``, where COCO is the folder with ``val2017.zip`` and
``annotations_trainval2017.zip``, or what they hold, and BOXES are detections: a JSON file in COCO's results format, or
any other form that docs/boxes.md names. With annotated boxes in place of detections:
``--config.eval.data.box_choice=ground_truth``.

The best 8 detections of each photo, 256 x 256 pixels, and room for 8 a photo, so that none of them is dropped.
Annotated boxes are all used, and a photo can have dozens: with room for 8 one in eight would be dropped (expected, from
111 photos), so give ``--config.eval.data.max_crops_per_image=16`` too, which holds all but 0.04%. What was dropped is
counted below the tables.

Annotated objects are measured by themselves too (Table 2). The paper's rows stand beside ours, marked as published,
where all 5,000 photos are measured. The architecture is that of the weights.
"""

from ml_collections import ConfigDict

from jaxcolor.config import Config, DataConfig, EvalConfig
from jaxcolor.config_io import to_config_dict


def get_config() -> ConfigDict:
    data = DataConfig(
        source="coco",
        split="val",
        box_choice="top_k",
        boxes_per_photo=8,
        max_crops_per_image=8.0,
        missing_boxes="none",
        threads=8,
    )
    return to_config_dict(Config(name="eval_coco_stuff", eval=EvalConfig(data=data, published="coco_stuff")))
