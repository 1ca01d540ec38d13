"""Break and load decoders' folders."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers.models import byte_tokenizer, tiny_llama

CONFIG, PROTOCOL = "adapter_config.json", "protocol.json"


def refuses(folder: Path, target: Any, error: type[Exception], *expected: str, **options: Any) -> None:
    """Expect loading a folder to raise exactly this error, with these words."""
    from audit_lit import Decoder

    with pytest.raises(error) as caught:
        Decoder.from_pretrained(str(folder), target=target, **options)
    assert type(caught.value) is error
    for words in expected:
        assert words in str(caught.value)


def edit_json(path: Path, **changes: Any) -> None:
    """Change values of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_tensors(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the tensors of a safetensors file."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def save_model(folder: Path, **settings: Any) -> str:
    """Write a tiny model with a tokenizer, and return the folder's name."""
    tiny_llama(**settings).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return str(folder)
