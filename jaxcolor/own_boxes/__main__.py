"""Train the head: ``python -m jaxcolor.own_boxes --config configs/own_boxes/default.py --workdir runs/boxes``."""

from pathlib import Path

from absl import flags
from ml_collections import config_flags

from jaxcolor.config import BoxTrainingConfig
from jaxcolor.runtime import program


def main(config: BoxTrainingConfig, workdir: Path) -> None:
    """Train what the config says."""
    from jaxcolor.own_boxes.train import WEIGHTS_FILE, train

    train(config, workdir)
    print(f"weights: {workdir / WEIGHTS_FILE}")


if __name__ == "__main__":
    CONFIG = config_flags.DEFINE_config_file("config", help_string="A file of configs/own_boxes/.", lock_config=True)
    WORKDIR = flags.DEFINE_string("workdir", None, "Folder of checkpoints, logs and weights; a run in it is resumed.")
    program.run(
        "jaxcolor.own_boxes",
        lambda config: main(config, Path(str(WORKDIR.value))),
        CONFIG,
        required=[WORKDIR],
        kind=BoxTrainingConfig,
    )
