"""Preparing a data set with TFDS's own builder, as ArrayRecord.

The one place that needs TensorFlow: TFDS's official builders read archives and shuffle big splits with it. What they
prepare is read without. TensorFlow and TFDS are imported when ``prepare`` is called, not before.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from jaxcolor.data.types import DataError
from jaxcolor.runtime.atomic import check_space, folder_size
from jaxcolor.runtime.errors import one_line

_NEEDED = ("tensorflow", "tensorflow_datasets")


class _Tar(NamedTuple):
    """A file that ImageNet's builder reads."""

    name: str
    split: str
    member: str
    """What the names in it are like."""
    photos: int
    """How many the whole one holds."""


_IMAGENET = (
    _Tar("ILSVRC2012_img_train.tar", "train", r"n[0-9]{8}\.tar", 1_281_167),
    _Tar("ILSVRC2012_img_val.tar", "validation", r"ILSVRC2012_val_[0-9]{8}\.JPEG", 50_000),
)


class Prepared(NamedTuple):
    """What there is after ``prepare``."""

    path: Path
    """The folder of this version."""
    splits: dict[str, int]
    """How many examples each has."""
    size: int
    """Bytes of its files."""
    seconds: float
    """That it took; 0 if it was there already."""
    notes: list[str]
    """What a person should know about it."""


def prepare(name: str, data_dir: Path, manual_dir: Path | None = None, max_examples: int | None = None) -> Prepared:
    """Prepares a data set, or finds that it is prepared.

    Args:
      name: as TFDS knows it: ``imagenet2012``, ``coco/2017``.
      data_dir: the folder in which TFDS keeps data sets.
      manual_dir: the folder with files that a person downloaded; None: ``downloads/manual`` in ``data_dir``.
      max_examples: of each split, for a trial; None: all.

    Raises:
      DataError: TensorFlow is not installed, a file is missing or damaged, the disk is too small, TFDS does not know
        the data set or cannot prepare it, or it is there in another file format.
    """
    if max_examples is not None and max_examples < 1:
        raise DataError(f"--max-examples {max_examples}: must be at least 1")
    manual_dir = data_dir / "downloads" / "manual" if manual_dir is None else manual_dir
    with _quiet():
        tfds = _import()
        builder = _builder(tfds, name, data_dir)
        found = _found(tfds, builder)
        if found is not None:
            return found
        tars = _check_tars(manual_dir) if builder.name == "imagenet2012" else []
        if max_examples is None:
            check_space(data_dir, sum(path.stat().st_size for path in tars))
        notes = [f"no {tar.name} in {manual_dir}: no split {tar.split}" for tar in _absent(builder.name, manual_dir)]
        for note in (*notes, *_left_over(Path(builder.data_path))):
            print(note, file=sys.stderr)
        started = time.monotonic()
        _run(tfds, builder, manual_dir, max_examples)
    splits = {split: info.num_examples for split, info in builder.info.splits.items()}
    notes += _not_whole(builder.name, splits)
    path = Path(builder.data_path)
    return Prepared(path, splits, folder_size(path), time.monotonic() - started, notes)


def _import() -> Any:
    for module in _NEEDED:
        try:
            importlib.import_module(module)
        except ImportError as error:
            missing = error.name or module
            raise DataError(
                f"preparing needs TensorFlow ({missing} is missing): pip install 'jaxcolor[prepare]'"
            ) from (error)
    return sys.modules["tensorflow_datasets"]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Less of what TensorFlow and TFDS say of themselves; standard output is kept for the result."""
    # Read by TensorFlow's C++ when it is loaded. oneDNN announces itself past the log level, and computes nothing here.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    from absl import logging

    before = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        logging.set_verbosity(before)


def _builder(tfds: Any, name: str, data_dir: Path) -> Any:
    try:
        return tfds.builder(name, data_dir=str(data_dir), try_gcs=False)
    except tfds.core.DatasetNotFoundError as error:
        raise DataError(f"{name}: TFDS {tfds.__version__} knows no such data set") from error
    except (ValueError, AssertionError, ImportError) as error:
        raise DataError(f"{name}: TFDS cannot open this data set: {one_line(error)}") from error


def _found(tfds: Any, builder: Any) -> Prepared | None:
    path = Path(builder.data_path)
    if not path.exists():
        return None
    if not builder.info.splits:
        raise DataError(f"{path}: exists, but holds no prepared data set; remove it")
    if builder.info.file_format != tfds.core.FileFormat.ARRAY_RECORD:
        kind = builder.info.file_format.value
        raise DataError(
            f"{path}: is prepared already, as {kind}. To make ArrayRecord of it: jaxcolor data convert {path} OUTPUT"
        )
    splits = {split: info.num_examples for split, info in builder.info.splits.items()}
    notes = ["was prepared already: nothing done", *_not_whole(builder.name, splits)]
    return Prepared(path, splits, folder_size(path), 0.0, notes)


def _not_whole(name: str, splits: dict[str, int]) -> list[str]:
    """Which splits are not ImageNet's: of a trial, or of files that were cut off between two photos."""
    whole = {tar.split: tar.photos for tar in _IMAGENET} if name == "imagenet2012" else {}
    return [
        f"{split}: {count:,} of ImageNet's {whole[split]:,} photos"
        for split, count in splits.items()
        if split in whole and count != whole[split]
    ]


def _absent(name: str, manual_dir: Path) -> list[_Tar]:
    return [tar for tar in _IMAGENET if name == "imagenet2012" and not (manual_dir / tar.name).exists()]


def _check_tars(manual_dir: Path) -> list[Path]:
    """ImageNet's files, looked into before hours of work: there, and of the form that the builder takes for granted."""
    absent = _absent("imagenet2012", manual_dir)
    # The builder makes the split validation alone, but not train alone: it opens the other file's list either way.
    if any(tar.split == "validation" for tar in absent):
        needed = " and ".join(tar.name for tar in absent)
        also = "" if len(absent) > 1 else "; TFDS's builder needs it for the split train too"
        raise DataError(
            f"{manual_dir}: {needed} {'are' if len(absent) > 1 else 'is'} missing{also}. Download from "
            "https://image-net.org/download-images (after registration) and put it there, or name its folder with "
            "--manual-dir"
        )
    present = [tar for tar in _IMAGENET if tar not in absent]
    for tar in present:
        path = manual_dir / tar.name
        try:
            with tarfile.open(path, "r:") as archive:
                first = archive.next()
        except (tarfile.TarError, OSError, EOFError) as error:
            raise DataError(f"{path}: cannot read this tar file: {one_line(error)}; download it again") from error
        if first is None or not re.fullmatch(tar.member, first.name):
            named = "nothing" if first is None else repr(first.name)
            raise DataError(f"{path}: begins with {named}; it must hold files like {tar.member}, without folders")
    return [manual_dir / tar.name for tar in present]


def _left_over(path: Path) -> list[str]:
    """TFDS removes what it could not finish, unless it was killed."""
    folders = sorted(path.parent.glob(f"incomplete.*_{path.name}"))
    return [f"{folder}: left by a run that was killed, or is still going on; remove it if not" for folder in folders]


def _run(tfds: Any, builder: Any, manual_dir: Path, max_examples: int | None) -> None:
    import tensorflow as tf

    with contextlib.suppress(RuntimeError, ValueError):
        tf.config.set_visible_devices([], "GPU")  # nothing to compute: leave its memory to others
    config = tfds.download.DownloadConfig(
        manual_dir=str(manual_dir),
        max_examples_per_split=max_examples,
        try_download_gcs=False,  # what is kept there is TFRecord
    )
    try:
        builder.download_and_prepare(download_config=config, file_format="array_record")
    except (tarfile.TarError, EOFError, AssertionError, LookupError, ValueError, tf.errors.OpError) as error:
        raise DataError(f"{builder.name}: TFDS could not prepare it: {one_line(error)}") from error
    except Exception as error:
        # TFDS's own errors about downloads derive from nothing else.
        if not type(error).__module__.startswith("tensorflow_datasets."):
            raise
        raise DataError(f"{builder.name}: TFDS could not prepare it: {one_line(error)}") from error
