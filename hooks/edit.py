"""Activation edits: data that becomes hooks of any TransformerLens model, wherever such hooks are taken."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from audit_lit.errors import EditError
from audit_lit.hooks import edit_files
from audit_lit.hooks.edit_files import Origin
from audit_lit.hooks.interventions import Ablate, Intervention, Steer
from audit_lit.hooks.model import Hook, HookedModel, fingerprint, require_raw


@dataclass(frozen=True, eq=False)
class ActivationEdit:
    """A change of a model's residual stream, in raw (unprocessed) weights' terms.

    ``with model.hooks(fwd_hooks=edit.fwd_hooks): ...``, ``model.run_with_hooks(tokens, fwd_hooks=edit.fwd_hooks)`` and
    ``with edit.on(model): model.generate(...)`` all do the same; your own hooks may stand beside them.

    Attributes:
        interventions: What happens after which block, in order.
        origin: Where it comes from.
    """

    interventions: tuple[Intervention, ...]
    origin: Origin

    def __post_init__(self) -> None:
        """Refuse interventions that do not fit the model.

        Raises:
            EditError: If there are none, or one has no place in it.
        """
        if not self.interventions:
            raise EditError("the edit has no interventions; expected at least one change after a block.")
        for change in self.interventions:
            if not 0 <= change.layer < self.origin.n_layers:
                raise EditError(f"layer {change.layer} is not among the model's 0-{self.origin.n_layers - 1}.")
            for name, tensor in change.tensors().items():
                if name != "bias" and tensor.shape[-1] != self.origin.d_model:
                    raise EditError(f"{name} has width {tensor.shape[-1]}; the model's is {self.origin.d_model}.")

    @property
    def fwd_hooks(self) -> list[Hook]:
        """The hooks ``[(hook_name, fn), ...]``; they keep no state and never write in place."""
        return [change.hook() for change in self.interventions]

    @property
    def layers(self) -> tuple[int, ...]:
        """Blocks whose output is changed."""
        return tuple(sorted({change.layer for change in self.interventions}))

    @contextmanager
    def on(self, model: HookedModel) -> Iterator[HookedModel]:
        """Edit the model inside the ``with`` body; the hooks are gone after it, whatever happens in it.

        Raises:
            EditError: If the edit was made for another model, or the model's weights are processed.
        """
        self.check(model)
        with model.hooks(fwd_hooks=self.fwd_hooks):
            yield model

    def check(self, model: HookedModel) -> None:
        """Raise unless the edit was made for this model.

        Raises:
            EditError: If width, depth or the model itself differ, or its weights are processed.
        """
        try:
            require_raw(model)
        except ValueError as err:
            raise EditError(str(err)) from err
        made_for = (self.origin.d_model, self.origin.n_layers)
        got = (int(model.cfg.d_model), int(model.cfg.n_layers))
        same = self.origin.fingerprint in (None, fingerprint(model)) if got == made_for else False
        if not same:
            raise EditError(
                f"the edit was made for {self.origin.target!r} (width {made_for[0]}, {made_for[1]} layers, fingerprint "
                f"{self.origin.fingerprint}); got a model of width {got[0]}, {got[1]} layers, fingerprint "
                f"{fingerprint(model)}. Load that model, or make an edit for this one."
            )

    def scaled(self, factor: float) -> ActivationEdit:
        """Return the edit with every strength multiplied: 0 leaves the model as it is, -1 negates."""
        interventions = tuple(replace(change, strength=change.strength * factor) for change in self.interventions)
        return ActivationEdit(interventions, replace(self.origin, metrics={}))  # measured at another strength

    def __neg__(self) -> ActivationEdit:
        return self.scaled(-1.0)

    def __add__(self, other: ActivationEdit) -> ActivationEdit:
        """Return both edits as one: the other's interventions come after this one's.

        Raises:
            EditError: If they were made for two models.
        """
        mine, theirs = self.origin, other.origin
        if (mine.d_model, mine.n_layers, mine.fingerprint) != (theirs.d_model, theirs.n_layers, theirs.fingerprint):
            raise EditError(f"edits for {mine.target!r} and {theirs.target!r} cannot be combined; use one model's.")
        origin = replace(
            mine,
            goal=f"{mine.goal}\n{theirs.goal}",
            method=f"{mine.method} + {theirs.method}",
            settings={"of": [mine.settings, theirs.settings]},
            metrics={},
        )
        return ActivationEdit(self.interventions + other.interventions, origin)

    def ablated(self) -> ActivationEdit:
        """Return the edit that takes this one's directions out of every token's residuals.

        Raises:
            EditError: If a change has no single direction.
        """
        if not all(isinstance(change, Steer) and change.direction.ndim == 1 for change in self.interventions):
            raise EditError("only an edit of one direction per layer can be ablated; make one with method='vector'.")
        interventions = (
            Ablate(layer=change.layer, direction=change.direction)
            for change in self.interventions
            if isinstance(change, Steer)
        )
        return ActivationEdit(
            tuple(interventions), replace(self.origin, method=f"ablated {self.origin.method}", metrics={})
        )

    def to(self, device: str | torch.device) -> ActivationEdit:
        """Return the edit with its tensors on a device, so that hooks need not move them each time."""
        return replace(
            self, interventions=tuple(change.moved(lambda tensor: tensor.to(device)) for change in self.interventions)
        )

    def save(self, path: str | Path) -> Path:
        """Write a folder with ``edit.safetensors``, ``edit.json`` and a card; returns it."""
        return edit_files.save(self.interventions, self.origin, Path(path))

    @classmethod
    def load(cls, name: str | Path, *, revision: str | None = None) -> ActivationEdit:
        """Read what ``save`` or ``push_to_hub`` wrote.

        Args:
            name: A folder, or a Hub id.
            revision: Commit of a Hub edit; pin it for a result that can be repeated.

        Raises:
            HubError: If it cannot be fetched.
            EditError: If it is of another kind, cut short or of a newer format.
        """
        return cls(*edit_files.load(str(name), revision))

    def push_to_hub(self, repo_id: str, *, private: bool = False) -> str:
        """Upload the edit with its card, and return the commit, to pin in ``load(revision=...)``.

        Raises:
            HubError: If it cannot be uploaded.
        """
        return edit_files.push(self.interventions, self.origin, repo_id, private)
