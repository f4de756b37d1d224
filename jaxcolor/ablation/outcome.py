"""The result of one run of a variant, stored in its folder: ``result.json`` and ``scores.npz``."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from jaxcolor.config_io import setting_differences
from jaxcolor.runtime.atomic import atomic_write, write_text
from jaxcolor.runtime.errors import UserError, one_line
from jaxcolor.runtime.regular_file import DAMAGED, open_regular, read_regular

RESULT_FILE, SCORES_FILE = "result.json", "scores.npz"


class AblationError(UserError):
    """An ablation that cannot continue; the message names the variant or its folder."""


@dataclasses.dataclass(frozen=True)
class Cost:
    """What a run took, and what its networks take."""

    train_seconds: float = 0.0
    """Of the stages that the variant trains for itself; parts of a run that was killed are not counted."""
    trained_parameters: int = 0
    crops_per_photo: float = 0.0
    """Crops that go through the instance network, on average over the photos measured."""
    gflops_per_photo: float = 0.0
    """10^9 operations that a photo with that many crops takes, a multiply-add counted as two: instance and fusion
    networks."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """One run of a variant, measured."""

    names: tuple[str, ...]
    """Of the photos."""
    scores: Mapping[str, Mapping[str, Float64[np.ndarray, " P"]]]
    """System -> metric -> one value a photo; NaN: not defined."""
    cost: Cost
    weights_of: str = ""
    """The variant that trained the weights, where that is another one."""


def write_outcome(folder: Path, outcome: Outcome, config: Mapping[str, Any], start: Mapping[str, str]) -> None:
    """Write both files; ``result.json``, which marks a run as finished, is the last.

    Args:
      folder: of the run; made if it is not there.
      outcome: to be kept.
      config: what decided the numbers (``plan.identity``).
      start: digests of the trees that all variants start from.
    """
    folder.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {f"{s}/{m}": v for s, metrics in outcome.scores.items() for m, v in metrics.items()}
    with atomic_write(folder / SCORES_FILE) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)
    about = {
        "config": config,
        "start": start,
        "weights_of": outcome.weights_of,
        "cost": dataclasses.asdict(outcome.cost),
        "photos": outcome.names,
    }
    write_text(folder / RESULT_FILE, json.dumps(about, indent=1, ensure_ascii=False) + "\n")


def read_outcome(folder: Path, config: Mapping[str, Any], start: Mapping[str, str] | None = None) -> Outcome | None:
    """The outcome of a finished run of this config; None where there is none.

    Args:
      folder: of the run.
      config: what would decide the numbers now.
      start: digests of the trees to start from; None: not known yet, and not compared.

    Raises:
      AblationError: it is of another config or start (the first differences are listed), or cannot be read.
    """
    path = folder / RESULT_FILE
    if not path.exists():
        return None
    try:
        about = json.loads(read_regular(path))
        differing = setting_differences(about["config"], json.loads(json.dumps(config)))
        differing += setting_differences(about["start"], start) if start is not None else []
        scores: dict[str, dict[str, np.ndarray]] = {}
        # Opened here, because np.load leaves a damaged archive open.
        with open_regular(folder / SCORES_FILE) as file, np.load(file, allow_pickle=False) as arrays:
            for name in arrays.files:
                system, _, metric = name.partition("/")
                scores.setdefault(system, {})[metric] = arrays[name].astype(np.float64)
        outcome = Outcome(tuple(about["photos"]), scores, Cost(**about["cost"]), about["weights_of"])
    except (OSError, *DAMAGED) as error:
        raise AblationError(
            f"{folder}: cannot read its result; delete the folder to run it anew ({one_line(error)})"
        ) from error
    if differing:
        more = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
        raise AblationError(
            f"{folder}: finished with another config ({'; '.join(differing[:3])}{more}); "
            "delete the folder to run it anew, or name another --workdir"
        )
    return outcome
