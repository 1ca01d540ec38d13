"""Data sets that decoders are trained and measured on, in the layouts that they are published in."""
