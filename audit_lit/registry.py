"""The former name of ``audit_lit.decoder.formats``, which it stands for wherever it is imported."""

import sys

from audit_lit.decoder import formats
from audit_lit.decoder.formats import *  # noqa: F403 - what type checkers see

sys.modules[__name__] = formats
