"""Settings that a person writes: put overrides over them, and explain in words what is wrong with them."""

from __future__ import annotations

import difflib
import re
import reprlib
from collections.abc import Iterable
from numbers import Integral
from string import Formatter
from typing import TYPE_CHECKING, Any

from audit_lit.errors import SettingsError

if TYPE_CHECKING:  # help does not wait for it
    from pydantic import BaseModel

MAX_SEED = 2**63 - 1
"""Largest seed: torch takes twice as many, but some are counted up from."""


def checked_seed(seed: Any) -> int:
    """Return a seed; raise ``SettingsError`` unless it is a whole number from 0 to ``MAX_SEED``."""
    if not isinstance(seed, Integral) or isinstance(seed, bool) or not 0 <= int(seed) <= MAX_SEED:
        raise SettingsError(f"got seed={reprlib.repr(seed)}; expected a whole number from 0 to {MAX_SEED}.")
    return int(seed)


def merged(content: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    """Return settings with overrides put over them; nested settings are merged key by key."""
    result = dict(content)
    for key, value in overrides.items():
        nested = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merged(result[key], value) if nested else value
    return result


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a question that names the known name nearest to an unknown one; empty if none is near."""
    nearest = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {nearest[0]!r}?" if nearest else ""


def template_fields(template: str) -> set[str | None]:
    """Return the fields of a template for ``str.format``; None among them for anything but a plain name in braces."""
    try:
        parts = list(Formatter().parse(template))
    except ValueError:
        return {None}
    return {None if spec or conversion else name for _, name, spec, conversion in parts if name is not None}


def explain(err: Exception, *models: type[BaseModel]) -> str:
    """Return what is wrong with settings in words, with the nearest known key for an unknown one."""
    from pydantic import ValidationError

    if not isinstance(err, ValidationError):
        return str(err)
    known = [name for model in models for name in model.model_fields]
    return "; ".join(_explain_problem(problem, known) for problem in err.errors())


def _explain_problem(problem: Any, known: list[str]) -> str:
    where = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        nearest = difflib.get_close_matches(str(problem["loc"][-1]), known, n=1)
        hint = f", did you mean {nearest[0]!r}?" if nearest else f"; expected some of {', '.join(known)}" * bool(known)
        return f"unknown key {where!r}{hint}"
    if problem["type"] in ("value_error", "missing"):  # the first names its value itself, the second has none
        message = problem["msg"].removeprefix("Value error, ")
    else:
        expected = re.sub(r"^\w+ should (be|have) ", "expected ", problem["msg"])
        message = f"{expected}, got {reprlib.repr(problem['input'])}"
    return f"{where}: {message}" if where else message
