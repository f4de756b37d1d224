"""What weights that ``configs/two_hues.py`` made are worth: mean, samples, palettes and their calibration.

Command: ``python benchmarks/two_hues.py WEIGHTS.safetensors --photos 512 --picture two_hues.png`` prints JSON
(``jaxcolor.two_hues.measure``). Scenes that no training has seen.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import sys
from pathlib import Path

from jaxcolor import two_hues
from jaxcolor.config import Config
from jaxcolor.config_io import from_dict
from jaxcolor.weights import native

CONFIGS = Path(__file__).resolve().parents[1] / "configs"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--photos", type=int, default=512)
    parser.add_argument("--picture", type=Path, help="where to write gray, mean, samples and truth of some scenes")
    options = parser.parse_args()
    sys.path.insert(0, str(CONFIGS))
    made = importlib.import_module("two_hues")

    config = from_dict(Config, made.get_config().to_dict())
    weights = native.load(options.weights)
    evaluated = dataclasses.replace(config.eval, photos=options.photos)
    measured = two_hues.measure(dataclasses.replace(config, model=weights.config, eval=evaluated), weights.variables)
    if options.picture is not None:
        two_hues.sheet(measured.rows).save(options.picture)
    print(json.dumps(measured.metrics, indent=2))


if __name__ == "__main__":
    main()
