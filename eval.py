"""Evaluate: ``python eval.py --config demo --weights W.safetensors --workdir DIR``, as ``jaxcolor eval``.

docs/evaluation.md says what is measured and how.
"""

from jaxcolor.cli.evaluate import main

if __name__ == "__main__":
    main("eval.py")
