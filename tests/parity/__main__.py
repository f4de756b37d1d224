"""``python -m tests.parity DIR --seed N``: check a folder of goldens; exit 1 if anything is off."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.parity.checks import Row, check_folder


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.parity", description=__doc__)
    parser.add_argument("folder", type=Path, help="holds shapes.json and .npz files as the goldens do")
    parser.add_argument("--seed", type=int, required=True, help="seed of the weight recipe that made them")
    parser.add_argument("--lpips-squeeze", type=Path, metavar="FILE", help="weights of torchvision's squeezenet1_1")
    arguments = parser.parse_args()
    failed = 0
    print(f"{'quantity':56s} {'largest error':>14s} {'tolerance':>10s}  verdict")
    try:
        for row in check_folder(arguments.folder, arguments.seed, arguments.lpips_squeeze):
            print(format_row(row), flush=True)
            failed += row.verdict == "FAIL"
    except (OSError, ValueError, KeyError) as error:
        print(f"parity: {arguments.folder}: {error}", file=sys.stderr)
        return 1
    print(f"{failed} FAIL" if failed else "all ok")
    return int(failed > 0)


def format_row(row: Row) -> str:
    if row.verdict == "not checked":
        return f"{row.name:56s} {'':>14s} {'':>10s}  not checked"
    return f"{row.name:56s} {row.error:14.3e} {row.tolerance:10.0e}  {row.verdict}"


if __name__ == "__main__":
    sys.exit(main())
