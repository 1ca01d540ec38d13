"""Edits on the Hub: fetched by name and revision, and uploaded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers.fake_hub import FakeHub
from helpers.saved_edits import CARD, DATA, ORIGIN, TENSORS, assert_same, edit_of_every_kind, make_typed
from huggingface_hub import HfApi

from audit_lit import ActivationEdit, HubError
from audit_lit.errors import EditError

NAME = "org/tiny-edit"


@pytest.mark.parametrize("name", ["nowhere", "./no/such/folder", ""])
def test_neither_folder_nor_hub_id(name: str) -> None:
    with pytest.raises(HubError, match=f"edit {name!r} is neither a folder here nor a Hub id"):
        ActivationEdit.load(name)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    with FakeHub() as server:
        server.connect(monkeypatch, tmp_path / "cache")
        yield server


@pytest.mark.allow_hosts(["127.0.0.1"])
def test_a_pinned_edit_of_the_hub_is_loaded_and_then_needs_no_hub(
    hub: FakeHub, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit = ActivationEdit.load(folder)
    (folder / "hook.py").write_text("raise SystemExit")
    (folder / "edit.pt").write_bytes(b"\x80\x04cos\nsystem\n.")
    commit = hub.add(NAME, folder)
    newer = ActivationEdit((make_typed("ablate", layer=0),), ORIGIN)
    newer.save(folder)
    hub.add(NAME, folder)
    assert_same(ActivationEdit.load(NAME, revision=commit), edit)
    assert_same(ActivationEdit.load(NAME), newer)
    assert set(hub.fetched()) == {DATA, TENSORS, CARD}
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    n_requests = len(hub.requests)
    assert_same(ActivationEdit.load(NAME, revision=commit), edit)
    assert len(hub.requests) == n_requests


@pytest.mark.allow_hosts(["127.0.0.1"])
def test_what_the_hub_lacks_is_refused(hub: FakeHub, folder: Path) -> None:
    (folder / TENSORS).unlink()
    hub.add(NAME, folder)
    with pytest.raises(EditError, match="holds no complete edit"):
        ActivationEdit.load(NAME)
    with pytest.raises(HubError, match=f"edit '{NAME}' has no revision 'v9'"):
        ActivationEdit.load(NAME, revision="v9")
    with pytest.raises(HubError, match="edit 'org/other' is not on the Hub"):
        ActivationEdit.load("org/other")
    with pytest.raises(HubError, match="is a folder here, which has no revisions"):
        ActivationEdit.load(folder, revision="v9")


@pytest.mark.parametrize("private", [False, True])
def test_an_upload_sends_the_three_files_and_returns_the_commit(monkeypatch: pytest.MonkeyPatch, private: bool) -> None:
    calls: list[dict[str, Any]] = []
    edit = edit_of_every_kind()

    def create(_api: HfApi, repo_id: str, **values: Any) -> None:
        calls.append({"repo_id": repo_id, **values})

    def upload(_api: HfApi, *, folder_path: Path, **values: Any) -> Any:
        assert sorted(path.name for path in folder_path.iterdir()) == sorted([DATA, TENSORS, CARD])
        assert_same(ActivationEdit.load(folder_path), edit)
        calls.append({"folder": folder_path, **values})
        return SimpleNamespace(oid="c0ffee")

    monkeypatch.setattr(HfApi, "create_repo", create)
    monkeypatch.setattr(HfApi, "upload_folder", upload)
    assert edit.push_to_hub(NAME, private=private) == "c0ffee"
    made, sent = calls
    assert made == {"repo_id": NAME, "private": private, "exist_ok": True}
    assert sent["repo_id"] == NAME
    assert not sent["folder"].exists()


@pytest.mark.parametrize("step", ["create_repo", "upload_folder"])
@pytest.mark.parametrize("err", [OSError("no route\nto host"), ValueError(), RuntimeError("403 Forbidden")])
def test_an_upload_that_fails_names_the_next_step(monkeypatch: pytest.MonkeyPatch, step: str, err: Exception) -> None:
    def fail(*_args: Any, **_values: Any) -> None:
        raise err

    monkeypatch.setattr(HfApi, "create_repo", lambda *_args, **_values: None)
    monkeypatch.setattr(HfApi, step, fail)
    with pytest.raises(HubError) as caught:
        edit_of_every_kind().push_to_hub(NAME)
    reason = (str(err) or repr(err)).splitlines()[0]
    assert str(caught.value).startswith(f"'{NAME}' could not be uploaded: {reason}. Expected 'org/name' and a token")
    assert "HF_TOKEN" in str(caught.value)
    assert caught.value.__cause__ is err


@pytest.mark.parametrize("name", ["org/a/b", "or--g/name", NAME])
def test_nothing_is_uploaded_offline_or_to_a_malformed_name(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match=f"'{name}' could not be uploaded"):
        edit_of_every_kind().push_to_hub(name)
