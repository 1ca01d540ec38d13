"""What libraries say on the terminal is text, and nothing more."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import pytest
import transformers.utils.logging  # noqa: F401 - gives its logger a handler
from helpers.commands import run

from audit_lit.display.libraries import quiet_libraries
from audit_lit.errors import TargetError


def test_warnings_of_libraries_are_inert(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)  # put back afterwards
    quiet_libraries()
    said = warnings.formatwarning("\x1b[2Jevil", RuntimeWarning, "file.py", 1)
    assert "evil" in said and "\x1b" not in said


@pytest.mark.parametrize("logger", ["", "transformers", "huggingface_hub"])
def test_log_lines_of_libraries_are_inert(monkeypatch: pytest.MonkeyPatch, logger: str) -> None:
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    quiet_libraries()
    handlers = logging.getLogger(logger).handlers or [logging.lastResort]
    for handler in handlers:
        record = logging.makeLogRecord({"msg": "\x1b[2J%s", "args": ("evil",)})
        assert handler and handler.filter(record)
        assert handler.format(record).endswith("␛[2Jevil")


def test_what_warns_developers_is_not_said_whoever_is_blamed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        quiet_libraries()
        warnings.warn("it goes away", FutureWarning, stacklevel=1)
        warnings.warn("it is wrong", UserWarning, stacklevel=1)
    assert [str(warning.message) for warning in said] == ["it is wrong"]


@pytest.mark.parametrize("command", ["build", "measure"])
def test_commands_about_organisms_are_quiet_before_a_model_is_loaded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: str
) -> None:
    from audit_lit.models import loading

    def warns(*_: Any, **__: Any) -> None:
        warnings.warn("it goes away", FutureWarning, stacklevel=1)
        raise TargetError("there is no such model")

    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    monkeypatch.setattr(loading, "load_target", warns)
    arguments = {"build": ["zoo", "--out", str(tmp_path / "zoo")], "measure": [str(tmp_path), "--out", "file"]}
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        result = run("organisms", command, *arguments[command])
    assert result.exit_code == 2 and "there is no such model" in result.stderr, result.output
    assert not [warning for warning in said if warning.category is FutureWarning]
