"""Measure a decoder beside its controls."""
