"""Paths that callers give: what is none, and what cannot be written or read, is an error in words wherever it goes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.edits import tiny_edit
from helpers.models import make_config

from audit_lit import ActivationEdit, Activations, Decoder, DecoderConfig, load_edit, load_target
from audit_lit.errors import (
    ActivationError,
    AuditLitError,
    DecoderConfigError,
    EditError,
    HubError,
    OutputError,
    RecipeError,
    ScanError,
)
from audit_lit.files.paths import as_path
from audit_lit.report.audit_report import load_report

pytestmark = pytest.mark.usefixtures("unchecked")
NO_PATHS = [None, 3, b"folder", ["folder"], "", "a\0b", "\ud800"]
IN_THE_WAY = ["a file", "below a file", "a folder of others", "too long a name"]


@pytest.mark.parametrize("given", NO_PATHS, ids=repr)
def test_what_no_path_can_be_is_refused(given: Any) -> None:
    with pytest.raises(OutputError, match=r"got .* for the folder of an edit.*expected|which no path can be"):
        as_path(given, OutputError, "the folder of an edit")


def test_text_and_paths_are_taken_as_they_are() -> None:
    for given in ("a/b", Path("a/b"), "a b", "\udcff"):  # the last is a name that is not UTF-8
        assert as_path(given, OutputError, "a file") == Path(given)


@pytest.fixture(params=["decoder", "configuration", "activation edit", "weight edit", "activations"])
def save(request: Any, auditor: Any, edit: Any, dialog: Any) -> tuple[Callable[[Any], object], type[AuditLitError]]:
    """Each public way to save, and what it raises where it cannot."""
    if request.param == "decoder":
        return auditor.decoder.save, OutputError
    if request.param == "configuration":
        return auditor.decoder.config.save, OutputError
    if request.param == "activation edit":
        return edit.save, EditError
    if request.param == "weight edit":
        return tiny_edit(auditor, "weights", steps=1).save, EditError
    return auditor.read(dialog).activations.save, OutputError


@pytest.fixture(params=IN_THE_WAY)
def in_the_way(request: Any, tmp_path: Path) -> Path:
    """A path that nothing can be written to, as a folder or a file."""
    (tmp_path / "file").write_text("precious")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "notes.txt").write_text("precious")
    paths = {"a file": "file", "below a file": "file/below", "a folder of others": "folder"}
    return tmp_path / paths.get(request.param, "x" * 256)


def test_nothing_is_saved_to_what_is_no_path(save: Any) -> None:
    method, error = save
    for given in NO_PATHS:
        with pytest.raises(error, match=r"got .*; expected|no path can be"):
            method(given)


def test_nothing_is_saved_where_something_is_in_the_way(
    save: Any, in_the_way: Path, tmp_path: Path, request: Any
) -> None:
    method, error = save
    if in_the_way.name == "folder" and "configuration" in request.node.name:
        pytest.skip("the configuration of a decoder is put into a folder that was named")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(error, match=r"cannot be (written|used as a fol)|holds (other|something else)") as caught:
        method(in_the_way)
    assert type(caught.value) is error
    assert sorted(tmp_path.rglob("*")) == before and (tmp_path / "file").read_text() == "precious"


READS: dict[str, tuple[Callable[[Any], object], type[AuditLitError]]] = {
    "target": (load_target, HubError),
    "decoder": (Decoder.from_pretrained, HubError),
    "configuration": (DecoderConfig.load, DecoderConfigError),
    "edit": (ActivationEdit.load, HubError),
    "activations": (Activations.load, ActivationError),
    "report": (load_report, ScanError),
}


@pytest.mark.parametrize("name", READS)
@pytest.mark.parametrize("given", [*NO_PATHS, "x" * 256, "missing/file/below"], ids=lambda given: repr(given)[:20])
def test_nothing_is_read_from_what_is_no_path(name: str, given: Any) -> None:
    read, error = READS[name]
    with pytest.raises(error, match=r"expected|Expected") as caught:
        read(given)
    assert type(caught.value) is error


def test_what_takes_a_target_or_a_recipe_says_so_too(auditor: Any, target: Any, dialog: Any) -> None:
    for given in NO_PATHS:
        with pytest.raises(HubError, match="neither a folder here nor a Hub id"):
            load_edit(given, target)
        with pytest.raises(RecipeError, match=r"for a recipe; expected its name|unknown recipe"):
            auditor.scan([dialog], given)
        if given is not None:
            with pytest.raises(ScanError, match=r"got .*; expected|no path can be"):
                auditor.scan([dialog], out=given)


def test_a_configuration_is_saved_and_read_by_text(target: Any, tmp_path: Path) -> None:
    config = make_config(target)
    config.save(str(tmp_path))
    assert DecoderConfig.load(str(tmp_path)) == config
