"""Evaluate: ``python eval.py --config configs/demo.py --weights W.safetensors --workdir DIR``.

Other systems join with ``--checkpoint NAME=W.safetensors`` and ``--predictions NAME=FOLDER``, each as often as wanted.
Prints the tables; writes ``metrics.json``, ``tables.md``, ``tables.tex``, ``per_photo.csv``, ``per_object.csv``,
``contact_sheet.png`` and ``report.html`` to DIR. docs/evaluation.md says what is measured and how.
"""

from absl import flags
from ml_collections import config_flags

from jaxcolor.config import Config
from jaxcolor.runtime import program
from jaxcolor.runtime.distributed import ProcessFlags
from jaxcolor.runtime.local_path import local_path

_CONFIG = config_flags.DEFINE_config_file(
    "config", help_string="A config file of configs/; its `eval` says on what.", lock_config=True
)
_WEIGHTS = flags.DEFINE_string("weights", None, "Weights file (.safetensors); it decides the architecture.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the results; made if it is not there.")
_CONTROLS = flags.DEFINE_bool("controls", True, "Measure both controls of fusion too (three times the work).")
_CHECKPOINTS = flags.DEFINE_multi_string(
    "checkpoint", [], "NAME=FILE: another weights file (.safetensors), as a system NAME."
)
_PREDICTIONS = flags.DEFINE_multi_string(
    "predictions", [], "NAME=FOLDER: anyone's result pictures as a system NAME, matched to photos by their stems."
)
_PARQUET = flags.DEFINE_bool("parquet", False, "Write per_photo.parquet too (needs pyarrow).")
_PROCESSES = ProcessFlags()


def main(config: Config) -> None:
    """Evaluate what the flags name on what the config says."""
    import jax

    from jaxcolor.evaluation.predictions import parse_named
    from jaxcolor.evaluation.run import evaluate_files
    from jaxcolor.evaluation.table_formats import markdown

    workdir = local_path(str(_WORKDIR.value))
    metrics = evaluate_files(
        config,
        local_path(_WEIGHTS.value) if _WEIGHTS.value else None,
        workdir,
        checkpoints=parse_named("checkpoint", _CHECKPOINTS.value),
        predictions=parse_named("predictions", _PREDICTIONS.value),
        controls=_CONTROLS.value,
        parquet=_PARQUET.value,
    )
    if jax.process_index() == 0:
        print(markdown(metrics))
        print(f"\nresults: {workdir}")


if __name__ == "__main__":
    program.run("eval.py", main, _CONFIG, required=[_WORKDIR], processes=_PROCESSES)
