"""Ground floor: read and write residual streams of TransformerLens models; knows no decoder."""

from audit_lit.hooks.capture import capture
from audit_lit.hooks.inject import AddNormMatched, Project, Replace, WriteOp, inject, writing_to
from audit_lit.hooks.model import Hook, HookedModel, require_raw, resid_post, resolve_layers

__all__ = [
    "AddNormMatched",
    "Hook",
    "HookedModel",
    "Project",
    "Replace",
    "WriteOp",
    "capture",
    "inject",
    "require_raw",
    "resid_post",
    "resolve_layers",
    "writing_to",
]
