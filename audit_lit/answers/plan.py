"""What must run to read a dialog: it, its decoys and its twins, as tokens, and the positions to keep of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from audit_lit.answers.reading import Reading
from audit_lit.chat.arguments import ONE, one_dialog
from audit_lit.chat.decoys import decoy_dialogs, neutral_twins, twins_seed
from audit_lit.chat.dialog import Dialog, RenderedDialog, Reveal
from audit_lit.chat.formats.detect import format_of
from audit_lit.chat.messages import Message, read_dialog
from audit_lit.chat.positions import aligned_positions, shared_positions
from audit_lit.decoder.config import DecoderConfig
from audit_lit.errors import DialogError
from audit_lit.files.writing import dump_json
from audit_lit.models.activations import Activations

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Plan:
    """The runs of a model that one reading takes.

    Attributes:
        messages: The dialog.
        reveal: Whose activations are read (see ``Auditor.ask``).
        rendered: The dialog as the model reads it, then its decoys, and then its neutral twins, if there are any.
        positions: The positions that are revealed of each of them: the same visible tokens. What is kept of them is
            ``RenderedDialog.slot_positions``.
        tokens: The text of each token that is kept of the dialog.
        config: The decoder that it is read for.
    """

    messages: tuple[Message, ...]
    reveal: Reveal
    rendered: tuple[RenderedDialog, ...]
    positions: tuple[tuple[int, ...], ...]
    tokens: tuple[str, ...]
    config: DecoderConfig

    @classmethod
    def of(
        cls,
        dialog: Dialog,
        tokenizer: PreTrainedTokenizerBase,
        config: DecoderConfig,
        reveal: Reveal = "user",
        n_twins: int = 0,
    ) -> Plan:
        """Return what must run for a decoder; raise ``DialogError`` if the dialog is malformed or shows nothing."""
        messages = read_dialog(one_dialog(messages_of(dialog)))
        rendered = config.render(messages, tokenizer)
        decoys = [config.render(decoy, tokenizer) for decoy in decoy_dialogs(messages)]
        positions = config.select(rendered, reveal)
        if isinstance(reveal, str):  # some templates put the system prompt into the user's header, and so hide both
            positions = shared_positions(positions, rendered, decoys)
        drawn = neutral_twins(messages, n_twins, twins_seed(0, dump_json(messages))) if n_twins else []
        others = [*decoys, *(config.render(twin, tokenizer) for twin in drawn)]
        aligned = [aligned_positions(positions, rendered, other) for other in others]
        slots = rendered.slot_positions(positions)
        tokens = tokenizer.batch_decode([[rendered.token_ids[position]] for position in slots])
        return cls(messages, reveal, (rendered, *others), (positions, *aligned), tuple(tokens), config)

    @property
    def prompts(self) -> list[list[int]]:
        """The token ids to run: of the dialog, each decoy and each twin; no special token is to be added."""
        return [list(rendered.token_ids) for rendered in self.rendered]

    def reading(
        self,
        activations: Activations,
        decoys: Activations | None,
        twins: Activations | None = None,
        *,
        revision: str | None = None,
        fingerprint: str | None = None,
    ) -> Reading:
        """Return what was kept of the runs as a reading."""
        return Reading(
            activations,
            decoys,
            tokens=self.tokens,
            rendered=self.rendered[0],
            positions=self.positions[0],
            visible_text=self.rendered[0].visible_text,
            dialog=self.messages,
            twins=twins,
            reveal=self.reveal,
            revision=revision,
            fingerprint=fingerprint,
        )


def messages_of(dialog: Any) -> Any:
    """Return the messages of a document that holds them, as a file does; anything else as it is.

    Raises:
        DialogError: If it is the name of a file, or a document whose messages cannot be read.
    """
    if isinstance(dialog, str | PurePath):
        name = str(dialog)
        raise DialogError(
            f"got {name!r:.80} for a dialog; expected a list of messages such as {ONE}. If it is a file of "
            f"activations, pass Reading.load({name!r:.80}); if it is one of dialogs, use Auditor.scan({name!r:.80})."
        )
    return format_of(dialog, None).read(dialog) if isinstance(dialog, Mapping) and "messages" in dialog else dialog
