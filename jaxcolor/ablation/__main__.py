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


def main(ablation: Ablation, workdir: Path) -> None:
    """Run it and print the table."""
    from jaxcolor.ablation.run import TABLE, run_ablation
    from jaxcolor.ablation.tables import markdown

    print(f"\n{markdown(run_ablation(ablation, workdir))}\n\ntable: {workdir / TABLE}.md, .tex, .json, .png")


if __name__ == "__main__":
    CONFIG = config_flags.DEFINE_config_file(
        "config", help_string="A config of configs/ablation/ by its name, or a file.", lock_config=True
    )
    WORKDIR = flags.DEFINE_string("workdir", None, "Folder of everything; an ablation in it is resumed.")
    program.run(
        "python -m jaxcolor.ablation",
        lambda ablation: main(ablation, Path(str(WORKDIR.value))),
        CONFIG,
        required=[WORKDIR],
        kind=Ablation,
        groups=("ablation",),
    )
