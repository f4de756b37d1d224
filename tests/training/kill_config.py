"""The config of the runs that ``test_kill.py`` kills: three small stages, a checkpoint every other step."""

from ml_collections import ConfigDict

from jaxcolor.config import Config, DataConfig, StageConfig
from jaxcolor.config_io import to_config_dict
from tests.small import TWO


def get_config() -> ConfigDict:
    def stage(steps: int, **changes: str) -> StageConfig:
        return StageConfig(steps=steps, batch_size=4, learning_rate=1e-3, decay_start=0.5, **changes)

    return to_config_dict(
        Config(
            name="killed",
            model=TWO,
            data=DataConfig(source="scenes", max_crops_per_image=2.0),
            full=stage(12),
            instance=stage(10),
            fusion=stage(8, trained="fusion_and_output"),
            log_every=3,
            checkpoint_every=2,
            keep_every=6,
        )
    )
