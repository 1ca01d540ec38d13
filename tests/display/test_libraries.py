"""What libraries say on the terminal is text, and nothing more."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import pytest

from audit_lit import TargetError, load_target
from audit_lit.display.libraries import quiet_libraries


def test_what_libraries_say_is_inert(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)  # put back afterwards
    quiet_libraries()
    (tmp_path / "config.json").write_text('{"model_type": "own\\u001b]0;title\\u0007"}')
    with pytest.raises(TargetError):
        load_target(str(tmp_path))
    logging.getLogger("transformers").warning("\x1b[2Jevil")
    said = warnings.formatwarning("\x1b[2Jevil", RuntimeWarning, "file.py", 1)
    logged = capfd.readouterr().err
    assert "evil" in said and "evil" in logged
    assert "\x1b" not in logged + said
