"""Every error that audit-lit raises on purpose.

A message says what was got, what was expected and what to do next.
"""


class AuditLitError(Exception):
    """Base of every error audit-lit raises on purpose."""


class DialogError(AuditLitError, ValueError):
    """A dialog cannot be rendered, or nothing in it may be read."""


class TargetError(AuditLitError, ValueError):
    """The target model cannot be loaded, or its activations cannot be trusted."""


class ActivationError(AuditLitError, ValueError):
    """Activations are not finite, or have the wrong shape."""


class ProtocolError(AuditLitError, ValueError):
    """A decoder's protocol is missing, malformed or cannot be followed."""


class DecoderMismatch(AuditLitError, ValueError):
    """The decoder was trained for another model, width, layer or weight basis."""


class EditError(AuditLitError, ValueError):
    """An edit cannot be made, read, or applied to this model."""


class HubError(AuditLitError, OSError):
    """A file could not be fetched or is broken; the message says which step to take."""


class RecipeError(AuditLitError, ValueError):
    """A recipe or its data folder is malformed."""


class ScanError(AuditLitError, OSError):
    """A run folder cannot be used: it is another run's, in use, or not writable."""


class Incomplete(ScanError):
    """An audit ended before every dialog was read; what is finished is kept."""
