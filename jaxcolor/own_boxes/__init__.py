"""Training of the head that finds objects on the full-image network's own features (``models.box_head``).

The network below is frozen, so that a few minutes of one device are enough. All photos lie in the devices' memory, with
their boxes; windows, flips and mosaics are drawn there.
"""
