"""``audit-lit doctor``: what it looks at, what it needs, and its exit codes."""

from __future__ import annotations

import json
import shutil
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers.commands import raises, run
from packaging.requirements import Requirement

WIDE = {"COLUMNS": "200"}


def checks() -> dict[str, dict[str, Any]]:
    return {check["what"]: check for check in json.loads(run("doctor", "--json").stdout)}


@pytest.fixture
def required(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What audit-lit's metadata asks for, to be filled in."""
    from audit_lit.commands import doctor

    lines: list[str] = []
    monkeypatch.setattr(doctor, "requires", {"audit-lit": lines}.__getitem__)
    return lines


def test_looks_at_packages_models_and_caches() -> None:
    found = checks()
    assert found["torch"]["ok"] and found["default decoder"]["ok"]
    assert next(iter(found)) == "python" and {"device", "free memory", "cache folder", "Hub mode"} <= set(found)
    assert all(set(check) == {"what", "found", "ok", "step"} for check in found.values())


def test_every_needed_package_is_in_the_metadata_and_is_checked() -> None:
    from audit_lit.commands.doctor import NEEDED

    assert set(NEEDED) <= {Requirement(line).name for line in requires("audit-lit") or ()}
    found = checks()
    assert {name: found[name]["found"] for name in NEEDED} == {name: version(name) for name in NEEDED}


def test_needed_versions_are_those_of_the_metadata(required: list[str]) -> None:
    required += ["torch>=999", "transformer-lens<999,>=1", "click>=999", 'peft>=999; extra == "other"']
    found = checks()
    assert (found["torch"]["ok"], found["torch"]["step"]) == (False, "pip install 'torch>=999'")
    assert (found["transformer-lens"]["ok"], found["transformer-lens"]["step"]) == (True, "")
    assert not {"click", "peft"} & set(found)  # it matters less, and belongs to an extra
    result = run("doctor", env=WIDE)
    assert result.exit_code == 2 and "pip install 'torch>=999'" in result.stdout


def test_a_package_that_is_not_installed_exits_2(required: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from audit_lit.commands import doctor

    required.append("no-such-package>=1")
    monkeypatch.setattr(doctor, "NEEDED", ("no-such-package",))
    assert (checks()["no-such-package"]["found"], checks()["no-such-package"]["ok"]) == ("not installed", False)
    result = run("doctor", env=WIDE)
    assert result.exit_code == 2 and "pip install 'no-such-package>=1'" in result.stdout


def test_a_clone_that_is_not_installed_exits_2(monkeypatch: pytest.MonkeyPatch) -> None:
    from audit_lit.commands import doctor

    monkeypatch.setattr(doctor, "requires", raises(PackageNotFoundError("audit-lit")))
    result = run("doctor", env=WIDE)
    assert result.exit_code == 2 and "not installed" in result.stdout and "pip install" in result.stdout


def test_memory_and_disk_that_are_too_small_name_a_step(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import psutil

    from audit_lit.commands import doctor

    monkeypatch.setenv("AUDIT_LIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=2**30))
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: SimpleNamespace(free=2**30))
    found = checks()
    assert not found["free memory"]["ok"] and "close something" in found["free memory"]["step"]
    assert not found["cache folder"]["ok"] and "AUDIT_LIT_CACHE" in found["cache folder"]["step"]
    assert found["default target"] == {
        "what": "default target",
        "found": "not fetched yet",
        "ok": True,
        "step": "fetched by the first 'audit-lit ask'",
    }


def test_exits_0_where_nothing_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    from audit_lit.commands import doctor

    monkeypatch.setattr(doctor, "examine", lambda: [doctor.Check("python", "[bold]3", True)])
    result = run("doctor", env=WIDE)
    assert result.exit_code == 0 and "[bold]3" in result.stdout


@pytest.mark.parametrize("fault", ["a file in the way", "too long a name", "full", "a changed file"])
def test_a_cache_that_cannot_be_used_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fault: str) -> None:
    from audit_lit.commands import doctor
    from audit_lit.models.smollm2 import GGUF_SHA256, MARKER, default_target_dir

    cache = tmp_path / ("x" * 300 if fault == "too long a name" else "cache")
    monkeypatch.setenv("AUDIT_LIT_CACHE", str(cache))
    if fault == "a file in the way":
        cache.write_text("")
    if fault == "full":
        monkeypatch.setattr(doctor.tempfile, "TemporaryFile", raises(OSError(28, "No space left on device")))
    if fault == "a changed file":
        default_target_dir().mkdir(parents=True)
        marker = {"gguf_sha256": GGUF_SHA256, "files": {"config.json": "0" * 64}}
        (default_target_dir() / MARKER).write_text(json.dumps(marker))
        (default_target_dir() / "config.json").write_text("{}")
    found = {name: check["ok"] for name, check in checks().items() if name in ("cache folder", "default target")}
    assert False in found.values()


def test_says_which_way_to_load_a_target_fits_here(tiny_folder: Path) -> None:
    result = run("doctor", "--target", str(tiny_folder), "--json")
    found = {check["what"]: check for check in json.loads(result.stdout)}
    assert "fits" in found["float32 on the CPU"]["found"] and "weights" in found["target"]["found"]
    assert found["target"]["step"] == f"audit-lit ask --target {tiny_folder} --decoder DECODER --dtype float32"


def test_a_folder_without_its_weights_is_not_recommended(tiny_folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "a folder"
    shutil.copytree(tiny_folder, folder)
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()

    def target() -> dict[str, Any]:
        result = run("doctor", "--target", str(folder), "--json")
        assert result.exit_code in (0, 2)
        return {check["what"]: check for check in json.loads(result.stdout)}["target"]

    def is_missing(said: str) -> bool:
        found = target()
        return not found["ok"] and said in found["found"] and "fetch the folder again" in found["step"]

    assert is_missing("the weights are missing")
    index = folder / "model.safetensors.index.json"
    index.write_text("[]")
    assert is_missing("does not say which files hold the weights")
    parts = {name: f"{number % 2}.safetensors" for number, name in enumerate(weights)}
    index.write_text(json.dumps({"weight_map": parts}))
    save_file({}, folder / "0.safetensors")
    assert is_missing("1 files of its weights are missing, such as 1.safetensors")
    save_file({}, folder / "1.safetensors")
    assert target()["ok"] and f"--target '{folder}'" in target()["step"]


def test_a_target_that_fits_nowhere_exits_2_and_says_what_is_left(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from audit_lit.models import memory

    monkeypatch.setattr(memory, "size_of", lambda _: memory.ModelSize(10**14, 10**13))
    result = run("doctor", "--target", "org/huge", env=WIDE | {"COLUMNS": "500"})
    assert result.exit_code == 2 and "too large" in result.stdout
    assert "load_target('org/huge', dtype='bfloat16', device_map='auto', max_memory={'cpu':" in result.stdout


def test_a_target_whose_sizes_are_not_here_is_said_to_be_unknown() -> None:
    result = run("doctor", "--target", "org/far-away", "--json")
    found = {check["what"]: check for check in json.loads(result.stdout)}  # with all that can be told offline
    assert result.exit_code == 2 and "torch" in found and not found["target"]["ok"]
    assert found["target"]["found"].startswith("whether org/far-away fits is not known, since its sizes are in config")
    assert found["target"]["step"].startswith("online: hf download org/far-away config.json")


@pytest.mark.parametrize(
    ("target", "decoder"),
    [
        ("smollm2-135m", ""),
        ("Qwen/Qwen3-4B", " --decoder adamkarvonen/checkpoints_latentqa_cls_past_lens_Qwen3-4B"),
        ("org/other", " --decoder DECODER"),
    ],
)
def test_a_decoder_that_is_known_to_fit_is_named(monkeypatch: pytest.MonkeyPatch, target: str, decoder: str) -> None:
    from audit_lit.models import memory

    monkeypatch.setattr(memory, "size_of", lambda _: memory.ModelSize(100, 10))
    monkeypatch.setattr(memory, "missing_weights", lambda _: "")
    result = run("doctor", "--target", target, "--json")
    (step,) = (check["step"] for check in json.loads(result.stdout) if check["what"] == "target")
    assert step.startswith(f"audit-lit ask --target {target}{decoder} --d")


def test_an_unknown_target_exits_2() -> None:
    result = run("doctor", "--target", "no-such-folder")
    assert result.exit_code == 2 and "neither a folder here nor a Hub id" in result.stderr
