"""Tiny models and data, shared by tests and by trials of a training run."""
