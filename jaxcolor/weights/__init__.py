"""Weights in and out: the reference's ``.pth`` files and our own released form."""
