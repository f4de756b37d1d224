"""What the commands' parsers have in common."""

from __future__ import annotations

from typing import Any

Subparsers = Any
"""What ``ArgumentParser.add_subparsers`` gives; its class is private to argparse."""

STORES = (
    "Boxes are a folder of <stem>.npz files (arrays bbox, scores) or of Pascal VOC <stem>.xml files, a JSON file of "
    "COCO detection results or instances, or a packed store."
)
"""Said by every command that takes boxes."""
