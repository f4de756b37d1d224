"""The demo: three stages on synthetic scenes with a quarter-width model, on a laptop.

Command: ``make demo``, or ``python train.py --config configs/demo.py --workdir runs/demo``.
Hardware: 2 CPU cores.
Hours: measured, 0.06: 3 minutes 47 seconds in all, evaluation and report included (benchmarks/RESULTS.md).
Numbers: measured, PSNR over three seeds: gray 17.1 to 17.5, full image alone 22.0 to 22.7, fused 27.3 to 29.8 dB; the
whole table is in the README. Fresh weights have other last digits since: seed 0 21.6 and 27.8 dB.
"""

from ml_collections import ConfigDict

from jaxcolor.config import Config, DataConfig, EvalConfig, ModelConfig, StageConfig
from jaxcolor.config_io import to_config_dict


def get_config() -> ConfigDict:
    scenes = DataConfig(source="scenes", max_crops_per_image=4.0)
    return to_config_dict(
        Config(
            name="demo",
            model=ModelConfig(side=64, width=0.25),
            data=scenes,
            full=StageConfig(steps=100, batch_size=16, learning_rate=1e-3),
            instance=StageConfig(steps=150, batch_size=16, learning_rate=1e-3),
            fusion=StageConfig(steps=56, batch_size=8, learning_rate=1e-3, trained="fusion_and_output"),
            log_every=5,
            checkpoint_every=50,
            eval=EvalConfig(data=DataConfig(source="scenes", split="held_out", max_crops_per_image=4.0), photos=64),
        )
    )
