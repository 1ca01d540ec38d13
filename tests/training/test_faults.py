"""What goes wrong around a training: numbers, spoiled folders, a second run, a full disk. The last good part stays."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.commands import raises
from helpers.decoder_files import edit_tensors
from helpers.training import small_recipe

pytestmark = pytest.mark.usefixtures("unmeasured")
FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture(scope="module")
def trained(folders: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a short training; read-only."""
    from audit_lit.training import run

    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "publish", lambda *_: None)
        run.train(small_recipe(folders, examples=8), folders[1], folder)
    return folder


@pytest.fixture
def resumed(trained: Path, folders: tuple[Path, Path], tmp_path: Path) -> Callable[[], Path]:
    """Resumes a copy of the run, which lies in ``tmp_path``."""
    import shutil

    from audit_lit.training.run import train

    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    return lambda: train(small_recipe(folders, examples=8), folders[1], tmp_path)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-50])


def spoil(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    """Change the tensors of a checkpoint, and keep its step."""

    def apply(path: Path) -> None:
        from safetensors.torch import load_file, save_file

        tensors = load_file(path)
        change(tensors)
        save_file(tensors, path, metadata={"step": "2", "bf16": "False"})

    return apply


def first(tensors: dict[str, Any], kind: str) -> str:
    return next(name for name in sorted(tensors) if name.startswith(kind))


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (cut, "is cut short, broken or of another run"),
        (lambda path: path.write_bytes(b""), "is cut short, broken or of another run"),
        (lambda path: edit_tensors(path, lambda _: None), "is cut short, broken .*'step'"),
        (spoil(lambda tensors: tensors.pop(first(tensors, "exp_avg_sq/"))), "is cut short, broken .*exp_avg_sq"),
        (spoil(lambda tensors: tensors.update({first(tensors, "parameter/"): torch.ones(3)})), r"has shape \(3,\)"),
        (spoil(lambda tensors: tensors[first(tensors, "parameter/")].fill_(torch.nan)), "'parameter/.*not finite"),
        (spoil(lambda tensors: tensors[first(tensors, "exp_avg/")].fill_(torch.inf)), "'exp_avg/.*not finite"),
    ],
)
def test_a_spoiled_checkpoint_is_refused(
    resumed: Callable[[], Path], tmp_path: Path, break_it: Callable[[Path], None], message: str
) -> None:
    from audit_lit.errors import TrainingError

    break_it(tmp_path / "checkpoint.safetensors")
    with pytest.raises(TrainingError, match=message):
        resumed()
    assert not (tmp_path / "decoder").exists()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("x", "line 3 is not JSON"),
        ("[]", "line 3 is no record"),
        ('{"step": 3}', "line 3 is no record"),
        ('{"step": "3", "examples_per_s": 1}', "line 3 is no record"),
        ('{"step": 3, "examples_per_s": 0}', "line 3 is no record"),
        ('{"step": 3, "examples_per_s": NaN}', "line 3 is not JSON"),
        ("\xff", "line 3 is not JSON"),
    ],
)
def test_a_log_of_another_shape_is_refused(
    resumed: Callable[[], Path], tmp_path: Path, line: str, message: str
) -> None:
    from audit_lit.errors import TrainingError

    with (tmp_path / "log.jsonl").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(TrainingError, match=message):
        resumed()


def test_half_a_last_line_is_left_out(resumed: Callable[[], Path], tmp_path: Path) -> None:
    with (tmp_path / "log.jsonl").open("ab") as file:
        file.write('{"step": 3, "loss": "é'.encode()[:-1])
    resumed()
    assert [json.loads(line)["step"] for line in (tmp_path / "log.jsonl").read_text().splitlines()] == [1, 2]


def test_a_gradient_that_is_not_finite_leaves_the_last_checkpoint(
    folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.torch import load_file

    from audit_lit.decoder.decoder import Decoder
    from audit_lit.errors import TrainingError
    from audit_lit.training.run import train

    original, calls = Decoder.loss, []

    def loss(self: Any, *args: Any) -> Any:
        value = original(self, *args)
        calls.append(1)
        if len(calls) == 4:  # finite, but not its gradient
            value.register_hook(lambda gradient: gradient * torch.nan)
        return value

    monkeypatch.setattr(Decoder, "loss", loss)
    with pytest.raises(TrainingError, match=r"norm of the gradient is nan at step 3.*last checkpoint is kept"):
        train(small_recipe(folders, precision="fp32"), folders[1], tmp_path)
    tensors = load_file(tmp_path / "checkpoint.safetensors")
    assert all(bool(tensor.isfinite().all()) for tensor in tensors.values())
    assert not (tmp_path / "decoder").exists()


def test_no_decoder_is_saved_with_values_that_are_not_finite(make_decoder: Any, tmp_path: Path) -> None:
    from audit_lit.errors import TrainingError

    decoder = make_decoder()
    next(value for name, value in decoder.model.named_parameters() if "lora_A" in name).data[0] = torch.nan
    with pytest.raises(TrainingError, match=r"lora_A.* not finite"):
        decoder.save(tmp_path)


def test_a_second_run_is_kept_out_of_the_folder(folders: tuple[Path, Path], tmp_path: Path) -> None:
    from filelock import FileLock

    from audit_lit.errors import TrainingError
    from audit_lit.training.run import train

    with FileLock(tmp_path / ".lock"), pytest.raises(TrainingError, match="is in use by another run; wait for it"):
        train(small_recipe(folders, examples=4), folders[1], tmp_path)
    assert not (tmp_path / "run.json").exists()


HOLD = """
import os, signal, sys
from pathlib import Path
from audit_lit.errors import ScanError
from audit_lit.files.writing import locked

with locked(Path(sys.argv[1]), ScanError):
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_a_killed_run_leaves_no_lock(tmp_path: Path) -> None:
    from audit_lit.errors import ScanError
    from audit_lit.files.writing import locked

    assert subprocess.run([sys.executable, "-c", HOLD, str(tmp_path)], check=False).returncode < 0
    with locked(tmp_path, ScanError):
        assert (tmp_path / ".lock").exists()


def test_a_folder_below_a_file_is_refused_before_the_run(folders: tuple[Path, Path], tmp_path: Path) -> None:
    from audit_lit.errors import TrainingError
    from audit_lit.training.run import train

    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "run", tmp_path / ("x" * 300)):
        with pytest.raises(TrainingError, match="cannot be used as a folder"):
            train(small_recipe(folders, examples=4), folders[1], out)


@pytest.mark.parametrize(
    "where", ["audit_lit.training.trainer.save_checkpoint", "audit_lit.training.trainer.dump_json"]
)
def test_a_full_disk_keeps_what_is_finished(
    folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    from audit_lit.errors import Incomplete
    from audit_lit.training.run import train

    with monkeypatch.context() as patch:
        patch.setattr(where, raises(FULL))
        with pytest.raises(Incomplete, match=r"No space left on device.*what is finished is kept. Make room"):
            train(small_recipe(folders, examples=8), folders[1], tmp_path)
    assert train(small_recipe(folders, examples=8), folders[1], tmp_path) == tmp_path / "decoder"
