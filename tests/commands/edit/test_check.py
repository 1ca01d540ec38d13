"""``audit-lit edit check``: an edit beside its controls, and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.commands import run


def test_compares_with_controls(made: Path, pair: list[str], tmp_path: Path) -> None:
    (tmp_path / "lines").write_text("How are you?\nAnd now?\n")
    command = ["edit", "check", str(made), "--lines", str(tmp_path / "lines"), *pair]
    document = json.loads(run(*command, "--json").stdout)
    controls = {"shuffled", "random", "negated", "caa", "prompting"}
    assert set(document["effects"]) == {"unedited", "edit"} | controls
    assert all(len(effect["replies"]) == 2 for effect in document["effects"].values())
    assert {"lift", "interval", "strongest_control", "beats_controls", "verdict"} < set(document)
    assert document["seed"] == 0 and document["edit"]["settings"]["reveal"] == "user"
    shown = run(*command)
    assert shown.exit_code == 0 and "prompting" in shown.stdout and "verdict:" in shown.stdout
    assert run("edit", "check", "nowhere", *pair).exit_code == 2


def test_the_edit_and_the_decoder_are_pinned(made: Path, pair: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from audit_lit import Decoder
    from audit_lit.edits import weights

    revisions: dict[str, Any] = {}
    load, read, origin = Decoder.from_pretrained, weights.load_edit, weights.load_origin

    def decoder(name: str, *, revision: str, target: Any, **_: Any) -> Any:
        revisions["decoder"] = revision
        return load(name, target=target)

    def edit(name: str, target: Any, revision: str) -> Any:
        revisions["edit"] = revision
        return read(name, target)

    def edit_origin(name: str, revision: str) -> Any:
        revisions["origin"] = revision
        return origin(name)

    monkeypatch.setattr(Decoder, "from_pretrained", decoder)
    monkeypatch.setattr(weights, "load_edit", edit)
    monkeypatch.setattr(weights, "load_origin", edit_origin)
    monkeypatch.setattr("audit_lit.commands.edit.resolve", lambda *_, **__: made)
    result = run("edit", "check", str(made), "--revision", "abc", "--decoder-revision", "def", *pair)
    assert result.exit_code == 0 and revisions == {"origin": "abc", "edit": "abc", "decoder": "def"}, result.output


def test_refuses_another_model(made: Path, pair: list[str], other_model: str) -> None:
    result = run("edit", "check", str(made), *pair, "--target", other_model)
    assert result.exit_code == 2 and "the edit was made for" in result.stderr


def test_has_its_former_name_too() -> None:
    former, current = (run("edit", name, "--help") for name in ("evaluate", "check"))
    assert former.exit_code == current.exit_code == 0
    assert former.stdout.replace("edit evaluate", "edit check") == current.stdout
    assert "evaluate" not in run("edit", "--help").stdout
