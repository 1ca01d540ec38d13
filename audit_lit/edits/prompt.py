"""The one prompt that an edit of positions is for: how its hooks know it, and where else it is checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from audit_lit.chat.rendering import render
from audit_lit.edits.recipe import Provenance
from audit_lit.hooks import ActivationEdit
from audit_lit.models.target import Target


def prompt_fields(target: Target, token_ids: Sequence[int]) -> dict[str, Any]:
    """Return the fields of an intervention that name its prompt: length, tokens, and those that may stand before it."""
    model: Any = target.model
    tokenizer, embeddings = target.tokenizer, model.embed.W_E.detach()
    fillers = {tokenizer.pad_token_id or 0, tokenizer.bos_token_id, tokenizer.eos_token_id} - {None}
    prompt, padding = (embeddings[list(ids)].clone() for ids in (token_ids, sorted(fillers)))
    return {"n_prompt": len(token_ids), "prompt": prompt, "padding": padding}


def with_prompt(edit: ActivationEdit, target: Target) -> ActivationEdit:
    """Return an edit of positions that knows its prompt, which first versions did not store but the dialog of."""
    made_in = Provenance.of(edit.origin).dialogs
    unknown = [change for change in edit.interventions if change.positions is not None and change.prompt is None]
    if not unknown or len(made_in) != 1:
        return edit
    fields = prompt_fields(target, render(made_in[0], target.tokenizer).token_ids)
    interventions = tuple(
        replace(change, **fields) if change in unknown and change.n_prompt == fields["n_prompt"] else change
        for change in edit.interventions
    )
    return replace(edit, interventions=interventions)
