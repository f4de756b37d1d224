"""``jaxcolor train``, which ``train.py`` is too."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from absl import flags
from ml_collections import config_flags

from jaxcolor.config import Config
from jaxcolor.runtime import program
from jaxcolor.runtime.distributed import ProcessFlags

_ABOUT = """\
usage: {name} --config CONFIG --workdir DIR [--config.FIELD=VALUE ...]

Train the stages of a config: checkpoints, logs and weights go to DIR; a run in it is resumed.
  {name} --config smoke --workdir runs/smoke
  {name} --config photos --workdir runs/photos --config.data.path=PHOTOS --config.full.steps=2000"""


def main(name: str = "jaxcolor train", words: Sequence[str] | None = None) -> NoReturn:
    """Train what the command line says, and exit. Once in a process: its flags are absl's.

    Args:
      name: how the program is called.
      words: the command line after it; None: ``sys.argv``.
    """
    config_flag = config_flags.DEFINE_config_file(
        "config", help_string="A config by its name, or a file.", lock_config=True
    )
    workdir_flag = flags.DEFINE_string(
        "workdir", None, "Folder of checkpoints, logs and weights; a run in it is resumed."
    )

    def work(config: Config) -> None:
        import jax

        from jaxcolor.evaluation.run import DuringTraining
        from jaxcolor.training import train

        workdir = Path(str(workdir_flag.value))
        train.train(config, workdir, DuringTraining(config) if config.eval_every else None)
        if jax.process_index() == 0:
            print(f"weights: {workdir / train.WEIGHTS_FILE}")

    program.run(
        name,
        work,
        config_flag,
        required=[workdir_flag],
        processes=ProcessFlags(),
        about=_ABOUT,
        words=words,
    )
