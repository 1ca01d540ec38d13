"""What libraries say on the terminal: less of it, and never more than text."""

from __future__ import annotations

import logging
import warnings
from typing import Any

from audit_lit.display.inert import inert

FORMAT_WARNING = warnings.formatwarning


def quiet_libraries() -> None:
    """Keep libraries' progress bars and what warns their developers off the terminal, and make what they say inert.

    Commands call it, and not the library: whoever writes a program may want to read those warnings.
    """
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    warnings.filterwarnings("ignore", category=FutureWarning)  # of any module: libraries blame their callers
    warnings.formatwarning = _inert_warning
    loggers = [logging.getLogger(name) for name in ("", "transformers", "huggingface_hub")]
    for handler in (logging.lastResort, *(handler for logger in loggers for handler in logger.handlers)):
        if handler is not None:
            handler.addFilter(_inert_record)


def _inert_warning(*parts: Any, **named: Any) -> str:
    return inert(FORMAT_WARNING(*parts, **named))


def _inert_record(record: logging.LogRecord) -> bool:
    record.msg, record.args = inert(record.getMessage()), None
    return True
