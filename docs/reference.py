"""A reference page for each public name, made when the site is built, so that none can be forgotten."""

from __future__ import annotations

from importlib import import_module

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

MODULES = ("audit_lit", "audit_lit.hooks", "audit_lit.decoder.formats")
LEFT_OUT = ("DESCRIPTION_QUESTION", "Protocol", "PUBLISHED", "__version__")
"""A former name, a table and strings."""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add the pages to the navigation."""
    pages = [{name: f"reference/{module}.{name}.md"} for module, name in public_names()]
    config.nav = [*(config.nav or []), {"Reference": ["reference/index.md", *pages]}]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages, and an index of them."""
    lines = ["# Reference", ""]
    for module, name in public_names():
        page = f"{module}.{name}.md"
        files.append(File.generated(config, f"reference/{page}", content=f"::: {module}.{name}\n"))
        lines.append(f"- [`{module}.{name}`]({page}): {first_line(module, name)}")
    files.append(File.generated(config, "reference/index.md", content="\n".join(lines) + "\n"))
    return files


def public_names() -> list[tuple[str, str]]:
    """Return the public names with their module; what stands in two modules is documented in the first."""
    home: dict[str, str] = {}
    for module in MODULES:
        home |= {name: module for name in import_module(module).__all__ if name not in (*home, *LEFT_OUT)}
    return [(module, name) for name, module in home.items()]


def first_line(module: str, name: str) -> str:
    """Return the first line of a name's docstring."""
    value = getattr(import_module(module), name)
    documented = str(getattr(value, "__module__", "")).startswith("audit_lit")
    return (value.__doc__ or "").strip().splitlines()[0] if documented else "A type."
