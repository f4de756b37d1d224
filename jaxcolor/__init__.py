"""Instance-aware image colorization (Su, Chu, Huang, CVPR 2020) in JAX and Flax."""

__version__ = "0.1.0"
