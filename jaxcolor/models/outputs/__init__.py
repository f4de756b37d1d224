"""Output heads: what a network predicts, its loss, and how a color is decoded from it."""
