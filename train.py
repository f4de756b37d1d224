"""Train: ``python train.py --config configs/demo.py --workdir runs/demo [--config.full.steps=100]``."""

from absl import flags
from ml_collections import config_flags

from jaxcolor.config import Config
from jaxcolor.runtime import program
from jaxcolor.runtime.distributed import ProcessFlags
from jaxcolor.runtime.local_path import local_path

_CONFIG = config_flags.DEFINE_config_file("config", help_string="A file of configs/.", lock_config=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of checkpoints, logs and weights; a run in it is resumed.")
_PROCESSES = ProcessFlags()


def main(config: Config) -> None:
    """Train what the config says."""
    import jax

    from jaxcolor.evaluation.run import DuringTraining
    from jaxcolor.training import train

    workdir = local_path(str(_WORKDIR.value))
    train.train(config, workdir, DuringTraining(config) if config.eval_every else None)
    if jax.process_index() == 0:
        print(f"weights: {workdir / train.WEIGHTS_FILE}")


if __name__ == "__main__":
    program.run("train.py", main, _CONFIG, required=[_WORKDIR], processes=_PROCESSES)
