"""Calibrate any decoder on any target, with what ships with the package: nothing, neutral dialogs, planted prompts."""
