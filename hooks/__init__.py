"""Ground floor: read and write residual streams of TransformerLens models; knows no decoder."""

from audit_lit.hooks.capture import capture
from audit_lit.hooks.edit import ActivationEdit
from audit_lit.hooks.edit_files import Origin
from audit_lit.hooks.inject import AddNormMatched, Project, Replace, WriteOp, inject, writing_to
from audit_lit.hooks.model import Hook, HookedModel, fingerprint, require_raw, resid_post, resolve_layers
from audit_lit.hooks.parts import Ablate, LowRank, Part, Steer

__all__ = [
    "Ablate",
    "ActivationEdit",
    "AddNormMatched",
    "Hook",
    "HookedModel",
    "LowRank",
    "Origin",
    "Part",
    "Project",
    "Replace",
    "Steer",
    "WriteOp",
    "capture",
    "fingerprint",
    "inject",
    "require_raw",
    "resid_post",
    "resolve_layers",
    "writing_to",
]
