"""The errors of a gateway that cannot start, and their exit codes."""

from enum import IntEnum


class GatewayExitCode(IntEnum):
    """Exit codes of a gateway that cannot start."""

    FAILURE = 1
    USAGE = 2
    UNAVAILABLE = 7
    INTEGRITY = 8


class StartFailed(Exception):
    """The gateway cannot start; the text is one line, ``code`` the exit code."""

    def __init__(self, message: str, code: GatewayExitCode = GatewayExitCode.FAILURE) -> None:
        super().__init__(message)
        self.code = code
