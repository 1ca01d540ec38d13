"""Which weights a decoder's LoRA is put on: told by fingerprints, and never by a name alone that might mislead."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from helpers.decoder_files import edit_json, refuses, save_model

from audit_lit import Decoder, DecoderMismatch, load_target
from audit_lit.models.loading import weights_fingerprint

PROTOCOL = "protocol.json"


@pytest.fixture
def mirror(tiny_folder: Path, tmp_path: Path) -> str:
    """The target's weights under another name."""
    return str(shutil.copytree(tiny_folder, tmp_path / "mirror"))


def shares_weights(decoder: Any, target: Any) -> bool:
    embedding = decoder.model.get_input_embeddings().weight
    return bool(embedding.data_ptr() == target.base.get_input_embeddings().weight.data_ptr())


def test_a_target_under_another_name_with_the_bases_weights_shares_them(folder: Path, target: Any, mirror: str) -> None:
    other = load_target(mirror)
    for fingerprint in (weights_fingerprint(target.base), None):  # without one, the base is loaded and compared
        edit_json(folder / PROTOCOL, base_fingerprint=fingerprint)
        assert shares_weights(Decoder.from_pretrained(str(folder), target=other), other)


def test_a_mirror_that_the_caller_names_is_the_base(folder: Path, target: Any, mirror: str) -> None:
    edit_json(folder / PROTOCOL, base="org/gone")
    assert shares_weights(Decoder.from_pretrained(str(folder), target=target, base=target.name), target)
    assert shares_weights(Decoder.from_pretrained(str(folder), target=target, base=mirror), target)
    assert Decoder.from_pretrained(str(folder), base=mirror).config.base == "org/gone"


def test_a_mirror_with_other_weights_is_refused_where_a_fingerprint_is_recorded(
    folder: Path, target: Any, tmp_path: Path
) -> None:
    other = save_model(tmp_path / "other", seed=5)
    edit_json(folder / PROTOCOL, base_fingerprint=weights_fingerprint(target.base))
    refuses(folder, target, DecoderMismatch, other, "other weights", base=other)
    refuses(folder, None, DecoderMismatch, other, "other weights", f"its own base, {target.name!r}", base=other)
    refuses(folder, load_target(other), DecoderMismatch, other, "other weights", base=other)


def test_a_fine_tune_that_is_called_like_the_base_is_not_taken_for_it(folder: Path, tiny_folder: Path) -> None:
    tuned = load_target(str(tiny_folder))
    edit_json(folder / PROTOCOL, base_fingerprint=weights_fingerprint(tuned.base))
    tuned.base.model.layers[0].mlp.down_proj.weight.data.mul_(3)
    assert not shares_weights(Decoder.from_pretrained(str(folder), target=tuned), tuned)
