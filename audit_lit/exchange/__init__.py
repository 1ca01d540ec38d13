"""Files that other tools write and read: activations of dialogs, and edits as steering vectors. No tool is imported."""

from audit_lit.exchange.edits import export_edit, import_edit
from audit_lit.exchange.nnsight import from_nnsight
from audit_lit.exchange.run_files import run_of_file
from audit_lit.exchange.runs import Run, check_layers, plan, reading_of
from audit_lit.exchange.vllm_connector import from_vllm_connector
from audit_lit.exchange.vllm_lens import from_vllm_lens

__all__ = [
    "Run",
    "check_layers",
    "export_edit",
    "from_nnsight",
    "from_vllm_connector",
    "from_vllm_lens",
    "import_edit",
    "plan",
    "reading_of",
    "run_of_file",
]
