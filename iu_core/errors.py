"""The one error hierarchy: retryable or terminal, decided at the adapter that met the fault.

An `IUError` is also a message to a person. It says what happened, why, and the next command,
because the operator who reads it has nothing else at hand. Its exit code is the process's.
Source of the codes: design/00, "Exit codes".
"""

from enum import IntEnum
from typing import ClassVar


class ExitCode(IntEnum):
    """What a process of this project ends with."""

    OK = 0
    FAULT = 1
    USAGE = 2
    DIFFERENCES = 65
    TEMPORARY = 75
    FENCED = 76
    REFUSED = 77
    CONFIGURATION = 78


class IUError(Exception):
    """What went wrong (`what`), the evidence (`why`), and what to do next (`remedy`).

    `code` is the SQLSTATE or broker error behind it, None where there is none.
    """

    exit_code: ClassVar[ExitCode] = ExitCode.FAULT
    retryable: ClassVar[bool] = False

    def __init__(
        self, what: str, *, why: str | None = None, remedy: str | None = None, code: str | None = None
    ) -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.remedy = remedy
        self.code = code

    def __str__(self) -> str:
        return f"{self.what} ({self.why})" if self.why else self.what


class Retryable(IUError):
    """The same call may succeed later with nothing changed by us: wait, then call again."""

    exit_code = ExitCode.TEMPORARY
    retryable = True


class Terminal(IUError):
    """The same call will fail again: somebody has to change something first."""


class Usage(Terminal):
    """The command's words or the input given to it are wrong; nothing was attempted."""

    exit_code = ExitCode.USAGE


class Refused(Terminal):
    """A gate is closed or a privilege is missing. SQLSTATE 42501 or 0A000."""

    exit_code = ExitCode.REFUSED


class Fenced(Terminal):
    """A newer owner has taken over: this process must end and must not retry."""

    exit_code = ExitCode.FENCED


class Misconfigured(Terminal):
    """Settings, or the services they name, cannot be right. Also a restored database."""

    exit_code = ExitCode.CONFIGURATION


class DifferencesFound(Terminal):
    """`verify` or `audit` ran to its end and what it compared is not equal."""

    exit_code = ExitCode.DIFFERENCES
