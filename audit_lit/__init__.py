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
    from audit_lit.answers.answer import Answer
    from audit_lit.answers.claims import Claim
    from audit_lit.answers.session import Reading
    from audit_lit.auditor import Auditor
    from audit_lit.decoder.config import DecoderConfig
    from audit_lit.decoder.decoder import Decoder
    from audit_lit.edits.checks.check import Check
    from audit_lit.edits.checks.verify import Verification
    from audit_lit.edits.weights import WeightEdit, load_edit
    from audit_lit.errors import (
        ActivationError,
        AuditLitError,
        DataError,
        DecoderConfigError,
        DecoderMismatch,
        DialogError,
        EditError,
        HubError,
        Incomplete,
        QuestionError,
        RecipeError,
        ScanError,
        SettingsError,
        TargetError,
        TrainingError,
    )
    from audit_lit.hooks import ActivationEdit, capture, inject
    from audit_lit.models.activations import Activations
    from audit_lit.models.loading import load_target
    from audit_lit.models.target import Target
    from audit_lit.report.audit_report import AuditReport
    from audit_lit.scan.findings import Finding

    Protocol = DecoderConfig

_HOME = {
    "ActivationEdit": "hooks",
    "ActivationError": "errors",
    "Activations": "models.activations",
    "Answer": "answers.answer",
    "AuditLitError": "errors",
    "AuditReport": "report.audit_report",
    "Auditor": "auditor",
    "Check": "edits.checks.check",
    "Claim": "answers.claims",
    "DataError": "errors",
    "Decoder": "decoder.decoder",
    "DecoderConfig": "decoder.config",
    "DecoderConfigError": "errors",
    "DecoderMismatch": "errors",
    "DialogError": "errors",
    "EditError": "errors",
    "Finding": "scan.findings",
    "HubError": "errors",
    "Incomplete": "errors",
    "QuestionError": "errors",
    "Reading": "answers.session",
    "RecipeError": "errors",
    "ScanError": "errors",
    "SettingsError": "errors",
    "Target": "models.target",
    "TargetError": "errors",
    "TrainingError": "errors",
    "Verification": "edits.checks.verify",
    "WeightEdit": "edits.weights",
    "capture": "hooks",
    "inject": "hooks",
    "load_edit": "edits.weights",
    "load_target": "models.loading",
}
_FORMER = {"Protocol": "DecoderConfig"}
"""Names that callers know from before, and what they are called now."""

__all__ = [
    "ActivationEdit",
    "ActivationError",
    "Activations",
    "Answer",
    "AuditLitError",
    "AuditReport",
    "Auditor",
    "Check",
    "Claim",
    "DataError",
    "Decoder",
    "DecoderConfig",
    "DecoderConfigError",
    "DecoderMismatch",
    "DialogError",
    "EditError",
    "Finding",
    "HubError",
    "Incomplete",
    "Protocol",
    "QuestionError",
    "Reading",
    "RecipeError",
    "ScanError",
    "SettingsError",
    "Target",
    "TargetError",
    "TrainingError",
    "Verification",
    "WeightEdit",
    "__version__",
    "capture",
    "inject",
    "load_edit",
    "load_target",
]


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that ``audit-lit --help`` does not import torch."""
    current = _FORMER.get(name, name)
    if current not in _HOME:
        raise AttributeError(f"module 'audit_lit' has no attribute {name!r}")
    return getattr(import_module(f"audit_lit.{_HOME[current]}"), current)


def __dir__() -> list[str]:
    return sorted(__all__)
