"""Our errors: one tree, each with a stable code, a sentence that names the object, and the mend. `status` is its HTTP status."""

from __future__ import annotations


class JobsError(Exception):
    """Base of everything we raise on purpose.

    `code` is stable and lower_snake; `message` names the thing; `mend` says what to do; `detail` is JSON (`field`, `file`, `line`, `key`, …).
    """

    status = 500
    code = "internal_error"

    def __init__(self, message: str, *, code: str = "", mend: str = "", **detail: object) -> None:
        super().__init__(message)
        self.message = message
        self.mend = mend
        self.detail = detail
        if code:
            self.code = code

    def __str__(self) -> str:
        return f"{self.message} {self.mend}".strip()


class BadInput(JobsError):
    """The request, a file or a parameter cannot be used as it is."""

    status = 400
    code = "bad_input"


class NotFound(JobsError):
    """There is no such job, run, file or notebook."""

    status = 404
    code = "not_found"


class Conflict(JobsError):
    """The object's state does not allow this."""

    status = 409
    code = "conflict"


class TooLarge(JobsError):
    """A size or count limit is exceeded."""

    status = 413
    code = "too_large"


class Unavailable(JobsError):
    """Something we need does not answer or is of another version."""

    status = 503
    code = "unavailable"
