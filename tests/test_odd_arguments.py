"""Whatever is passed where a model, a name or a number is meant, it works, or an error says what was expected."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from audit_lit import AuditLitError, Auditor, Decoder, Reading, load_target
from audit_lit.errors import ActivationError, DialogError, QuestionError, TargetError
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


def test_what_is_asked_and_about_what(auditor: Any, tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "Hi."}]
    for question in (None, [], ()):
        with pytest.raises(QuestionError, match=r"got no question; expected a sentence such as .*, or a list"):
            auditor.ask(messages, question)
    with pytest.raises(QuestionError, match="got no question"):
        auditor.ask(messages)
    for name in ("a.safetensors", Path("a.safetensors")):
        with pytest.raises(DialogError, match=r"got 'a.safetensors' for a dialog.*Reading.load\('a.safetensors'\)"):
            auditor.ask(name, "What?")
        with pytest.raises(DialogError, match=r"Reading.load\('a.safetensors'\)"):
            Auditor.without_target(auditor.session.full_decoder).ask(name, "What?")
    with pytest.raises(DialogError, match="got a dict; expected one dialog"):
        auditor.ask(messages[0], "What?")
    few: dict[str, Any] = {"samples": 0, "max_new_tokens": 3}
    as_document = auditor.ask({"id": 3, "messages": messages}, "What?", **few)
    assert as_document == auditor.ask(messages, "What?", **few)
    with pytest.raises(ActivationError, match=r"there is no file '.*none'; expected one that"):
        Reading.load(tmp_path / "none")
    without = repr(Auditor.without_target(auditor.session.full_decoder))
    assert without.startswith("<Auditor of files, without a target, by <Decoder")


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
