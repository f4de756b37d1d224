"""Evaluation: metrics, the protocol that applies them to a source of photos, and reports of what came out."""
