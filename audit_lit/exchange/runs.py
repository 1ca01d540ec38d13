"""Runs of a model in another tool: the residuals that it kept of one prompt, made into a reading."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from audit_lit.answers.plan import Plan
from audit_lit.answers.reading import Reading
from audit_lit.chat.decoys import N_DECOYS
from audit_lit.chat.dialog import Dialog, RenderedDialog, Reveal
from audit_lit.decoder.config import DecoderConfig
from audit_lit.decoder.decoder import Decoder
from audit_lit.errors import ActivationError, DecoderMismatch
from audit_lit.models.activations import Activations
from audit_lit.models.capture import capture_batch
from audit_lit.models.target import Target

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TOLERANCE = 0.05
"""Largest distance of a layer's residuals from those of the target, in their length; bfloat16 makes a hundredth."""


@dataclass(frozen=True)
class Run:
    """What another tool kept of one prompt.

    Attributes:
        resid: The output of each layer at every token of the prompt.
        layers: The layers, in the order of ``resid``: layer L is the output of block L, counted from 0.
        token_ids: The prompt's tokens, where the tool kept them.
    """

    resid: Float[Tensor, "layer pos d_model"]
    layers: tuple[int, ...]
    token_ids: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        """Refuse residuals of another shape than layers and tokens say, by an ``ActivationError``."""
        shape = tuple(self.resid.shape)
        if len(shape) != 3 or not self.resid.is_floating_point() or shape[0] != len(self.layers):
            raise ActivationError(
                f"got residuals of shape {list(shape)} and type {self.resid.dtype} for the layers {list(self.layers)}; "
                "expected floats [layer, position, d_model], with a row for each layer. Name the layers that were kept."
            )
        if len(set(self.layers)) < len(self.layers) or min(self.layers, default=-1) < 0:
            raise ActivationError(
                f"got the layers {list(self.layers)}; expected each once, counted from 0 as outputs of blocks. The "
                "embedding is no layer: leave it out."
            )
        if self.token_ids is not None and len(self.token_ids) != shape[1]:
            raise ActivationError(
                f"got {len(self.token_ids)} token ids for {shape[1]} positions; expected as many. Read the file again."
            )

    def check_prompt(self, rendered: RenderedDialog) -> None:
        """Raise ``ActivationError`` unless these are the residuals of a rendered dialog, token by token."""
        expected, n_positions = rendered.token_ids, self.resid.shape[1]
        if n_positions != len(expected):
            raise ActivationError(
                f"the run has {n_positions} positions, and the dialog {len(expected)} tokens; expected as many. Run "
                "the prompts of the plan as token ids, without special tokens added, and keep no generated token "
                "(max_tokens=1)."
            )
        if self.token_ids is not None and self.token_ids != expected:
            pairs = enumerate(zip(self.token_ids, expected, strict=True))
            place, (got, wanted) = next((place, pair) for place, pair in pairs if pair[0] != pair[1])
            raise ActivationError(
                f"the run has token {got} at position {place}, and the dialog {wanted}; expected the same tokens. Run "
                "the prompts of the plan, with this tokenizer and its chat template."
            )

    def check_layers(self, config: DecoderConfig) -> None:
        """Raise ``ActivationError`` unless a decoder reads these layers, and its target has them."""
        read, choice = config.read_layers, config.layer_choice == "one"
        lacking = not {*read} & {*self.layers} if choice else {*read} - {*self.layers}
        if lacking or max(self.layers) >= config.n_layers:
            raise ActivationError(
                f"the run has the layers {list(self.layers)}, counted from 0 as outputs of blocks; expected "
                f"{(' or ' if choice else ', ').join(map(str, read))}, which decoder {config.name!r} reads, and none "
                f"beyond {config.n_layers - 1}, the last of {config.target!r}. Number them as the tool does (vLLM's id "
                "L + 1 is the output of block L), or run it with these layers."
            )


def plan(
    dialog: Dialog,
    decoder: Decoder,
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    reveal: Reveal = "user",
    n_twins: int = 0,
) -> Plan:
    """Return what to run in another tool so that a decoder can be asked about a dialog (see ``Plan.prompts``).

    Args:
        dialog: The dialog, as in ``Auditor.ask``.
        decoder: The decoder that will be asked.
        tokenizer: The tokenizer of the model that runs; None takes the decoder's, if that model is its base.
        reveal: The revealed turns, as in ``Auditor.ask``.
        n_twins: Number of neutral twins to run as well, which a scan compares the dialog with.

    Raises:
        DialogError: If the dialog is malformed, or nothing is revealed.
        DecoderMismatch: If the tokenizer is not known.
    """
    config = decoder.config
    if tokenizer is None and config.base != config.target:
        raise DecoderMismatch(
            f"decoder {config.name!r} sits on {config.base!r} and reads {config.target!r}, whose tokenizer it does not "
            "have; pass tokenizer=AutoTokenizer.from_pretrained(...) of the model that runs."
        )
    return Plan.of(dialog, tokenizer or decoder.tokenizer, config, reveal, n_twins)


def reading_of(
    plan: Plan, runs: Sequence[Run], source: str, *, revision: str | None = None, fingerprint: str | None = None
) -> Reading:
    """Return the reading that runs of a plan's prompts give: ``Reading.save`` writes it, and ``ask`` takes it.

    Args:
        plan: What was to run.
        runs: The run of each prompt of the plan, in order. The first alone gives a reading without decoys: then the
            control ``shuffled`` is missing, and no answer is supported.
        source: Name of the model that ran, as the decoder names its target.
        revision: Its commit, if known.
        fingerprint: Its fingerprint, if known (see ``hooks.fingerprint_of``).

    Raises:
        ActivationError: If the runs are not those of the prompts, or of other layers than the decoder reads or than
            its target has.
    """
    if len(runs) not in (1, len(plan.rendered)):
        raise ActivationError(
            f"got {len(runs)} runs for a plan of {len(plan.rendered)} prompts; expected one for each, or the first "
            "alone."
        )
    rows = []
    for run, rendered, positions in zip(runs, plan.rendered, plan.positions, strict=False):
        run.check_prompt(rendered)
        if run.layers != runs[0].layers:
            raise ActivationError(f"the runs have layers {runs[0].layers} and {run.layers}; expected the same in all.")
        run.check_layers(plan.config)
        rows.append(_row(run, rendered, positions, source))
    decoys, twins = rows[1 : 1 + N_DECOYS], rows[1 + N_DECOYS :]
    controls = [Activations.cat(part) if part else None for part in (decoys, twins)]
    return plan.reading(rows[0], *controls, revision=revision, fingerprint=fingerprint)


def _row(run: Run, rendered: RenderedDialog, positions: Sequence[int], source: str) -> Activations:
    slots = rendered.slot_positions(positions)
    kept = torch.tensor(slots)
    return Activations(
        resid=run.resid.detach().cpu()[None, :, kept],
        mask=torch.ones(1, len(slots), dtype=torch.bool),
        token_ids=torch.tensor([[rendered.token_ids[position] for position in slots]]),
        positions=kept[None],
        n_hidden=torch.tensor([rendered.n_hidden]),
        layers=run.layers,
        source=source,
    )


def check_layers(run: Run, target: Target, plan: Plan) -> None:
    """Check by a model that runs here, such as a tiny one, that a tool's layers are what they are taken for.

    Args:
        run: What the tool kept of the plan's first prompt.
        target: The same model, loaded here.
        plan: What was to run.

    Raises:
        ActivationError: If the run is of other tokens, or a layer of it is nearer to another block's output.
    """
    rendered = replace(plan.rendered[0], first_position=None)
    run.check_prompt(rendered)
    every = range(target.n_layers)
    here = capture_batch(target, [rendered], [range(len(rendered.token_ids))], every).resid[0].float()
    for layer, resid in zip(run.layers, run.resid.to(here), strict=True):
        distances = (here - resid).norm(dim=(1, 2)) / here.norm(dim=(1, 2))
        nearest = int(distances.argmin())
        if nearest != layer or float(distances[nearest]) > TOLERANCE:
            raise ActivationError(
                f"what the run calls layer {layer} is nearest to the output of block {nearest}, from which it differs "
                f"by {float(distances[nearest]):.3f} of its length; expected block {layer}, and at most {TOLERANCE}. "
                "Number the layers as outputs of blocks, counted from 0, and see that both models have these weights."
            )
