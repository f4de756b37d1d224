"""Ablate: ``python -m jaxcolor.ablation --config configs/ablation/weighting.py --workdir runs/weighting``.

Trains what differs between the variants, measures all of them, and prints one table; writes it to the workdir as
Markdown, LaTeX, JSON and a picture. Given again, it resumes, or changes nothing.
"""

from __future__ import annotations

from pathlib import Path

from absl import flags
from ml_collections import config_flags

from jaxcolor.ablation.plan import Ablation
from jaxcolor.runtime import program
from jaxcolor.runtime.local_path import local_path


def main(ablation: Ablation, workdir: Path) -> None:
    """Run it and print the table."""
    from jaxcolor.ablation.run import TABLE, run_ablation
    from jaxcolor.ablation.tables import markdown

    print(f"\n{markdown(run_ablation(ablation, workdir))}\n\ntable: {workdir / TABLE}.md, .tex, .json, .png")


if __name__ == "__main__":
    CONFIG = config_flags.DEFINE_config_file("config", help_string="A file of configs/ablation/.", lock_config=True)
    WORKDIR = flags.DEFINE_string("workdir", None, "Folder of everything; an ablation in it is resumed.")
    program.run(
        "jaxcolor.ablation",
        lambda ablation: main(ablation, local_path(str(WORKDIR.value))),
        CONFIG,
        required=[WORKDIR],
        kind=Ablation,
    )
