"""The command ``audit-lit decoders``: decoders that can be loaded by name."""

from __future__ import annotations

import json

import click
from rich.console import Console


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def decoders(as_json: bool) -> None:
    """List the decoders that are shipped, and the published ones whose format is known."""
    from audit_lit.decoder.config import DecoderConfig
    from audit_lit.decoder.files import SHIPPED
    from audit_lit.decoder.formats import PUBLISHED

    known = [("shipped", name, DecoderConfig.load(folder)) for name, folder in SHIPPED.items()]
    known += [("Hub", name, config) for name, config in PUBLISHED.items()]
    if as_json:
        Console(soft_wrap=True).print_json(
            json.dumps([{"where": where, "id": name, **config.to_dict()} for where, name, config in known])
        )
        return
    console = Console(soft_wrap=True)
    for where, name, config in known:
        layers = f"{', '.join(map(str, config.read_layers))} of {config.n_layers}"
        writes = f"{config.write} at block {config.write_layer}"
        console.print(f"[bold]{name}[/] ({where})")
        console.print(
            f"    reads {config.target}, layers {layers}; writes by {writes}; {config.licence or 'see its card'}"
        )
