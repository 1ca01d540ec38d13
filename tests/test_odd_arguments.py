"""Whatever is passed where a model, a name or a number is meant, it works, or an error says what was expected."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from audit_lit import AuditLitError, Auditor, Decoder, load_target
from audit_lit.errors import TargetError
from audit_lit.hooks import difference, fingerprint, fingerprint_of, same_model

pytestmark = pytest.mark.usefixtures("unchecked")
ODD = (
    torch.zeros(2, 3),
    torch.tensor(1),
    np.ones(2),
    object(),
    dict,
    1.5,
    b"x",
    {"x": torch.zeros(2)},
    [torch.zeros(2)],
    {1},
    print,
    True,
)


def refused(call: Callable[..., Any], **given: Any) -> None:
    """Call what need not raise, but may raise nothing else than an error of ours in full."""
    try:
        call(**given)
    except AuditLitError as err:
        assert len(str(err)) < 600 and "expected" in str(err), err


@pytest.mark.parametrize("argument", ["target", "decoder", "tokenizer", "layer", "baseline", "library"])
def test_auditor(target: Any, make_decoder: Any, argument: str) -> None:
    decoder = make_decoder()
    for odd in ODD:
        refused(Auditor, **{"target": target, "decoder": decoder, argument: odd})


def test_layer_of_a_decoder(make_decoder: Any) -> None:
    decoder, several = make_decoder(), make_decoder(write="project", read_layers=(3, 1), layer_choice="one")
    for odd in ODD:
        refused(Auditor.without_target, decoder=decoder, layer=odd)
        refused(Auditor.without_target, decoder=several, layer=odd)
    assert several.for_layer(np.int64(1)).config.read_layers == (1,)


@pytest.mark.parametrize(
    "argument", ["name", "revision", "subfolder", "target", "config", "protocol", "base", "quantised_base"]
)
def test_decoder(make_decoder: Any, tmp_path: Path, target: Any, argument: str) -> None:
    make_decoder().save(tmp_path / "decoder")
    for odd in ODD:
        refused(Decoder.from_pretrained, **{"name": tmp_path / "decoder", "target": target, argument: odd})


@pytest.mark.parametrize(
    "argument",
    ["name", "adapter", "revision", "device", "dtype", "device_map", "n_devices", "max_memory", "quantization"],
)
def test_load_target(tiny_folder: Path, argument: str) -> None:
    for odd in ODD:
        refused(load_target, **{"name": tiny_folder, argument: odd})


def test_fingerprints(target: Any) -> None:
    right = target.fingerprint()
    for odd in (*ODD, None):
        for call, arguments in (
            (same_model, (odd, right)),
            (same_model, (right, odd)),
            (difference, (odd, right)),
            (difference, (right, odd)),
            (fingerprint, (odd,)),
        ):
            with pytest.raises(TargetError, match=r"(?s)got .*expected"):
                call(*arguments)
        refused(fingerprint_of, embeddings=odd)
