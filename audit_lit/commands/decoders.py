"""The command ``audit-lit decoders``: decoders that can be loaded by name."""

from __future__ import annotations

import click

from audit_lit.commands import common
from audit_lit.files.writing import dump_json


@click.command()
@common.json_option
def decoders(as_json: bool) -> None:
    """List the decoders that are shipped, and the published ones whose format is known."""
    from rich.console import Console

    from audit_lit.decoder.calibration_files import stored_calibrations
    from audit_lit.decoder.config import DecoderConfig
    from audit_lit.decoder.files import SHIPPED
    from audit_lit.decoder.formats import PUBLISHED

    known = [("shipped", name, DecoderConfig.load(folder)) for name, folder in SHIPPED.items()]
    known += [("Hub", name, config) for name, config in PUBLISHED.items()]
    records = stored_calibrations()
    if as_json:
        entries = [{"where": where, "id": name, **config.to_dict()} for where, name, config in known]
        for entry in entries:
            measured = [record for record in records if record.decoder == entry["name"]]
            entry["calibrations"] = [record.model_dump(mode="json") for record in measured]
        common.show(dump_json(entries, indent=2))
        return
    console = Console(soft_wrap=True)
    for where, name, config in known:
        reads = f"{config.target}, layers {', '.join(map(str, config.read_layers))} of {config.n_layers}"
        writes = f"{config.write} at block {config.write_layer}; {config.licence or 'see its card'}"
        console.print(f"[bold]{name}[/] ({where})\n    reads {reads}; writes by {writes}")
        if config.lift_threshold is not None:
            console.print(f"    comes with the threshold {config.lift_threshold:.2f} nats per token")
    for record in records:
        console.print(f"[bold]{common.printable(record.decoder)}[/] calibrated: {common.printable(record.summary)}")
