"""Equality with the reference: checks of a folder of goldens, as tests and as a command."""
