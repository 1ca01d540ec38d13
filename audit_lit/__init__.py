"""audit-lit: ask what a language model is not saying, and see whether the answer can be believed.

LIT is Latent Interpretation Tuning (LatentQA, arXiv 2412.08686), not Google's Learning Interpretability Tool.
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

# In a clone hooks/, recipes/ and cli.py stand beside this folder; in a wheel, inside it.
_root = Path(__file__).resolve().parent.parent
if (_root / "pyproject.toml").is_file() and not (Path(__file__).parent / "hooks").is_dir():
    __path__.append(str(_root))

__version__ = "0.1.0"

if TYPE_CHECKING:
    from audit_lit.activations import Activations
    from audit_lit.answer import Answer
    from audit_lit.auditor import Auditor
    from audit_lit.claims import Claim
    from audit_lit.decoder import Decoder
    from audit_lit.edits.weights import load_edit
    from audit_lit.errors import AuditLitError, DecoderMismatch, HubError
    from audit_lit.hooks.capture import capture
    from audit_lit.hooks.edit import ActivationEdit
    from audit_lit.hooks.inject import inject
    from audit_lit.protocol import Protocol
    from audit_lit.scan.findings import Finding
    from audit_lit.scan.report import AuditReport
    from audit_lit.target import Target, load_target

_HOME = {
    "ActivationEdit": "hooks",
    "Activations": "activations",
    "Answer": "answer",
    "AuditLitError": "errors",
    "AuditReport": "scan.report",
    "Auditor": "auditor",
    "Claim": "claims",
    "Decoder": "decoder",
    "DecoderMismatch": "errors",
    "Finding": "scan.findings",
    "HubError": "errors",
    "Protocol": "protocol",
    "Target": "target",
    "capture": "hooks",
    "inject": "hooks",
    "load_edit": "edits.weights",
    "load_target": "target",
}

__all__ = [
    "ActivationEdit",
    "Activations",
    "Answer",
    "AuditLitError",
    "AuditReport",
    "Auditor",
    "Claim",
    "Decoder",
    "DecoderMismatch",
    "Finding",
    "HubError",
    "Protocol",
    "Target",
    "__version__",
    "capture",
    "inject",
    "load_edit",
    "load_target",
]


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that ``audit-lit --help`` does not import torch."""
    if name not in _HOME:
        raise AttributeError(f"module 'audit_lit' has no attribute {name!r}")
    return getattr(import_module(f"audit_lit.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
