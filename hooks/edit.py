"""Activation edits: data that becomes hooks of any TransformerLens model."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from audit_lit import hub
from audit_lit.errors import EditError, first_line
from audit_lit.files.paths import as_path
from audit_lit.hooks import edit_files
from audit_lit.hooks.edit_files import Origin
from audit_lit.hooks.identity import difference, fingerprint, same_model
from audit_lit.hooks.interventions import Ablate, Intervention, Steer
from audit_lit.hooks.model import Hook, HookedModel, require_raw
from audit_lit.hooks.shown import edit_line, edit_table
from audit_lit.transfers import upload


@dataclass(frozen=True, eq=False)
class ActivationEdit:
    """A change of a model's residual stream, for raw (unprocessed) weights.

    ``with model.hooks(fwd_hooks=edit.fwd_hooks): ...``, ``model.run_with_hooks(tokens, fwd_hooks=edit.fwd_hooks)`` and
    ``with edit.on(model): model.generate(...)`` apply the same change; other hooks may be on beside it.

    Attributes:
        interventions: The changes after single blocks, in order.
        origin: Where the edit comes from.
    """

    interventions: tuple[Intervention, ...]
    origin: Origin

    def __post_init__(self) -> None:
        """Refuse interventions that do not fit the model, or none at all, by an ``EditError``."""
        if not isinstance(self.interventions, tuple) or not isinstance(self.origin, Origin):
            raise EditError(
                f"got {self.interventions!r:.80} and {self.origin!r:.80}; expected a tuple of interventions, and their "
                "Origin."
            )
        if not self.interventions:
            raise EditError("the edit has no interventions; expected at least one change after a block.")
        for intervention in self.interventions:
            if not isinstance(intervention, Intervention):
                raise EditError(f"got {intervention!r:.80} for an intervention; expected a Steer, Ablate or LowRank.")
            if not 0 <= intervention.layer < self.origin.n_layers:
                raise EditError(f"layer {intervention.layer} is not among the model's 0-{self.origin.n_layers - 1}.")
            for name, tensor in intervention.tensors().items():
                if name != "bias" and tensor.shape[-1] != self.origin.d_model:
                    raise EditError(f"{name} has width {tensor.shape[-1]}; the model's is {self.origin.d_model}.")

    def __repr__(self) -> str:
        """Return goal, method, layers and target."""
        return edit_line("ActivationEdit", self.origin)

    def _repr_html_(self) -> str:
        return edit_table("ActivationEdit", self.origin)

    @property
    def fwd_hooks(self) -> list[Hook]:
        """The hooks ``[(hook_name, fn), ...]``; they never write in place.

        Those of an edit of positions come with hooks that find its prompt in each input (see ``hooks.placement``).
        """
        return [hook for intervention in self.interventions for hook in intervention.hooks()]

    @property
    def layers(self) -> tuple[int, ...]:
        """The blocks whose output is changed, in order."""
        return tuple(sorted({intervention.layer for intervention in self.interventions}))

    @contextmanager
    def on(self, model: HookedModel) -> Iterator[HookedModel]:
        """Edit the model inside the ``with`` body. The hooks are always removed after it, even after an exception.

        Raises:
            EditError: If the edit was made for another model, or the model's weights are processed.
        """
        self.check(model)
        with model.hooks(fwd_hooks=self.fwd_hooks):
            yield model

    def check(self, model: HookedModel) -> None:
        """Raise unless the edit was made for this model.

        Raises:
            EditError: If the model's width, depth or fingerprint differs, or its weights are processed.
        """
        try:
            require_raw(model)
        except ValueError as err:
            raise EditError(str(err)) from err
        origin, d_model, n_layers = self.origin, int(model.cfg.d_model), int(model.cfg.n_layers)
        same_shape, got = (d_model, n_layers) == (origin.d_model, origin.n_layers), fingerprint(model)
        if not same_shape or not (origin.fingerprint is None or same_model(origin.fingerprint, got)):
            what = difference(origin.fingerprint, got) if same_shape and origin.fingerprint else "another shape"
            raise EditError(
                f"the edit was made for {origin.target!r} (width {origin.d_model}, {origin.n_layers} layers, "
                f"fingerprint {origin.fingerprint}); got {what}: a model of width {d_model}, {n_layers} layers, "
                f"fingerprint {got}. Load that model, or make an edit for this one."
            )

    def scaled(self, factor: float) -> ActivationEdit:
        """Return the edit with every strength multiplied: by 0, it changes nothing; by -1, it is negated.

        Raises:
            EditError: If the factor is not a finite number.
        """
        check_factor(factor)
        scaled = tuple(replace(change, strength=change.strength * factor) for change in self.interventions)
        return ActivationEdit(scaled, replace(self.origin, metrics={}))  # they were measured at another strength

    def __neg__(self) -> ActivationEdit:
        return self.scaled(-1.0)

    def __add__(self, other: ActivationEdit) -> ActivationEdit:
        """Return both edits as one: the other's interventions come after this one's.

        Raises:
            EditError: If the edits were made for different models.
        """
        if not isinstance(other, ActivationEdit):
            raise EditError(f"got {other!r:.80} to add to an edit; expected another activation edit.")
        mine, theirs = self.origin, other.origin
        same_shape = (mine.d_model, mine.n_layers) == (theirs.d_model, theirs.n_layers)
        if not same_shape or not _agree(mine.fingerprint, theirs.fingerprint):
            raise EditError(
                f"edits for {mine.target!r} and {theirs.target!r} cannot be combined; use edits for one model."
            )
        origin = replace(
            mine,
            goal=f"{mine.goal}\n{theirs.goal}",
            method=f"{mine.method} + {theirs.method}",
            settings={"of": [mine.settings, theirs.settings]},
            metrics={},
        )
        return ActivationEdit(self.interventions + other.interventions, origin)

    def ablated(self) -> ActivationEdit:
        """Return the edit that removes this one's directions from the residuals of every token.

        Raises:
            EditError: If an intervention does not have a single direction.
        """
        steers = [intervention for intervention in self.interventions if isinstance(intervention, Steer)]
        if len(steers) < len(self.interventions) or any(steer.direction.ndim > 1 for steer in steers):
            raise EditError("only an edit of one direction per layer can be ablated; make one with method='vector'.")
        ablations = tuple(Ablate(layer=steer.layer, direction=steer.direction) for steer in steers)
        return ActivationEdit(ablations, replace(self.origin, method=f"ablated {self.origin.method}", metrics={}))

    def to(self, device: str | torch.device) -> ActivationEdit:
        """Return the edit with its tensors on a device, so that its hooks need not move them each time.

        Raises:
            EditError: If there is no such device.
        """
        try:
            torch.device(device)  # a type of numbers is none
            moved = tuple(change.moved(lambda tensor: tensor.to(device)) for change in self.interventions)
        except (AssertionError, NotImplementedError, RuntimeError, TypeError, ValueError) as err:
            reason = first_line(err)
            raise EditError(f"the edit cannot be put on device {device!r:.80} ({reason}); try another.") from err
        return replace(self, interventions=moved)

    def save(self, path: str | Path) -> Path:
        """Write ``edit.safetensors``, ``edit.json`` and a model card, and return the folder that holds them.

        Raises:
            EditError: If the folder cannot be written.
        """
        return edit_files.save(self.interventions, self.origin, as_path(path, EditError, "the folder of an edit"))

    @classmethod
    def load(cls, name: str | Path, *, revision: str | None = None) -> ActivationEdit:
        """Read what ``save`` or ``push_to_hub`` wrote.

        Args:
            name: A folder, or a Hub id such as ``org/name``.
            revision: The commit of a Hub edit; pin it for a result that can be repeated.

        Raises:
            HubError: If the edit cannot be fetched.
            EditError: If it is of another kind, incomplete or of a newer format.
        """
        folder = hub.resolve(name, revision=revision, kind="edit")
        origin, parts = edit_files.read_data(folder)
        if not parts:
            raise EditError(
                f"{folder} does not hold an activation edit but one of method {origin.method!r}; load it with "
                "audit_lit.load_edit(name, target)."
            )
        return cls(edit_files.read_interventions(folder, parts), origin)

    def push_to_hub(self, repo_id: str, *, private: bool = False) -> str:
        """Upload the edit with its card, and return the commit to pin in ``load(revision=...)``.

        Raises:
            HubError: If the edit cannot be uploaded.
        """
        with TemporaryDirectory() as folder:
            return upload(self.save(folder), repo_id, private=private)


def check_factor(factor: Any) -> None:
    """Raise ``EditError`` unless a factor of an edit's strength is a finite number."""
    if not isinstance(factor, int | float) or not -sys.float_info.max <= factor <= sys.float_info.max:
        raise EditError(f"the factor {factor!r:.80} is not finite, or no number; expected one such as -1 or 0.5.")


def _agree(first: str | None, second: str | None) -> bool:
    """Return whether two edits are for one model; one for any model of its shape has no fingerprint."""
    return first == second if first is None or second is None else same_model(first, second)
