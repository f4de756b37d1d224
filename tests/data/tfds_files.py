"""TFRecord preparations and ImageNet's tar files, small ones."""

import io
import json
import tarfile

import numpy as np
from PIL import Image


def photo(seed, mode="RGB", format_="JPEG", size=(40, 30)):
    """The file of a photo that no other seed gives."""
    noise = np.random.default_rng(seed).integers(0, 256, (3, 4, 3), np.uint8)
    data = io.BytesIO()
    Image.fromarray(noise).resize(size).convert(mode).save(data, format_)
    return data.getvalue()


def write_tfrecord(path, records):
    import tensorflow as tf  # not everywhere

    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)


def preparation(path, shards, name="made_up", **fields):
    """A TFRecord preparation of one split: the records of each shard."""
    path.mkdir(parents=True)
    for number, records in enumerate(shards):
        write_tfrecord(path / f"{name}-train.tfrecord-{number:05d}-of-{len(shards):05d}", records)
    info = {
        "name": name,
        "version": "1.0.0",
        "fileFormat": "tfrecord",
        "splits": [{"name": "train", "numBytes": "1", "shardLengths": [str(len(records)) for records in shards]}],
        **fields,
    }
    (path / "dataset_info.json").write_text(json.dumps(info))
    (path / "features.json").write_text("{}")
    return path


def tar_bytes(members):
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for name, contents in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(contents)
            tar.addfile(entry, io.BytesIO(contents))
    return data.getvalue()


def imagenet_tars(folder, train, validation):
    """ImageNet's two files; ``train`` maps a synset to its photos by name, ``validation`` names to photos."""
    folder.mkdir(parents=True)
    nested = {f"{synset}.tar": tar_bytes(photos) for synset, photos in train.items()}
    (folder / "ILSVRC2012_img_train.tar").write_bytes(tar_bytes(nested))
    (folder / "ILSVRC2012_img_val.tar").write_bytes(tar_bytes(validation))
    return folder
