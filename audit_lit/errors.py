"""Every error that audit-lit raises on purpose.

A message says what was found, what was expected and what to do next.
"""


class AuditLitError(Exception):
    """Base of every error that audit-lit raises on purpose."""


FILE = "\0FILE\0"
"""What stands for the path of a file until that is known; no path holds it."""
OF_A_FILE, IN_MEMORY = f" {FILE} > dialogs.jsonl", " (a filter of dialogs as JSON)"
"""How a suggested command ends, before the file is known, and what is said in its place of dialogs in memory."""


class DialogError(AuditLitError, ValueError):
    """A dialog cannot be read or rendered, or nothing in it may be revealed.

    As text, it speaks of dialogs in memory; ``chat.suggestions.Shell`` makes commands for a file of ``of_file``.
    """

    def __str__(self) -> str:
        """Return the message, in which commands name no file."""
        return self.of_file.replace(OF_A_FILE, IN_MEMORY)

    @property
    def of_file(self) -> str:
        """The message, with a mark for the file in its commands."""
        return super().__str__()


class UnknownLayout(DialogError):
    """A document is in no format that is read."""


class UnreadableDialog(DialogError):
    """One dialog of several cannot be read; the others may be."""


class QuestionError(AuditLitError, ValueError):
    """A question or a claim is empty, or does not fit the decoder's context with its answer."""


class SettingsError(AuditLitError, ValueError):
    """A setting has an unknown name or a value out of its range."""


class TargetError(AuditLitError, ValueError):
    """The target model cannot be loaded, or its activations cannot be trusted."""


class ActivationError(AuditLitError, ValueError):
    """Activations are not finite, or have the wrong shape."""


class DecoderConfigError(AuditLitError, ValueError):
    """A decoder's configuration is missing, malformed, or cannot be followed."""


class DecoderMismatch(AuditLitError, ValueError):
    """The decoder was trained for another model, width, layer or weight basis."""


class CalibrationError(AuditLitError, ValueError):
    """A calibration is malformed, or of another decoder or target."""


class EditError(AuditLitError, ValueError):
    """An edit cannot be made, read, or applied to this model."""


class HubError(AuditLitError, OSError):
    """A file could not be fetched, or is broken."""


class RecipeError(AuditLitError, ValueError):
    """A recipe or a question of an audit is unknown or malformed."""


class DataError(AuditLitError, ValueError):
    """A data folder is malformed, or holds too little data."""


class OutputError(AuditLitError, OSError):
    """A result cannot be written where it should be, for example because the folder holds something else."""


class TrainingError(AuditLitError, ValueError):
    """A training run cannot start or be resumed."""


class ScanError(AuditLitError, OSError):
    """A run folder cannot be used: it belongs to another run, is in use, or cannot be written."""


class Incomplete(ScanError):
    """An audit or a training ended before it was done; the finished part is kept."""


def first_line(err: object) -> str:
    """Return the first line of what a library's error says, without a stop; its name if it says nothing."""
    return (str(err).strip() or repr(err)).splitlines()[0].rstrip(".:")
