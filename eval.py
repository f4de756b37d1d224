"""Evaluate: ``python eval.py --config configs/demo.py --weights W.safetensors --workdir DIR``.

Prints the table of systems and controls; writes ``metrics.json``, ``per_photo.csv`` and ``contact_sheet.png`` to DIR.
"""

import sys
from pathlib import Path

from absl import app, flags, logging
from ml_collections import config_flags

from jaxcolor.config import Config, from_dict
from jaxcolor.errors import UserError, exit_status

_CONFIG = config_flags.DEFINE_config_file(
    "config", help_string="A recipe of configs/; its `eval` says on what.", lock_config=True
)
_WEIGHTS = flags.DEFINE_string("weights", None, "Released weights (.safetensors); they decide the architecture.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the results; made if it is not there.")
_CONTROLS = flags.DEFINE_bool("controls", True, "Measure both controls of fusion too (three times the work).")


def parse(argv: list[str]) -> list[str]:
    """Parse the flags; whatever is wrong with them, or with the config file, is told in one line."""
    try:
        rest: list[str] = flags.FLAGS(argv)
        if _CONFIG.value is not None:
            _CONFIG.value.to_dict()  # a file that could not be loaded is told only when it is asked for its values
    except Exception as error:  # a config file is a program: it can fail in any way
        what = error.args[0] if isinstance(error, KeyError) and error.args else error
        kind = "" if isinstance(error, flags.Error) else f"--config: {type(error).__name__}: "
        print(f"eval.py: {kind}{' '.join(str(what).split())}", file=sys.stderr)
        sys.exit(1)
    return rest


def main(argv: list[str]) -> None:
    """Read the flags and run."""
    logging.set_verbosity(logging.WARNING)  # JAX tells which accelerators it did not find

    def evaluate() -> None:
        if len(argv) > 1:
            raise UserError(f"unexpected arguments: {' '.join(argv[1:])}")
        for name, value in {"config": _CONFIG.value, "weights": _WEIGHTS.value, "workdir": _WORKDIR.value}.items():
            if not value:
                raise UserError(f"--{name} is missing; see python eval.py --help")
        config = from_dict(Config, _CONFIG.value.to_dict())

        from jaxcolor.evaluation.run import evaluate_weights
        from jaxcolor.evaluation.tables import markdown

        weights, workdir = Path(str(_WEIGHTS.value)), Path(str(_WORKDIR.value))
        print(markdown(evaluate_weights(config, weights, workdir, _CONTROLS.value)))
        print(f"\nresults: {workdir}")

    sys.exit(exit_status("eval.py", evaluate))


if __name__ == "__main__":
    app.run(main, flags_parser=parse)
