"""Settings of recipes: overrides, and what is wrong with them in words."""

from __future__ import annotations

import difflib
from typing import Any

from pydantic import BaseModel, ValidationError


def merged(content: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    """Return settings with others put over them, key by key in nested ones."""
    result = dict(content)
    for key, value in overrides.items():
        nested = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merged(result[key], value) if nested else value
    return result


def explain(err: Exception, *models: type[BaseModel]) -> str:
    """Return what is wrong with settings in words, with the nearest known key for an unknown one."""
    if not isinstance(err, ValidationError):
        return str(err)
    known, found = [name for model in models for name in model.model_fields], []
    for problem in err.errors():
        where = ".".join(str(part) for part in problem["loc"])
        near = difflib.get_close_matches(str(problem["loc"][-1]), known, n=1) if problem["loc"] else []
        hint = f", did you mean {near[0]!r}?" if near else f"; expected some of {', '.join(known)}"
        unknown = problem["type"] == "extra_forbidden"
        found.append(f"unknown key {where!r}{hint}" if unknown else f"{where}: {problem['msg']}")
    return "; ".join(found)
