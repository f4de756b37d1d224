"""COCO-Stuff (the photos of COCO 2017) with annotated boxes: no detector, no weights, only COCO's downloads.

Command: ``python train.py --config configs/coco_stuff.py --workdir runs/coco --config.data.path=COCO
--config.eval.data.path=COCO``, where COCO is the folder with ``train2017.zip``, ``val2017.zip`` and
``annotations_trainval2017.zip``, or what they hold (docs/data.md). With detections: ``--config.data.boxes_path=BOXES
--config.data.box_choice=top_k``. From other weights: ``--config.start_from=WEIGHTS``.
Hardware: one NVIDIA H100 and 16 CPU cores.
Hours: expected, 2.8 + 3.3 + 1.8: 40, 40 and 10 times 118,287 photos at the 466, 398 and 180 photos/s that were
measured (benchmarks/RESULTS.md) with photos of at most 288 pixels on the short side; COCO's are larger, so that reading
may decide. Photos without boxes are left out of the last two stages.
Numbers: expected, none known: nobody ran this. docs/first_light.md has the result of a few minutes on 1,736 photos.

Room for crops: a photo has 8.5 annotated boxes on average (measured on 111 photos of val2017), all of which are used,
and there is room for 4 a photo, so that stage fusion leaves out half of them, of the photos with most.
``--config.data.max_crops_per_image=8`` leaves out 12%, expected, and computes twice the crops; ``jaxcolor boxes show
--boxes-per-photo 100 --batch 16`` tells for others. In evaluation there is room for 16 a photo: all but 0.04%.

Epochs, batch sizes 32 / 32 / 16 and learning rates were chosen: the released code's rates, stage 3's doubled twice
for 16 photos in place of 1 (square root, as in configs/reference.py:large); constant for half of each stage, then
linearly to 0.
"""

from ml_collections import ConfigDict

from jaxcolor.config import Config, DataConfig, EvalConfig, ModelConfig, StageConfig
from jaxcolor.config_io import to_config_dict


def get_config() -> ConfigDict:
    data = DataConfig(source="coco", split="train", box_choice="ground_truth", threads=16, max_crops_per_image=4.0)
    held_back = DataConfig(source="coco", split="val", box_choice="ground_truth", threads=16, max_crops_per_image=16.0)
    backbone = StageConfig(steps=0, epochs=40.0, batch_size=32, learning_rate=5e-4, decay_start=0.5, flip=True)
    return to_config_dict(
        Config(
            name="coco_stuff",
            model=ModelConfig(compute_dtype="bfloat16"),
            data=data,
            full=backbone,
            instance=backbone,
            fusion=StageConfig(
                steps=0, epochs=10.0, batch_size=16, learning_rate=2e-4, decay_start=0.5, trained="fusion_and_output"
            ),
            log_every=100,
            checkpoint_every=5000,
            eval=EvalConfig(data=held_back),
        )
    )
