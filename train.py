"""Train: ``python train.py --config configs/demo.py --workdir runs/demo [--config.full.steps=100]``."""

import sys
from pathlib import Path

from absl import app, flags, logging
from ml_collections import config_flags

from jaxcolor.config import Config, from_dict
from jaxcolor.errors import exit_status

_CONFIG = config_flags.DEFINE_config_file("config", help_string="A recipe of configs/.", lock_config=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of checkpoints, logs and weights; a run in it goes on.")
flags.mark_flags_as_required(["config", "workdir"])


def main(argv: list[str]) -> None:
    """Read the flags and run."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")

    logging.set_verbosity(logging.WARNING)  # Orbax tells every step of every save

    def train() -> None:
        from jaxcolor.training.loop import WEIGHTS_FILE, run

        workdir = Path(_WORKDIR.value)
        run(from_dict(Config, _CONFIG.value.to_dict()), workdir)
        print(f"weights: {workdir / WEIGHTS_FILE}")

    sys.exit(exit_status("train.py", train))


if __name__ == "__main__":
    app.run(main)
