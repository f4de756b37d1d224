"""Boxes of many photos behind one interface: box files, COCO, Pascal VOC, and packed stores for millions of photos."""
