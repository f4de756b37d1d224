"""The training of the released code: COCO 2017, 150 / 150 / 30 epochs, learning rates 5e-4 / 5e-4 / 5e-5.

Command: ``python train.py --config configs/reference.py --workdir runs/reference --config.data.path=COCO
--config.data.boxes_path=TRAIN.boxes --config.start_from=siggraph_retrained/latest_net_G.pth
--config.start_form=reference``. COCO is the folder with COCO 2017's downloads and TRAIN.boxes are detections on its
gray train photos, as a store or a folder (docs/data.md); the annotated boxes do instead, with
``--config.data.box_choice=ground_truth`` in place of ``boxes_path``. The weights that the reference begins with are of
its own download; without ``start_from`` the networks begin from scratch. ``configs/reference.py:large`` is the same
with stage 3 at batch size 16.
Hardware: one NVIDIA H100 and 16 CPU cores.
Hours: expected, 11 + 12, and 6 for stage 3 of ``:large``: 150, 150 and 30 times 118,287 photos at the 466, 398 and 180
photos/s that were measured (benchmarks/RESULTS.md) at batch sizes 32, 32 and 8 with photos of at most 288 pixels on the
short side. COCO's are larger, so that reading may decide; photos without boxes are left out of the last two stages.
Stage 3 at batch size 1 was not measured; it will take much longer.
Numbers: expected, those of the released weights; this was not run here.

As released: batch sizes 16 / 16 / 1; the learning rate is constant for 100 / 100 / 10 epochs and then falls linearly
to 0 (there after every epoch, here after every step); no mirroring; stage 3 trains the weight modules and the output
block.

``:large`` scales the learning rate of stage 3 by the square root of the batch size, the rule for Adam: batch size 16,
5e-5 x 4 = 2e-4. That is a rule of thumb and was not measured here.
"""

from ml_collections import ConfigDict

from jaxcolor.config import Config, DataConfig, EvalConfig, ModelConfig, StageConfig
from jaxcolor.config_io import to_config_dict

PHOTOS_A_STEP = {"": 1, "large": 16}
"""Of stage 3."""


def get_config(variant: str = "") -> ConfigDict:
    if variant not in PHOTOS_A_STEP:
        raise ValueError(f"configs/reference.py:{variant}: no such variant; there is configs/reference.py:large")
    photos = PHOTOS_A_STEP[variant]
    stage = StageConfig(steps=0, epochs=150.0, batch_size=16, learning_rate=5e-4, decay_start=100 / 150)
    return to_config_dict(
        Config(
            name=f"reference {variant}".strip(),
            model=ModelConfig(compute_dtype="bfloat16"),
            # The best 8 boxes of every photo have a place: dropping some would not be as released. More photos on a
            # device even out, and 4 of them on average are enough but for few.
            data=DataConfig(source="coco", threads=16, max_crops_per_image=8.0 if photos == 1 else 4.0),
            full=stage,
            instance=stage,
            fusion=StageConfig(
                steps=0,
                epochs=30.0,
                batch_size=photos,
                learning_rate=5e-5 * photos**0.5,
                decay_start=10 / 30,
                trained="fusion_and_output",
            ),
            log_every=100,
            checkpoint_every=5000,
            eval=EvalConfig(data=DataConfig(source="coco", split="val", threads=16, max_crops_per_image=8.0)),
        )
    )
