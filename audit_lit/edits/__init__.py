"""Edits of a target by the decoder's gradient."""
