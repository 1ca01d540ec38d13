"""The command ``audit-lit decoders``: decoders that are shipped or published, and how each one is known."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from audit_lit.commands import common
from audit_lit.files.writing import dump_json


@click.command()
@common.json_option
def decoders(as_json: bool) -> None:
    """List the decoders that are shipped, and every family of published ones."""
    from rich.console import Console

    from audit_lit.decoder.calibration_files import stored_calibrations
    from audit_lit.decoder.config import DecoderConfig
    from audit_lit.decoder.folders import SHIPPED
    from audit_lit.decoder.formats.published import ENTRIES, PUBLISHED

    shipped = [("shipped", name, DecoderConfig.load(folder)) for name, folder in SHIPPED.items()]
    configs = {name: config.to_dict() for name, config in PUBLISHED.items()}
    records = stored_calibrations()
    if as_json:
        documents = [{"where": where, "id": name, **config.to_dict()} for where, name, config in shipped]
        documents += [{"where": "Hub", **asdict(entry), "config": configs.get(entry.id)} for entry in ENTRIES]
        for document in documents:
            measured = [record for record in records if record.decoder == document.get("name", document["id"])]
            document["calibrations"] = [record.model_dump(mode="json") for record in measured]
        common.show(dump_json(documents, indent=2))
        return
    console = Console(soft_wrap=True, highlight=False)
    for where, name, config in shipped:
        several = "s" if len(config.read_layers) > 1 else ""
        layers = f"layer{several} {', '.join(map(str, config.read_layers))} (of {config.n_layers})"
        facts = {"reads": f"{config.target}, {layers}", "base": config.base, "licence": config.licence}
        if config.lift_threshold is not None:
            facts["threshold"] = f"{config.lift_threshold:.2f} nats per token"
        _print(console, name, where, facts)
    for entry in ENTRIES:
        _print(console, entry.id, entry.family, {key: value for key, value in asdict(entry).items() if key not in SAID})
    for record in records:
        _print(console, record.decoder, "calibrated", {"measured": record.summary})


SAID = ("id", "family")
"""What the headline of an entry says."""


def _print(console: Any, name: str, kind: str, facts: dict[str, Any]) -> None:
    console.print(f"[bold]{common.printable(name)}[/] ({common.printable(kind)})")
    for key, value in facts.items():
        console.print(f"    {key.replace('_', ' ')}: {common.printable(str(value or 'unknown'))}")
