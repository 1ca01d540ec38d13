"""audit-lit inside Inspect (https://inspect.aisi.org.uk): a scorer for the transcripts of any task, and a task.

Every ``inspect`` command imports this package, so nothing in it loads torch before something is read.
"""

from audit_lit.inspect_ext.scorer import lit_scorer
from audit_lit.inspect_ext.task import hidden_prompt

__all__ = ["hidden_prompt", "lit_scorer"]
