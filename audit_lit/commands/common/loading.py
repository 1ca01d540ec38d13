"""What commands run on: the models that their options name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from audit_lit.commands.common.options import note

if TYPE_CHECKING:
    from audit_lit.decoder.decoder import Decoder
    from audit_lit.models.target import Target


def load_models(target: str, decoder: str, *, revision: str | None, device: str, **_: Any) -> tuple[Target, Decoder]:
    """Return target and decoder; further options are let through, so that a command can pass all of its own."""
    from audit_lit import Decoder, load_target
    from audit_lit.models.loading import quiet_libraries

    quiet_libraries()
    note("loading the target (fetched and converted on first use, about a minute) ...")
    model = load_target(target, device=device)
    return model, Decoder.from_pretrained(decoder, revision=revision, target=model)
