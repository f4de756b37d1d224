"""Weights in and out: our own safetensors files and the authors' ``.pth`` files."""
