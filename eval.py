"""Evaluate: ``python eval.py --config configs/demo.py --weights W.safetensors --workdir DIR``.

Prints the table of systems and controls; writes ``metrics.json``, ``per_photo.csv`` and ``contact_sheet.png`` to DIR.
"""

from pathlib import Path

from absl import flags
from ml_collections import config_flags

from jaxcolor import program
from jaxcolor.config import Config
from jaxcolor.distributed import ProcessFlags

_CONFIG = config_flags.DEFINE_config_file(
    "config", help_string="A recipe of configs/; its `eval` says on what.", lock_config=True
)
_WEIGHTS = flags.DEFINE_string("weights", None, "Released weights (.safetensors); they decide the architecture.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the results; made if it is not there.")
_CONTROLS = flags.DEFINE_bool("controls", True, "Measure both controls of fusion too (three times the work).")
_PROCESSES = ProcessFlags()


def main(config: Config) -> None:
    """Evaluate the weights on what the config says."""
    import jax

    from jaxcolor.evaluation.run import evaluate_weights
    from jaxcolor.evaluation.tables import markdown

    workdir = Path(str(_WORKDIR.value))
    metrics = evaluate_weights(config, Path(str(_WEIGHTS.value)), workdir, _CONTROLS.value)
    if jax.process_index() == 0:
        print(markdown(metrics))
        print(f"\nresults: {workdir}")


if __name__ == "__main__":
    program.run("eval.py", main, _CONFIG, required=[_WEIGHTS, _WORKDIR], processes=_PROCESSES)
