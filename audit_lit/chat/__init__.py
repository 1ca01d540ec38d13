"""Dialogs: the value, the formats that people have, and their rendering to tokens, spans and positions."""
