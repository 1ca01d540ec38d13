"""Capture and change the residual stream of any TransformerLens model; nothing here knows a decoder."""

from audit_lit.hooks.capture import capture
from audit_lit.hooks.edit import ActivationEdit
from audit_lit.hooks.edit_files import Origin
from audit_lit.hooks.identity import difference, fingerprint, fingerprint_of, same_model
from audit_lit.hooks.inject import AddNormMatched, Embed, Project, Replace, WriteOp, inject, input_hook, output_hook
from audit_lit.hooks.interventions import Ablate, Intervention, LowRank, Steer
from audit_lit.hooks.model import Hook, HookedModel, is_hooked, require_raw, resid_post, resolve_layers

Part = Intervention  # the former name
writing_to = output_hook  # the former name

__all__ = [
    "Ablate",
    "ActivationEdit",
    "AddNormMatched",
    "Embed",
    "Hook",
    "HookedModel",
    "Intervention",
    "LowRank",
    "Origin",
    "Project",
    "Replace",
    "Steer",
    "WriteOp",
    "capture",
    "difference",
    "fingerprint",
    "fingerprint_of",
    "inject",
    "input_hook",
    "is_hooked",
    "output_hook",
    "require_raw",
    "resid_post",
    "resolve_layers",
    "same_model",
]
