"""Commands of their own size; ``cli.py`` puts them beside its own."""
