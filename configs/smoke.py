"""Smoke: all three stages with next to nothing, to see that an installation or a change works from end to end.

Command: ``python train.py --config configs/smoke.py --workdir runs/smoke``
Hardware: 2 CPU cores.
Hours: measured, 0.02: 74 s on two cores with much other work (load 8), 45 s of processor time.
Numbers: measured, none: ten steps a stage teach nothing. The run ends by naming its weights.
"""

from ml_collections import ConfigDict

from jaxcolor.config import Config, DataConfig, EvalConfig, FusionConfig, ModelConfig, StageConfig
from jaxcolor.config_io import to_config_dict


def get_config() -> ConfigDict:
    return to_config_dict(
        Config(
            name="smoke",
            # A tap of each kind and level: compiling is most of the time.
            model=ModelConfig(
                side=32, width=0.0625, fusion=FusionConfig(layers=("conv1_2", "conv3_3", "conv7_3", "conv8_up"))
            ),
            data=DataConfig(source="scenes", max_crops_per_image=4.0),
            full=StageConfig(steps=10, batch_size=8, learning_rate=1e-3),
            instance=StageConfig(steps=10, batch_size=8, learning_rate=1e-3),
            fusion=StageConfig(steps=10, batch_size=8, learning_rate=1e-3, trained="fusion_and_output"),
            log_every=2,
            checkpoint_every=5,
            eval=EvalConfig(data=DataConfig(source="scenes", split="held_out", max_crops_per_image=4.0), photos=8),
        )
    )
