"""Places that a person names: the home folder is put in for ``~``; other machines' places are refused, by their name.

As a path, ``gs://bucket/run`` is a folder ``gs:`` below the current one, and ``~`` one of that name: what is written
there looks written, and is elsewhere.
"""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path
from typing import Any

from absl import flags

from jaxcolor.runtime.errors import UserError

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
"""Of a scheme of two letters at least: C:/ is a disk."""
_COLLAPSED = re.compile(r"(gs|gcs|s3|s3a|r2|az|abfss?|wasbs?|adl|hdfs|dbfs|hf|oci|swift|file|ftp|sftp|ssh|https?):/")
"""What a ``Path`` has made of an address of the common schemes. (vgg16:/home/me/vgg16.npz is none.)"""
_TEXTS = ("photos", "boxes", "data_dir", "list", "index", "weights", "detector")
"""Arguments of commands that are places, or names of data sets and detectors, and come as texts."""
_NAMED = ("systems",)
"""Those that are lists of ``NAME=PLACE``."""


def local_path(place: str | os.PathLike[str], name: str) -> str:
    """A place on this machine.

    Args:
      place: a path, perhaps below ``~``.
      name: of what it is given for, in messages.

    Returns:
      The path, with the home folder in place of ``~``; as it is otherwise.

    Raises:
      UserError: it is an address (``gs://…``, ``s3://…``, ``https://…``), or there is no home folder.
    """
    text = os.fspath(place)
    if _ADDRESS.match(text) or _COLLAPSED.match(text.lower()):
        scheme, _, rest = text.partition(":")
        address = f"{scheme}://{rest.lstrip('/')}"
        raise UserError(
            f"{name}: {address}: not a place on this machine, and others are neither read nor written; mount it (as "
            "gcsfuse and s3fs do for buckets) and give the path, or copy it"
        )
    expanded = os.path.expanduser(text) if text == "~" or text.startswith("~/") else text
    if expanded.startswith("~/") or expanded == "~":
        raise UserError(f"{name}: {text}: there is no home folder here; give the whole path")
    return expanded


def check_flags(values: flags.FlagValues, config: str) -> None:
    """``local_path`` for the flags of a program; those that name a place below ``~`` get the whole path.

    Args:
      values: the parsed flags; of ``NAME=PLACE`` the place counts.
      config: the flag of the config, whose fields ``config_io.from_dict`` checks.

    Raises:
      UserError: see ``local_path``.
    """
    for name in list(values):
        if name == config or name.startswith(f"{config}."):
            continue
        value = values[name].value
        if isinstance(value, str):
            values[name].value = _named_place(value, f"--{name}")
        elif isinstance(value, list):
            values[name].value = [_named_place(v, f"--{name}") if isinstance(v, str) else v for v in value]


def _named_place(text: str, name: str) -> str:
    title, equals, place = text.partition("=")
    return f"{title}={local_path(place, name)}" if equals and "/" not in title else local_path(text, name)


def check_arguments(options: argparse.Namespace) -> None:
    """``local_path`` for the arguments of a command, in place.

    Raises:
      UserError: see ``local_path``.
    """
    for name, value in vars(options).items():
        flag = f"--{name.replace('_', '-')}"
        if isinstance(value, Path) or (name in _TEXTS and isinstance(value, str)):
            setattr(options, name, _local(value, flag))
        elif isinstance(value, list) and name in _NAMED:
            setattr(options, name, [_named_place(v, flag) for v in value])
        elif isinstance(value, list):
            setattr(options, name, [_local(v, flag) if isinstance(v, Path) else v for v in value])


def _local(value: Any, name: str) -> Any:
    """In the type that it has."""
    return type(value)(local_path(value, name))
