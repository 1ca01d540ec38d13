"""One reading of a target: a dialog's activations, and those of the same visible tokens after other hidden prompts."""

from __future__ import annotations

from dataclasses import dataclass

from audit_lit.activations import Activations, read
from audit_lit.decoys import decoy_dialogs, placeable, same_place
from audit_lit.dialog import Dialog, Rendered, Reveal, render
from audit_lit.protocol import Protocol
from audit_lit.target import Target


@dataclass(frozen=True)
class Reading:
    """What a decoder may see of one dialog.

    Attributes:
        rendered: The dialog as the target reads it.
        activations: One row, the dialog's own.
        decoys: A row per decoy: the same visible turns after other hidden prompts.
    """

    rendered: Rendered
    activations: Activations
    decoys: Activations


def read_dialog(target: Target, protocol: Protocol, dialog: Dialog, reveal: Reveal) -> Reading:
    """Run the target once over a dialog and once over its decoys (see ``Auditor.read``)."""
    rendered = render(dialog, target.tokenizer)
    decoys = [render(decoy, target.tokenizer) for decoy in decoy_dialogs(dialog)]
    chosen = protocol.select(rendered, reveal)
    if isinstance(reveal, str):  # some templates hide a user's header together with the system prompt in it
        chosen = placeable(chosen, rendered, decoys)
    own = read(target, [rendered], [chosen], protocol.read_layers)
    positions = [same_place(chosen, rendered, decoy) for decoy in decoys]
    return Reading(rendered, own, read(target, decoys, positions, protocol.read_layers))
