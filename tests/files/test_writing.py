"""Where results are written: whole or not at all, through no link, and over nothing that somebody else wrote."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from audit_lit.errors import EditError, OutputError, ScanError, TrainingError
from audit_lit.files.writing import open_to_append, require_writable, write_whole

SPARED = ("README.md", "edit.json", "protocol.json")
"""What tells whose folder it is must be readable."""
Save = Callable[[Path], object]


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A file that no result may reach."""
    path = tmp_path / "outside.txt"
    path.write_text("precious")
    return path


def test_a_file_is_replaced_as_a_whole_with_the_usual_rights(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    for content in ("first", "sécond\n"):
        write_whole(path, content)
        assert path.read_bytes() == content.encode()
    plain = tmp_path / "plain"
    plain.write_text("")
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)
    assert sorted(name.name for name in tmp_path.iterdir()) == ["plain", "report.json"]


def test_no_link_is_followed(tmp_path: Path, outside: Path) -> None:
    (tmp_path / "report.json").symlink_to(outside)
    write_whole(tmp_path / "report.json", "new")
    assert (tmp_path / "report.json").read_text() == "new" and not (tmp_path / "report.json").is_symlink()
    (tmp_path / "records.jsonl").symlink_to(outside)
    with pytest.raises(OSError, match="symbolic links"):
        open_to_append(tmp_path / "records.jsonl")
    assert outside.read_text() == "precious"


def test_what_fails_leaves_the_old_file(tmp_path: Path) -> None:
    write_whole(tmp_path / "a", "old")
    with pytest.raises(UnicodeEncodeError):
        write_whole(tmp_path / "a", "\ud800")
    assert (tmp_path / "a").read_text() == "old"


@pytest.mark.parametrize("names", [[], [".gitkeep"], ["run.json"], ["run.json", "notes.txt"]])
def test_new_empty_and_own_folders_may_be_written(tmp_path: Path, names: list[str]) -> None:
    require_writable(tmp_path / "new", "run.json", ScanError)
    for name in names:
        (tmp_path / name).touch()
    require_writable(tmp_path, "run.json", ScanError)


def test_a_file_in_place_of_a_folder_is_refused(outside: Path) -> None:
    for path in (outside, outside / "below"):
        with pytest.raises(ScanError, match="cannot be used as a folder"):
            require_writable(path, "run.json", ScanError)


def weight_edit(target: Any, origin: Any) -> Any:
    from peft import LoraConfig

    from audit_lit.edits.weights import _with_lora

    return _with_lora(target, LoraConfig(r=1, target_modules=["q_proj"]), origin)


@pytest.fixture(params=["activation edit", "weight edit", "decoder", "run", "training", "smoke"])
def output(request: Any, target: Any, edit: Any, origin: Any, make_decoder: Any) -> tuple[Save, type[Exception]]:
    """Each way to write a folder, and what it raises if it may not."""
    from audit_lit.recipes import recipe_path
    from audit_lit.scan.folder import RunFolder
    from audit_lit.training.recipe import load_training_recipe
    from audit_lit.training.run import train
    from audit_lit.training.smoke import smoke_run

    def scan(folder: Path) -> None:
        with RunFolder(folder).claimed({"recipe": {}, "questions": [], "threshold": 0, "n_dialogs": 1}):
            pass

    recipe = load_training_recipe(recipe_path("smollm2-135m"))
    saves: dict[str, tuple[Save, type[Exception]]] = {
        "activation edit": (edit.save, EditError),
        "weight edit": (lambda folder: weight_edit(target, origin).save(folder), EditError),
        "decoder": (lambda folder: make_decoder().save(folder), OutputError),
        "run": (scan, ScanError),
        "training": (lambda folder: train(recipe, folder, folder), TrainingError),
        "smoke": (lambda folder: smoke_run(recipe, folder), TrainingError),
    }
    return saves[request.param]


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "README.md", "report.json", "edit.safetensors", "sub/x"])
def test_a_folder_of_something_else_is_left_alone(
    tmp_path: Path, output: tuple[Save, type[Exception]], name: str
) -> None:
    save, error = output
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("precious")
    before = contents(tmp_path)
    with pytest.raises(error, match=rf"holds other files, such as '{name.split('/')[0]}'.* Name another"):
        save(tmp_path)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("content", ["", "{", "[]", '{"http": "mine"}', "[" * 100_000])
def test_a_name_alone_marks_no_folder(tmp_path: Path, edit: Any, make_decoder: Any, content: str) -> None:
    for name, save, error in (("edit.json", edit.save, EditError), ("protocol.json", make_decoder().save, OutputError)):
        folder = tmp_path / name.partition(".")[0]
        folder.mkdir()
        (folder / name).write_text(content)
        with pytest.raises(error, match="holds other files"):
            save(folder)
        assert (folder / name).read_text() == content


def test_a_link_to_another_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").touch()
    (tmp_path / "run" / "data").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(TrainingError, match="holds a link to another folder, 'data', which is not followed"):
        require_writable(tmp_path / "run", "run.json", TrainingError)


def test_an_edit_never_deletes_a_decoder(tmp_path: Path, edit: Any, make_decoder: Any) -> None:
    make_decoder().save(tmp_path / "decoder")
    before = contents(tmp_path)
    with pytest.raises(EditError, match="holds other files"):
        edit.save(tmp_path / "decoder")
    assert contents(tmp_path) == before


def test_a_decoder_and_edits_write_over_their_own_but_through_no_link(
    tmp_path: Path, outside: Path, edit: Any, target: Any, origin: Any, make_decoder: Any
) -> None:
    outputs: list[Save] = [edit.save, weight_edit(target, origin).save, make_decoder().save]
    for number, save in enumerate(outputs):
        folder = tmp_path / str(number)
        save(folder)
        names = [path.name for path in folder.iterdir() if path.is_file() and path.name not in SPARED]
        for name in names:
            (folder / name).unlink()
            (folder / name).symlink_to(outside)
        save(folder)
        assert not any((folder / name).is_symlink() for name in names), names
    assert outside.read_text() == "precious"


def test_activations_are_written_through_no_link(tmp_path: Path, outside: Path, auditor: Any, dialog: Any) -> None:
    path = tmp_path / "a.safetensors"
    path.symlink_to(outside)
    auditor.read(dialog).activations.save(path)
    assert outside.read_text() == "precious" and not path.is_symlink()
