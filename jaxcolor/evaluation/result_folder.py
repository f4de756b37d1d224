"""The folder of an evaluation's results, which are those of one evaluation."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

METRICS_FILE, REPORT_FILE = "metrics.json", "report.html"
TABLES_MD, TABLES_TEX, PER_PHOTO, PER_OBJECT = "tables.md", "tables.tex", "per_photo.csv", "per_object.csv"
PARQUET, SHEET = "per_photo.parquet", "contact_sheet.png"
RESULT_FILES = (METRICS_FILE, TABLES_MD, TABLES_TEX, PER_PHOTO, PER_OBJECT, PARQUET, SHEET, REPORT_FILE)
"""Whatever an evaluation may write."""

_PART = ".results.part"


@contextmanager
def replaced_results(workdir: Path, *, write: bool = True) -> Iterator[Path]:
    """A folder to write results in; when the block ends well they take the place of all earlier ones in ``workdir``.

    Only files of ``RESULT_FILES`` are taken away, and only once the new ones are complete. The report, which is made
    last and takes long, may be added afterwards. Nobody else may write to ``workdir`` (``runtime.owner``).

    Args:
      workdir: made if it is not there.
      write: False for all processes but one: they get the folder's name, and make nothing.
    """
    part = workdir / _PART
    if not write:
        yield part
        return
    shutil.rmtree(part, ignore_errors=True)  # of a run that was killed
    part.mkdir(parents=True)
    try:
        yield part
        for name in RESULT_FILES:
            (workdir / name).unlink(missing_ok=True)
        for path in sorted(part.iterdir(), key=lambda path: path.name == METRICS_FILE):  # which comes last
            os.replace(path, workdir / path.name)
    finally:
        shutil.rmtree(part, ignore_errors=True)
