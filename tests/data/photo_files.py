"""Photos, boxes, zip files and TFDS data sets made for a test."""

import io
import multiprocessing
import threading
import zipfile

import numpy as np
from PIL import Image


def write_boxes(path, boxes=(), scores=None, dtype=np.float32):
    path.parent.mkdir(exist_ok=True)
    boxes = np.array(boxes, dtype).reshape(-1, 4)
    np.savez(path, bbox=boxes, scores=np.linspace(0.9, 0.5, len(boxes), dtype=dtype) if scores is None else scores)


def write_photo(path, width=40, height=30, **options):
    path.parent.mkdir(exist_ok=True)
    Image.new("RGB", (width, height), (200, 100, 50)).save(path, **options)


def jpeg(seed, width=40, height=30, **options):
    """Bytes of a photo whose pixels depend on the seed."""
    rgb = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(rgb).resize((width, height), Image.Resampling.BICUBIC).save(file, "JPEG", **options)
    return file.getvalue()


def write_zip(path, members, method=zipfile.ZIP_STORED):
    """Members by name; a name that ends in / is a folder."""
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def prepare_tfds(folder, features, examples, split="train", name="made"):
    """A TFDS data set of ArrayRecord, written without TensorFlow.

    Args:
      folder: the data_dir.
      features: of TFDS by key.
      examples: of each record the values by key; they are shuffled by TFDS.
      split: of them.
      name: of the data set.

    Returns:
      The folder of its version.
    """
    import tensorflow_datasets as tfds

    class Made(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        """Made for a test."""

        VERSION = tfds.core.Version("1.0.0")
        code_path = None  # to look for it TFDS needs the package importlib_resources

        def _info(self):
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

        def _split_generators(self, dl_manager):
            return {split: self._generate_examples()}

        def _generate_examples(self):
            yield from enumerate(examples)

    Made.name = name
    builder = Made(data_dir=folder, file_format="array_record")
    builder.download_and_prepare()
    return folder / name / "1.0.0"


def contents(source):
    """Everything that a source hands out, in a form that can be compared."""
    return [
        (
            photo.name,
            photo.rgb.tobytes(),
            photo.boxes.tolist(),
            photo.scores.tolist(),
            None if photo.truth_boxes is None else photo.truth_boxes.tolist(),
        )
        for photo in (source[i] for i in range(len(source)))
    ]


def _answer(source, answers):
    answers.put(contents(source))


def contents_in_process(source, method):
    """``contents`` as a process sees them that was started by ``fork`` or ``spawn``."""
    context = multiprocessing.get_context(method)
    answers = context.Queue()
    child = context.Process(target=_answer, args=(source, answers), daemon=True)
    child.start()
    found = answers.get(timeout=120)
    child.join(timeout=60)
    assert child.exitcode == 0
    child.close()
    return found


def contents_in_threads(source, count=8):
    """``contents`` as each of ``count`` threads sees them that read at the same time."""
    found, start = [], threading.Barrier(count)

    def work():
        start.wait(60)
        found.append(contents(source))

    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    return found
