"""TFDS's real builder on small files of ImageNet's form. The command runs as its users run it, in a process of its own:
TensorFlow and TFDS's builders warn of much that is deprecated, and warnings are errors here."""

import importlib.util
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tensorflow_datasets as tfds
from PIL import Image

from tests.data.tfds_files import imagenet_tars, photo

ROOT = Path(__file__).parents[3]
SAMPLE = ROOT.parent / "shared" / "data" / "imagenet_sample" / "images"

needs_tensorflow = pytest.mark.skipif(
    importlib.util.find_spec("tensorflow") is None, reason="no TensorFlow here: pip install 'jaxcolor[prepare]'"
)

TRAIN = {
    "n01440764": {f"n01440764_{n}.JPEG": photo(n) for n in range(3)},
    "n01443537": {"n01443537_3.JPEG": photo(3, mode="L"), "n01443537_4.JPEG": photo(4)},
}
VALIDATION = {f"ILSVRC2012_val_{n:08d}.JPEG": photo(100 + n) for n in (3, 1, 2)}


def jaxcolor(*arguments, code="from jaxcolor.cli import main; sys.exit(main(sys.argv[1:]))"):
    """The command's exit status, its output, what it said beside it."""
    command = [sys.executable, "-c", f"import sys; {code}", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def prepare(folder, *options, name="imagenet2012", **more):
    return jaxcolor(
        "data", "prepare", name, "--manual-dir", folder / "tars", "--data-dir", folder / "data", *options, **more
    )


def read(data_dir, split):
    """File names and files of the photos of a split, and their classes."""
    builder = tfds.builder_from_directory(str(data_dir / "imagenet2012" / "5.1.0"))
    source = builder.as_data_source(split=split, decoders={"image": tfds.decode.SkipDecoding()})
    examples = [source[number] for number in range(len(source))]
    names = builder.info.features["label"].names
    return {
        example["file_name"].decode(): (example["image"], names[example["label"]] if example["label"] >= 0 else None)
        for example in examples
    }


@needs_tensorflow
def test_imagenet_is_prepared(tmp_path):
    cmyk = {"n01739381": {"n01739381_1309.JPEG": photo(7, mode="CMYK")}}  # one that TFDS knows to be so
    imagenet_tars(tmp_path / "tars", TRAIN | cmyk, VALIDATION)
    status, printed, said = prepare(tmp_path)
    assert status == 0, said
    assert "train: 6 photos" in printed
    assert "validation: 3 photos" in printed
    assert "note: train: 6 of ImageNet's 1,281,167 photos" in printed
    assert (
        f"--config.data.source=tfds --config.data.path=imagenet2012 --config.data.data_dir={tmp_path / 'data'} "
        "--config.data.split=train" in printed
    )
    assert "oneDNN" not in said
    assert "Generating train examples" in said
    folder = tmp_path / "data" / "imagenet2012" / "5.1.0"
    assert json.loads((folder / "dataset_info.json").read_text())["fileFormat"] == "array_record"
    wanted = {name: (data, synset) for synset, photos in TRAIN.items() for name, data in photos.items()}
    train = read(tmp_path / "data", "train")
    assert Image.open(io.BytesIO(train.pop("n01739381_1309.JPEG")[0])).mode == "RGB"
    assert train == wanted
    assert {name: data for name, (data, _) in read(tmp_path / "data", "validation").items()} == VALIDATION

    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    status, printed, _ = prepare(tmp_path)
    assert status == 0
    assert "was prepared already: nothing done" in printed
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before


@needs_tensorflow
def test_a_trial_of_the_validation_files_alone(tmp_path):
    imagenet_tars(tmp_path / "tars", TRAIN, VALIDATION)
    (tmp_path / "tars" / "ILSVRC2012_img_train.tar").unlink()
    status, printed, said = prepare(tmp_path, "--max-examples", 2)
    assert status == 0, said
    assert "no ILSVRC2012_img_train.tar in" in said
    assert "validation: 2 photos" in printed
    assert len(read(tmp_path / "data", "validation")) == 2


def _only_train(tars):
    (tars / "ILSVRC2012_img_val.tar").unlink()


def _no_tar(tars):
    (tars / "ILSVRC2012_img_train.tar").write_bytes(b"downloaded an error page")


def _swapped(tars):
    os.replace(tars / "ILSVRC2012_img_train.tar", tars / "ILSVRC2012_img_val.tar")


def _cut_off(tars):
    path = tars / "ILSVRC2012_img_train.tar"
    path.write_bytes(path.read_bytes()[:2000])


def _nothing(tars):
    for path in tars.iterdir():
        path.unlink()


BAD_TARS = {
    _nothing: "tars: ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar are missing. Download",
    _only_train: "tars: ILSVRC2012_img_val.tar is missing; TFDS's builder needs it",
    _no_tar: "ILSVRC2012_img_train.tar: cannot read this tar file",
    _swapped: "ILSVRC2012_img_val.tar: begins with 'n01440764.tar'; it must hold files like ILSVRC2012_val_",
    _cut_off: "imagenet2012: TFDS could not prepare it: ",
}


@needs_tensorflow
# Each starts TensorFlow anew; one of them is enough for every day.
@pytest.mark.parametrize(
    "damage", [pytest.param(bad, marks=[pytest.mark.slow] if i else []) for i, bad in enumerate(BAD_TARS)]
)
def test_what_is_wrong_with_the_tar_files_is_named(tmp_path, damage):
    damage(imagenet_tars(tmp_path / "tars", TRAIN, VALIDATION))
    status, printed, said = prepare(tmp_path)
    assert (status, printed) == (1, "")
    assert BAD_TARS[damage] in said
    assert "Traceback" not in said
    assert not list(tmp_path.glob("data/imagenet2012/*"))


@needs_tensorflow
def test_other_names_and_formats(tmp_path):
    status, _, said = prepare(tmp_path, name="imagenet2013")
    assert status == 1
    assert "imagenet2013: TFDS " in said
    status, _, said = prepare(tmp_path, "--max-examples", 0)
    assert status == 1
    assert "--max-examples 0: must be at least 1" in said


@needs_tensorflow
@pytest.mark.slow
def test_a_tfrecord_preparation_is_left_to_convert(tmp_path):
    imagenet_tars(tmp_path / "tars", TRAIN, VALIDATION)
    code = (
        "import tensorflow_datasets as tfds; "
        "config = tfds.download.DownloadConfig(manual_dir=sys.argv[1], try_download_gcs=False); "
        "tfds.builder('imagenet2012', data_dir=sys.argv[2]).download_and_prepare(download_config=config)"
    )
    status, _, said = jaxcolor(tmp_path / "tars", tmp_path / "records", code=code)
    assert status == 0, said
    made = tmp_path / "records" / "imagenet2012" / "5.1.0"
    status, _, said = jaxcolor("data", "prepare", "imagenet2012", "--data-dir", tmp_path / "records")
    assert status == 1
    assert f"jaxcolor data convert {made} OUTPUT" in said
    status, _, said = jaxcolor("data", "convert", made, tmp_path / "data" / "imagenet2012" / "5.1.0")
    assert status == 0, said
    assert len(read(tmp_path / "data", "train")) == 5
    assert prepare(tmp_path)[0] == 0
    assert {name: data for name, (data, _) in read(tmp_path / "data", "validation").items()} == VALIDATION


def test_without_tensorflow_one_line_says_what_to_install(tmp_path):
    # None in sys.modules is how Python is told that a module cannot be imported.
    code = "sys.modules['tensorflow'] = None; from jaxcolor.cli import main; sys.exit(main(sys.argv[1:]))"
    status, printed, said = prepare(tmp_path, code=code)
    assert (status, printed) == (1, "")
    assert said == (
        "jaxcolor data: preparing needs TensorFlow (tensorflow is missing): pip install 'jaxcolor[prepare]'\n"
    )
    assert not list(tmp_path.iterdir())


def test_nothing_else_imports_tensorflow():
    code = "import jaxcolor.cli.data, jaxcolor.data.tools.prepare; sys.exit('tensorflow' in sys.modules)"
    assert jaxcolor(code=code) == (0, "", "")


@needs_tensorflow
@pytest.mark.slow
@pytest.mark.skipif(not SAMPLE.is_dir(), reason="no photos of ImageNet here")
def test_photos_of_imagenet(tmp_path):
    train = {}
    for path in SAMPLE.iterdir():
        synset = path.name.split("_")[0]
        train.setdefault(synset, {})[f"{path.stem}.JPEG"] = path.read_bytes()
    photos = [photos for synset in train.values() for photos in synset.values()]
    validation = {f"ILSVRC2012_val_{n:08d}.JPEG": data for n, data in enumerate(photos[:50], 1)}
    imagenet_tars(tmp_path / "tars", train, validation)
    status, printed, said = prepare(tmp_path)
    assert status == 0, said
    assert f"train: {len(photos)} photos" in printed
    wanted = {name: (data, synset) for synset, files in train.items() for name, data in files.items()}
    assert read(tmp_path / "data", "train") == wanted
