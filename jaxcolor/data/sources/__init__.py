"""Encoded photos in a fixed order, whatever holds them: a folder, a zip file, COCO's downloads, a TFDS data set."""
