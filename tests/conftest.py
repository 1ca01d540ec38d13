"""Tiny random models and a byte tokenizer, built from config: fast, offline, seeded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

CHAT_TEMPLATE = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nDefault.<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def byte_tokenizer(chat_template: str = CHAT_TEMPLATE) -> Any:
    """Bytes, special tokens, and ``?`` and `` ?`` as one token each."""
    from audit_lit.training.smoke import byte_tokenizer as build

    tokenizer = build()
    tokenizer.chat_template = chat_template
    tokenizer.padding_side = "left"
    return tokenizer


def tiny_llama(n_layers: int = 4, d_model: int = 32, seed: int = 0, **settings: Any) -> Any:
    """A random Llama with well-spread weights."""
    from audit_lit.training.smoke import tiny_llama as build

    return build(n_layers, d_model, seed=seed, max_position_embeddings=1024, initializer_range=0.1, **settings)


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    if not request.node.get_closest_marker("model"):
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    return byte_tokenizer()


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model on disk, as ``load_target`` takes it."""
    folder = tmp_path_factory.mktemp("models") / "tiny-llama"
    tiny_llama().save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def target(tiny_folder: Path) -> Any:
    """The tiny model as a TransformerBridge target; read-only."""
    from audit_lit import load_target

    return load_target(str(tiny_folder))


@pytest.fixture
def protocol(target: Any) -> Any:
    """A wire format of the tiny target, with norm-matched addition."""
    return make_protocol(target)


def make_protocol(target: Any, **changes: Any) -> Any:
    from audit_lit import Protocol

    settings: dict[str, Any] = {
        "name": "tiny",
        "target": target.name,
        "base": target.name,
        "d_model": target.d_model,
        "n_layers": target.n_layers,
        "read_layers": (2,),
        "prompt": "<|im_start|>user\n{question}\n{sections}<|im_end|>\n<|im_start|>assistant\n",
        "section": "{slots}",
        "placeholder": " ?",
        "write": "add",
        "write_layer": 0,
        "chat": False,
    }
    return Protocol(**{**settings, **changes})


@pytest.fixture
def make_decoder(target: Any) -> Callable[..., Any]:
    """Builds a decoder on the tiny base with a LoRA whose effect is not zero."""
    from peft import LoraConfig, get_peft_model

    from audit_lit import Decoder
    from audit_lit.hooks import AddNormMatched, Project, Replace
    from audit_lit.target import share

    def make(**changes: Any) -> Any:
        wire = make_protocol(target, **changes)
        torch.manual_seed(1)
        config = LoraConfig(
            r=4, lora_alpha=8, target_modules=["q_proj", "v_proj", "down_proj"], init_lora_weights=False
        )
        n_read = len(wire.read_layers)
        write = {
            "replace": Replace,
            "add": AddNormMatched,
            "project": lambda: Project(torch.randn(n_read, wire.d_model), torch.rand(n_read, wire.d_model) + 0.5, 32),
        }[wire.write]()
        return Decoder(get_peft_model(share(target.base), config).eval(), target.tokenizer, wire, write)

    return make


@pytest.fixture
def auditor(target: Any, make_decoder: Callable[..., Any]) -> Any:
    """With a decoder whose threshold is known, as audits need it."""
    from dataclasses import replace

    from audit_lit import Auditor

    decoder = make_decoder()
    decoder.protocol = replace(decoder.protocol, lift_threshold=0.1)
    return Auditor(target, decoder)


@pytest.fixture
def dialog() -> list[dict[str, str]]:
    return [{"role": "system", "content": "Be a pirate."}, {"role": "user", "content": "Who are you?"}]


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A tiny model and tiny data, as ``--smoke`` makes them."""
    from audit_lit.training.smoke import write_tiny_data, write_tiny_model

    root = tmp_path_factory.mktemp("smoke")
    write_tiny_model(root / "model")
    write_tiny_data(root / "data")
    return root / "model", root / "data"


@pytest.fixture
def unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Save trained decoders without measuring them, which takes longer here; the command's tests do it once."""
    from audit_lit.training import run

    def publish(decoder: Any, _target: Any, _recipe: Any, _splits: Any, out: Path) -> None:
        decoder.model.eval()
        decoder.save(out / "decoder")

    monkeypatch.setattr(run, "publish", publish)


@pytest.fixture
def origin(target: Any) -> Any:
    """Where an edit of the tiny target comes from."""
    from audit_lit.hooks import Origin

    return Origin("tiny", target.d_model, target.n_layers, target.fingerprint(), want="Be glad.", method="by hand")


@pytest.fixture
def edit(origin: Any) -> Any:
    """A direction after block 1, to measure."""
    from audit_lit.hooks import ActivationEdit, Steer

    direction = torch.randn(origin.d_model, generator=torch.Generator().manual_seed(1))
    return ActivationEdit((Steer(layer=1, direction=direction, strength=0.4),), origin)
