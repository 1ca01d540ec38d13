"""What libraries say on the terminal is text, and nothing more."""

from __future__ import annotations

import logging
import warnings

import pytest
import transformers.utils.logging  # noqa: F401 - gives its logger a handler

from audit_lit.display.libraries import quiet_libraries


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
