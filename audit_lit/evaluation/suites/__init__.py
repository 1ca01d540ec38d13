"""Suites that measure a decoder, one module each."""
