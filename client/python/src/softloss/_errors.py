"""What goes wrong, as exceptions."""

from __future__ import annotations


class SoftlossError(Exception):
    """The base of every error that scoring raises.

    Attributes:
        code: the gRPC status, e.g. ``"INVALID_ARGUMENT"``.
        field: what the error is about, e.g. ``"label.dtype"``, or ``None``.
        retryable: whether the same request may succeed later, or at another server.

    >>> import softloss
    >>> with softloss.Engine() as engine:
    ...     try:
    ...         engine.score([0.5], [[1.0]])
    ...     except softloss.SoftlossError as error:
    ...         print(error.code, error.field)
    INVALID_ARGUMENT label.shape
    """

    code: str = "UNKNOWN"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        field: str | None = None,
        retryable: bool = False,
    ) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code
        self.field = field
        self.retryable = retryable

    def __reduce__(self) -> tuple[object, ...]:
        state = {"code": self.code, "field": self.field, "retryable": self.retryable}
        return (type(self), self.args, state)


class InvalidArgumentError(SoftlossError, ValueError):
    """The request breaks a rule; the message names the field, the rule and the value."""

    code = "INVALID_ARGUMENT"


class FailedPreconditionError(SoftlossError):
    """The request is right, but not now: the client is closed, the numerics differ."""

    code = "FAILED_PRECONDITION"


class UnimplementedError(SoftlossError, NotImplementedError):
    """The contract knows the option; this server or backend does not have it."""

    code = "UNIMPLEMENTED"


class ResourceExhaustedError(SoftlossError):
    """A limit of the server: its byte budget, or the size of a message."""

    code = "RESOURCE_EXHAUSTED"


class UnavailableError(SoftlossError, ConnectionError):
    """The server cannot be reached, or went away."""

    code = "UNAVAILABLE"


class DeadlineExceededError(SoftlossError, TimeoutError):
    """The timeout passed first."""

    code = "DEADLINE_EXCEEDED"


class CancelledError(SoftlossError):
    """The request was dropped before it was answered, e.g. because the client was closed."""

    code = "CANCELLED"


class AbortedError(SoftlossError):
    """The server gave the request up."""

    code = "ABORTED"


class NotFoundError(SoftlossError, LookupError):
    """What the request names does not exist."""

    code = "NOT_FOUND"


class PermissionDeniedError(SoftlossError, PermissionError):
    """The caller may not do this."""

    code = "PERMISSION_DENIED"


class InternalError(SoftlossError):
    """A fault in softloss or its backend."""

    code = "INTERNAL"


_BY_CODE: dict[str, type[SoftlossError]] = {
    cls.code: cls
    for cls in (
        InvalidArgumentError,
        FailedPreconditionError,
        UnimplementedError,
        ResourceExhaustedError,
        UnavailableError,
        DeadlineExceededError,
        CancelledError,
        AbortedError,
        NotFoundError,
        PermissionDeniedError,
        InternalError,
    )
}
_BY_CODE["OUT_OF_RANGE"] = InvalidArgumentError


def from_status(code: str, message: str, field: str, retryable: bool) -> SoftlossError:
    """Make the exception that fits a status."""
    cls = _BY_CODE.get(code, SoftlossError)
    return cls(message, code=code, field=field or None, retryable=retryable)
