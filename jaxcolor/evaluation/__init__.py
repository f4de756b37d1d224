"""Evaluation: metrics, protocol, reports."""
