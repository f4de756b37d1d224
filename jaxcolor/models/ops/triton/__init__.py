"""Kernels in Pallas for Triton, for NVIDIA GPUs."""
