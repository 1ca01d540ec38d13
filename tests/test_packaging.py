"""The house: one copy of each module, nothing heavy on import, what users' tools look for."""

from __future__ import annotations

import importlib
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def imported(statement: str) -> set[str]:
    """Names in ``sys.modules`` of a fresh interpreter after ``statement``."""
    code = f"{statement}; import sys; print(*sys.modules)"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


def test_hooks_and_recipes_are_loaded_once() -> None:
    modules = imported("import audit_lit.hooks, audit_lit.recipes")
    assert {"audit_lit.hooks", "audit_lit.recipes"} <= modules
    assert not {"hooks", "recipes"} & modules


def test_no_second_copy_in_this_process() -> None:
    importlib.import_module("audit_lit.hooks")
    assert "hooks" not in sys.modules


@pytest.mark.parametrize("module", ["audit_lit", "audit_lit.cli", "audit_lit.recipes"])
def test_torch_is_not_imported(module: str) -> None:
    assert not {"torch", "transformers", "transformer_lens", "peft"} & imported(f"import {module}")


def test_every_public_name_resolves() -> None:
    import audit_lit

    assert sorted(audit_lit.__all__) == dir(audit_lit)
    for name in audit_lit.__all__:
        assert getattr(audit_lit, name) is not None, name
    with pytest.raises(AttributeError, match="no_such_name"):
        audit_lit.no_such_name  # noqa: B018


def test_version_is_the_same_everywhere() -> None:
    import audit_lit

    assert f"\n## {audit_lit.__version__} " in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"\nversion: {audit_lit.__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    try:
        installed = version("audit-lit")
    except PackageNotFoundError:
        pytest.skip("audit-lit is not installed here")
    assert installed == audit_lit.__version__


def test_users_type_checkers_see_the_types() -> None:
    assert files("audit_lit").joinpath("py.typed").is_file()
