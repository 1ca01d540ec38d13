"""Fixtures that many tests share, on tiny random models; every test runs offline and seeded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.models import byte_tokenizer, make_config, tiny_llama
from hypothesis import HealthCheck, settings
from pytest_socket import socket_allow_hosts

settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")
THREADS = torch.get_num_threads()
LOOPBACK = ["127.0.0.1", "localhost", "::1"]


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Let a test connect to this machine alone, on one thread; those of the real model may fetch it, and have more."""
    is_tiny = item.get_closest_marker("model") is None
    torch.set_num_threads(1 if is_tiny else THREADS)  # tiny models are slower on several
    if is_tiny:
        socket_allow_hosts(LOOPBACK, allow_unix_socket=True)


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    if not request.node.get_closest_marker("model"):
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        monkeypatch.setenv("OMP_NUM_THREADS", "1")  # of processes that a test starts


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The folder that calibrations are kept in, so that no test reads or writes the user's."""
    monkeypatch.setattr("audit_lit.decoder.calibration_files.cache_folder", lambda: tmp_path / "cache")
    return tmp_path / "cache" / "calibrations"


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Types and shapes are checked by annotation in the tests only; users see what the code says itself."""
    import jaxtyping

    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


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
def config(target: Any) -> Any:
    """A configuration for the tiny target, with norm-matched addition."""
    return make_config(target)


@pytest.fixture
def make_decoder(target: Any) -> Callable[..., Any]:
    """Builds a decoder on the tiny base with a LoRA whose effect is not zero."""
    from peft import LoraConfig, get_peft_model

    from audit_lit import Decoder
    from audit_lit.hooks import AddNormMatched, Project, Replace
    from audit_lit.models.loading import share_weights

    def make(**changes: Any) -> Any:
        config = make_config(target, **changes)
        torch.manual_seed(1)
        lora = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj", "down_proj"], init_lora_weights=False)
        shape = (len(config.read_layers), config.d_model)
        write = {
            "replace": Replace,
            "add": AddNormMatched,
            "project": lambda: Project(torch.randn(shape), torch.rand(shape) + 0.5, 32),
        }[config.write]()
        return Decoder(get_peft_model(share_weights(target.base), lora).eval(), target.tokenizer, config, write)

    return make


@pytest.fixture
def auditor(target: Any, make_decoder: Callable[..., Any]) -> Any:
    """With a decoder whose threshold is known, as audits need it."""
    from audit_lit import Auditor

    decoder = make_decoder()
    decoder.config = decoder.config.model_copy(update={"lift_threshold": 0.1})
    return Auditor(target, decoder)


@pytest.fixture
def dialog() -> list[dict[str, str]]:
    return [{"role": "system", "content": "Be a pirate."}, {"role": "user", "content": "Who are you?"}]


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A tiny model and tiny data, as ``--smoke`` makes them."""
    from audit_lit.testing.tiny_data import write_tiny_data
    from audit_lit.testing.tiny_models import write_tiny_model

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

    return Origin("tiny", target.d_model, target.n_layers, target.fingerprint(), goal="Be glad.", method="by hand")


@pytest.fixture
def edit(origin: Any) -> Any:
    """A direction after block 1, to measure."""
    from audit_lit.hooks import ActivationEdit, Steer

    direction = torch.randn(origin.d_model, generator=torch.Generator().manual_seed(1))
    return ActivationEdit((Steer(layer=1, direction=direction, strength=0.4),), origin)
