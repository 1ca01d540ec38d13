"""audit-lit: ask what a language model is not saying, and see whether the answer can be believed.

LIT is Latent Interpretation Tuning (LatentQA, arXiv 2412.08686), not Google's Learning Interpretability Tool.
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audit_lit.errors import (
    ActivationError,
    AuditLitError,
    CalibrationError,
    DataError,
    DecoderConfigError,
    DecoderMismatch,
    DialogError,
    EditError,
    HubError,
    Incomplete,
    OutputError,
    QuestionError,
    RecipeError,
    ScanError,
    SettingsError,
    TargetError,
    TrainingError,
)

# In a clone hooks/, recipes/ and cli.py stand beside this folder; in a wheel, inside it.
_root = Path(__file__).resolve().parent.parent
if (_root / "pyproject.toml").is_file() and not (Path(__file__).parent / "hooks").is_dir():
    __path__.append(str(_root))

__version__ = "0.1.0"

if TYPE_CHECKING:
    from audit_lit.answers.answer import Answer
    from audit_lit.answers.claims import Claim
    from audit_lit.answers.reading import Reading
    from audit_lit.auditor import Auditor
    from audit_lit.decoder.calibration import CalibrationRecord
    from audit_lit.decoder.config import DecoderConfig
    from audit_lit.decoder.decoder import Decoder
    from audit_lit.edits.checks.check import Check
    from audit_lit.edits.checks.verify import Verification
    from audit_lit.edits.weights import WeightEdit, load_edit
    from audit_lit.hooks.capture import capture
    from audit_lit.hooks.edit import ActivationEdit
    from audit_lit.hooks.inject import inject
    from audit_lit.models.activations import Activations
    from audit_lit.models.loading import load_target
    from audit_lit.models.target import Target
    from audit_lit.report.audit_report import AuditReport
    from audit_lit.scan.finding import Finding

    Protocol = DecoderConfig  # its former name

_MODULES = {
    "answers.answer": ("Answer",),
    "answers.claims": ("Claim",),
    "answers.reading": ("Reading",),
    "auditor": ("Auditor",),
    "decoder.calibration": ("CalibrationRecord",),
    "decoder.config": ("DecoderConfig",),
    "decoder.decoder": ("Decoder",),
    "edits.checks.check": ("Check",),
    "edits.checks.verify": ("Verification",),
    "edits.weights": ("WeightEdit", "load_edit"),
    "hooks": ("ActivationEdit", "capture", "inject"),
    "models.activations": ("Activations",),
    "models.loading": ("load_target",),
    "models.target": ("Target",),
    "report.audit_report": ("AuditReport",),
    "scan.finding": ("Finding",),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}

__all__ = ["Activations", "Answer", "Auditor", "Claim", "Decoder", "DecoderConfig", "Protocol", "Reading", "Target"]
__all__ += ["ActivationEdit", "AuditReport", "Check", "Finding", "Verification", "WeightEdit"]
__all__ += ["__version__", "capture", "inject", "load_edit", "load_target"]
__all__ += ["ActivationError", "AuditLitError", "DataError", "DecoderConfigError", "DecoderMismatch", "DialogError"]
__all__ += ["EditError", "HubError", "Incomplete", "OutputError", "QuestionError", "RecipeError", "ScanError"]
__all__ += ["CalibrationError", "CalibrationRecord", "SettingsError", "TargetError", "TrainingError"]


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that ``audit-lit --help`` does not import torch."""
    current = "DecoderConfig" if name == "Protocol" else name
    if current not in _HOME:
        raise AttributeError(f"module 'audit_lit' has no attribute {name!r}")
    return getattr(import_module(f"audit_lit.{_HOME[current]}"), current)


def __dir__() -> list[str]:
    return sorted(__all__)
