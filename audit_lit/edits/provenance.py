"""What decided an edit besides its goal: the typed form of ``Origin.settings``, as edits made here store it."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, ValidationError

from audit_lit import __version__
from audit_lit.edits.recipe import EditSettings
from audit_lit.errors import EditError
from audit_lit.hooks import Origin
from audit_lit.settings import explain


class Provenance(EditSettings):
    """The settings that an edit was made with, and what else decided it.

    Attributes:
        pairs: Questions, and what the decoder should answer.
        contrast: The opposite of the goal, for the control ``caa``.
        decoder: Name of the decoder whose gradient decided.
        decoder_training_data: SHA-256 of that decoder's training data.
        reveal: Whose activations the decoder was given.
        dialogs: The dialogs that the edit was made in.
        audit_lit: Version that made it.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)  # an edit made by hand stores what it likes

    pairs: tuple[tuple[str, str], ...] = ()
    contrast: str | None = None
    decoder: str | None = None
    decoder_training_data: str | None = None
    reveal: str | tuple[int, ...] = "user"
    dialogs: tuple[tuple[dict[str, Any], ...], ...] = ()
    audit_lit: str = __version__

    @classmethod
    def of(cls, origin: Origin) -> Provenance:
        """Read what an edit's origin stores; what it does not store has its default.

        Raises:
            EditError: If a value is of a wrong type or out of its range.
        """
        try:
            return cls.model_validate(origin.settings)
        except ValidationError as err:
            raise EditError(
                f"the edit's origin is malformed ({explain(err, cls)}); expected one that audit-lit wrote. Copy or "
                "fetch the edit again."
            ) from err

    def settings(self) -> EditSettings:
        """Return the settings alone."""
        return EditSettings.model_validate(self.model_dump(include=set(EditSettings.model_fields)))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as ``Origin.settings`` holds them."""
        return self.model_dump(mode="json")
