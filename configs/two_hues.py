"""Choice of color in small: scenes whose objects have two equally probable hues, and the network that offers both.

Command: ``python train.py --config configs/two_hues.py --workdir runs/two_hues``.
Hardware: 2 CPU cores.
Hours: measured, 0.2 with both cores shared by others; 3 minutes 31 seconds of CPU time.
Numbers: measured, seed 0, PSNR of object pixels: gray 19.1, regression 17.6, with true colors as hints 24.4 dB: hints
are followed; the palettes are not learned yet (docs/color_choice.md). With 10,000 steps of 24 on one NVIDIA H200, 2
minutes: regression 17.5, best of 4 samples 25.3, hints 34.7 dB; palette coverage 100%, calibration error 3.5%.

Stage full alone: the patterns are coarse, so the canvas shows an object's class. The canvas is 32 x 32, so that many
steps are cheap.
"""

from ml_collections import ConfigDict

from jaxcolor.config import (
    Config,
    DataConfig,
    EvalConfig,
    HintConfig,
    ModelConfig,
    ObjectiveConfig,
    ScenesConfig,
    StageConfig,
)
from jaxcolor.config_io import to_config_dict


def get_config() -> ConfigDict:
    scenes = ScenesConfig(
        min_objects=2, max_objects=2, min_object_side=0.4, max_object_side=0.48, patterns="coarse", hues=2
    )
    data = DataConfig(source="scenes", max_crops_per_image=2.0, scenes=scenes)
    held_out = DataConfig(source="scenes", split="held_out", max_crops_per_image=2.0, scenes=scenes)
    return to_config_dict(
        Config(
            name="two_hues",
            stages=("full",),
            model=ModelConfig(side=32, width=0.25, outputs=("regression", "classes")),
            data=data,
            full=StageConfig(steps=700, batch_size=12, learning_rate=2e-3, schedule="cosine", warmup_steps=20),
            objective=ObjectiveConfig(classes=2.0),
            hints=HintConfig(
                enabled=True, probability=0.6, stop_probability=0.06, min_patch=2, max_patch=4, location="uniform"
            ),
            log_every=10,
            checkpoint_every=350,
            eval=EvalConfig(data=held_out, photos=256),
        )
    )
