"""How many photos a second a host with many cores can feed: decode, resize, cut out crops, put into batches.

Command: ``python benchmarks/feeding.py --workers 30`` prints JSON at the end, and on standard error each result as soon
as it is measured. It makes its photos itself (JPEG, 300 x 300 pixels or ``--photo-side``, of ``--photos``), and keeps
them as files, in a zip file and as records of an ArrayRecord file, each in memory (``/dev/shm``) and on the disk of
``--disk``, out of whose cache they are dropped before each run. Photos a second are those of the whole loader, as
training reads it (``train_batches``: ``full``; and ``full_and_8_crops``, the photo and 8 crops, all at 256 x 256), in
batches of ``--batch`` on the host.

A run takes ``--seconds`` and the start of its processes; four runs for each of ``--forms``. Of packages it needs those
that the loader imports: jax, grain, array_record, numpy, Pillow, absl-py, jaxtyping, tqdm.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from jaxcolor.config import DataConfig
from jaxcolor.data.array_records import RecordFile, open_records
from jaxcolor.data.boxes.packed_writer import pack_store
from jaxcolor.data.boxes.registry import open_store
from jaxcolor.data.loader import Parts, train_batches
from jaxcolor.data.sources.base import Identity, PhotoSet
from jaxcolor.data.sources.photo_source import FolderSet, PhotoSource
from jaxcolor.data.sources.zip_file import ZipSet
from jaxcolor.data.types import Encoded, Entry, Names

SIDE = 256
BOXES = 8
DIFFERENT = 64
"""Photos that are made; the others are copies."""
WORK: dict[str, Parts] = {"full": "full", "full_and_8_crops": "both"}


class Records:
    """Photos as the records of one ArrayRecord file; a set, as ``sources.base.PhotoSet`` says."""

    carries_detections = carries_truth = False
    remarks = ""

    def __init__(self, path: Path, names: list[str]) -> None:
        self.path, self.where, self.name = path, str(path), path.name
        self._keys = Names.of(names)
        self._open: tuple[int, object] | None = None

    def __len__(self) -> int:
        return len(self._keys)

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_open": None}

    def keys(self) -> Names:
        """Of all photos."""
        return self._keys

    def entry(self, number: int) -> Entry:
        """A record."""
        if self._open is None or self._open[0] != os.getpid():  # a reader is of no use after a fork
            self._open = (os.getpid(), open_records(self.path))
        (data,) = self._open[1].read(number, number + 1)  # type: ignore[attr-defined]
        return Entry(self._keys[number], Encoded(f"{self.path} {number}", data), f"{self._keys[number]}.jpg")

    def header(self, number: int) -> Encoded | None:
        """A record is read as a whole."""
        return None

    def identity(self, *, sizes: bool = True) -> Identity:
        """Of the names alone."""
        return Identity("records", self.where, len(self), self._keys.digest())

    def state(self, numbers: range) -> str:
        """Of the names alone."""
        return self._keys.digest()


def jpegs(side: int) -> list[bytes]:
    """Smooth colors with noise; about as large as a photo's file of this size."""
    made = []
    for seed in range(DIFFERENT):
        rng = np.random.default_rng(seed)
        coarse = Image.fromarray(rng.integers(0, 256, (side // 12, side // 12, 3), np.uint8))
        smooth = np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC), np.float32)
        noisy = smooth + rng.normal(0, 8, (side, side, 1))
        file = io.BytesIO()
        Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(file, "JPEG", quality=85)
        made.append(file.getvalue())
    return made


def prepare(folder: Path, photos: list[bytes], names: list[str]) -> None:
    """The photos in each form."""
    (folder / "files").mkdir()
    with zipfile.ZipFile(folder / "photos.zip", "w") as archive, RecordFile(folder / "photos.array_record") as records:
        for number, name in enumerate(names):
            data = photos[number % len(photos)]
            (folder / "files" / f"{name}.jpg").write_bytes(data)
            archive.writestr(f"{name}.jpg", data)
            records.write(data)


def opened(form: str, folder: Path, names: list[str]) -> PhotoSet:
    """The photos of a form."""
    if form == "records":
        return Records(folder / "photos.array_record", names)
    return FolderSet(folder / "files") if form == "files" else ZipSet(folder / "photos.zip")


def forget(folder: Path) -> None:
    """Drop what is in a folder from the system's cache of the disk."""
    os.sync()
    for path in folder.rglob("*"):
        if path.is_file():
            number = os.open(path, os.O_RDONLY)
            os.posix_fadvise(number, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(number)


def boxes(folder: Path, side: int, names: list[str]) -> Path:
    """A packed store of 8 boxes for each photo, of COCO's sizes."""
    rng = np.random.default_rng(0)
    (folder / "boxes").mkdir()
    for name in names:
        size = np.clip(np.exp(rng.normal(-1.5, 0.9, (BOXES, 2))), 0.03, 1) * side
        start = rng.uniform(0, 1, (BOXES, 2)) * (side - size)
        found = np.concatenate([start, start + size], axis=1).astype(np.float32)
        np.savez(folder / "boxes" / f"{name}.npz", bbox=found, scores=np.ones(BOXES, np.float32))
    pack_store(folder / "boxes", folder / "packed")
    return folder / "packed"


def measured(source: PhotoSource, config: DataConfig, parts: Parts, batch: int, seconds: float) -> Iterator[float]:
    """Seconds to the first batch; then photos a second, those that had been read ahead left out."""
    began = time.perf_counter()
    with train_batches(source, config, parts=parts, side=SIDE, batch_size=batch) as batches:
        next(batches)
        yield time.perf_counter() - began
        began, steps = time.perf_counter(), 0
        while time.perf_counter() - began < seconds / 3 or steps < 2 * max(1, config.workers):
            next(batches)
            steps += 1
        began, steps = time.perf_counter(), 0
        while (taken := time.perf_counter() - began) < seconds:
            next(batches)
            steps += 1
        yield steps * batch / taken


def main() -> None:
    """Measure and print."""
    cores = len(os.sched_getaffinity(0))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=max(1, cores - 2), help="processes that decode")
    parser.add_argument("--photos", type=int, default=12000, help="more than a run reads")
    parser.add_argument("--photo-side", type=int, default=300)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each run, beside its start")
    parser.add_argument("--disk", type=Path, default=Path.cwd(), help="where a folder is made")
    parser.add_argument("--forms", nargs="+", default=["files", "zip", "records"], choices=["files", "zip", "records"])
    options = parser.parse_args()
    names = [f"photo{number:06d}" for number in range(options.photos)]
    made = jpegs(options.photo_side)
    result: dict[str, object] = {
        "machine": f"{platform.machine()}, {cores} cores",
        "versions": {"python": platform.python_version(), "pillow": Image.__version__, "numpy": np.__version__},
        "photos": f"{options.photos} JPEG, {options.photo_side} pixels wide and high",
        "bytes_per_photo": sum(map(len, made)) // len(made),
        "workers": options.workers,
        "batch": options.batch,
        "unit": "photos a second",
    }
    shared = Path("/dev/shm")
    memory = shared if shared.is_dir() else None
    with tempfile.TemporaryDirectory(dir=memory) as fast, tempfile.TemporaryDirectory(dir=options.disk) as slow:
        store = open_store(boxes(Path(fast), options.photo_side, names))
        config = DataConfig(threads=1, workers=options.workers, max_crops_per_image=float(BOXES))
        for place, folder in (("memory", Path(fast)), ("disk", Path(slow))):
            prepare(folder, made, names)
            for form in options.forms:
                source = PhotoSource(config, opened(form, folder, names), store, None)
                for what, parts in WORK.items():
                    if place == "disk":
                        forget(folder)
                    first, rate = measured(source, config, parts, options.batch, options.seconds)
                    result[f"{what}, {form}, {place}"] = round(rate, 1)
                    print(f"{what}, {form}, {place}: {rate:.1f} photos/s", file=sys.stderr, flush=True)
                    result.setdefault("first_batch_s", round(first, 1))
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
