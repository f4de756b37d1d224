"""``python -m jaxcolor``: the command ``jaxcolor``."""

import sys

from jaxcolor.cli import main

if __name__ == "__main__":
    sys.exit(main())
