"""Ablations: variants of one config, trained from the same weights, measured on the same photos, in one table."""
