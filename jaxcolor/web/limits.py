"""How much the server takes and keeps. Its memory is the weights, one call of the networks, and at most these."""

UPLOAD_BYTES = 64 << 20
"""Of one photo's file."""
PIXELS = 64_000_000
"""Of one photo."""
JSON_BYTES = 1 << 20
"""Of what else the page sends."""
FILES_BYTES = 256 << 20
"""Of the photos' files that are kept; the one that was used longest ago goes first. The page sends it again."""
DECODED_BYTES = 200 << 20
"""Of decoded photos that are kept; one always is."""
CROP_BYTES = 1024 << 20
"""Of features of crops: those of eleven at full width in float32, fused in the decoder."""
PHOTO_BYTES = 160 << 20
"""Of features of whole photos: four states of their hints."""
LOOK_BYTES = 64 << 20
"""Of colors on the canvas: about 64 states of photos, so that undoing costs nothing."""
DISTRIBUTION_BYTES = 48 << 20
"""Of distributions of colors, from which palettes are read: about five states."""
PREVIEW_SIDE = 1400
"""Longer side of the pictures shown, in pixels."""
SAMPLE_SIDE = 480
"""That of samples."""
SAMPLES = 6
"""Most samples of one request."""
BOXES = 64
"""Most boxes of a photo."""
WAITING = 64
"""Most requests that wait for the networks; further ones are sent away (503)."""
