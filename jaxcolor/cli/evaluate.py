"""``jaxcolor eval``, which ``eval.py`` is too.

Prints the tables; writes ``metrics.json``, ``tables.md``, ``tables.tex``, ``per_photo.csv``, ``per_object.csv``,
``contact_sheet.png`` and ``report.html``. docs/evaluation.md says what is measured and how.
"""

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
usage: {name} --config CONFIG --weights WEIGHTS --workdir DIR [--config.eval.FIELD=VALUE ...]

Measure weights on the photos of a config's `eval`, and write tables and a report to DIR. Other systems join with
--checkpoint NAME=W.safetensors and --predictions NAME=FOLDER, each as often as wanted.
  {name} --config smoke --weights runs/smoke --workdir runs/smoke_eval
  {name} --config folder --weights W.safetensors --workdir runs/eval --config.eval.data.path=PHOTOS"""


def main(name: str = "jaxcolor eval", words: Sequence[str] | None = None) -> NoReturn:
    """Evaluate what the command line says, and exit. Once in a process: its flags are absl's.

    Args:
      name: how the program is called.
      words: the command line after it; None: ``sys.argv``.
    """
    config_flag = config_flags.DEFINE_config_file(
        "config", help_string="A config by its name, or a file; its `eval` says on what.", lock_config=True
    )
    weights_flag = flags.DEFINE_string(
        "weights",
        None,
        "Weights file (.safetensors), the folder of a training run, of one of its stages or of a checkpoint, or the "
        "name of weights in the package (default, fast); they decide the architecture.",
    )
    workdir_flag = flags.DEFINE_string("workdir", None, "Folder of the results; made if it is not there.")
    controls_flag = flags.DEFINE_bool("controls", True, "Measure both controls of fusion too (three times the work).")
    checkpoints_flag = flags.DEFINE_multi_string(
        "checkpoint", [], "NAME=WEIGHTS: other weights (as --weights takes them), as a system NAME."
    )
    predictions_flag = flags.DEFINE_multi_string(
        "predictions", [], "NAME=FOLDER: anyone's result pictures as a system NAME, matched to photos by their stems."
    )
    parquet_flag = flags.DEFINE_bool("parquet", False, "Write per_photo.parquet too (needs pyarrow).")

    def work(config: Config) -> None:
        import jax

        from jaxcolor.evaluation.predictions import parse_named
        from jaxcolor.evaluation.run import evaluate_files
        from jaxcolor.evaluation.table_formats import markdown

        workdir = Path(str(workdir_flag.value))
        metrics = evaluate_files(
            config,
            weights_flag.value or None,
            workdir,
            checkpoints=parse_named("checkpoint", checkpoints_flag.value),
            predictions=parse_named("predictions", predictions_flag.value),
            controls=controls_flag.value,
            parquet=parquet_flag.value,
        )
        if jax.process_index() == 0:
            print(markdown(metrics))
            print(f"\nresults: {workdir}")

    program.run(
        name,
        work,
        config_flag,
        required=[workdir_flag],
        processes=ProcessFlags(),
        groups=("eval", ""),
        about=_ABOUT,
        words=words,
    )
