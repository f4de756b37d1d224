"""Train: ``python train.py --config demo --workdir runs/demo [--config.full.steps=100]``, as ``jaxcolor train``."""

from jaxcolor.cli.train import main

if __name__ == "__main__":
    main("train.py")
