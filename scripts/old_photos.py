"""Write the historical photographs of ``docs/old_photos.tsv`` as PNG files, from clones of the repositories it names.

    git clone https://github.com/tmoody1973/redlined clones/redlined        # and so on: one folder a repository
    python scripts/old_photos.py clones old_photos

Each is read at the commit of the list, cut to the shares of its width and height given there (black borders, the other
plates of a three-color negative) and reduced to at most 1,024 pixels. Repositories that are not there are named and
left out.
"""

from __future__ import annotations

import argparse
import csv
import io
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from jaxcolor.runtime.errors import UserError, exit_status

LIST = Path(__file__).resolve().parents[1] / "docs" / "old_photos.tsv"
LONGEST_SIDE = 1024


class OldPhoto(NamedTuple):
    """One line of the list."""

    name: str
    repository: str
    """``owner/name``; its clone is the folder ``name``."""
    commit: str
    path: str
    box: tuple[float, float, float, float]
    """Left, top, right, bottom as shares of the scan."""


def read_list(path: Path = LIST) -> list[OldPhoto]:
    """The photographs of a list (tab separated, with a heading)."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    return [
        OldPhoto(
            row["name"],
            row["repository"],
            row["commit"],
            row["path"],
            (float(row["left"]), float(row["top"]), float(row["right"]), float(row["bottom"])),
        )
        for row in rows
    ]


def write(photo: OldPhoto, clones: Path, output: Path) -> None:
    """Write ``<output>/<name>.png``.

    Raises:
      UserError: there is no such clone, or it does not hold the file.
    """
    clone = clones / photo.repository.split("/")[1]
    if not clone.is_dir():
        raise UserError(f"{clone}: no such folder; clone github.com/{photo.repository} there")
    where = f"{photo.commit}:{photo.path}"
    shown = subprocess.run(["git", "-C", str(clone), "show", where], capture_output=True, check=False)
    if shown.returncode:
        raise UserError(f"{clone}: no {where} ({shown.stderr.decode(errors='replace').strip()})")
    with Image.open(io.BytesIO(shown.stdout)) as image:
        left, top, right, bottom = photo.box
        width, height = image.size
        cut = image.crop((round(left * width), round(top * height), round(right * width), round(bottom * height)))
        cut.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS)
        cut.save(output / f"{photo.name}.png", icc_profile=image.info.get("icc_profile"))


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clones", type=Path, help="folder of the clones")
    parser.add_argument("output", type=Path, help="folder for <name>.png; made if it is not there")
    parser.add_argument("--list", type=Path, default=LIST, help="another list of the same form")
    options = parser.parse_args()

    def work() -> None:
        photos = read_list(options.list)
        options.output.mkdir(parents=True, exist_ok=True)
        failed = 0
        for photo in photos:
            try:
                write(photo, options.clones, options.output)
            except UserError as error:
                failed += 1
                print(error, file=sys.stderr)
        print(f"{len(photos) - failed} of {len(photos)} photographs written into {options.output}")
        if failed == len(photos):
            raise UserError("none of the photographs could be read; they are named above")

    return exit_status("old_photos", work)


if __name__ == "__main__":
    sys.exit(main())
