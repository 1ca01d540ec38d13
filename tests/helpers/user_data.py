"""Data of TalkTuner's layout, for tests."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

TEXT = (
    "### Human: Hi {n}!\n\n### Assistant: Hello.\n\nHUMAN: I am in school.\nStill.\n\nASSISTANT: Fine.\n\nHUMAN: Bye."
)


def write_users(folder: Path, texts: list[str], name: str = "users.jsonl") -> Path:
    """Write dialogs of adolescents."""
    lines = [json.dumps({"attribute": "age", "label": "adolescent", "text": text}) for text in texts]
    content = "\n".join(lines).encode()
    (folder / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    return folder
