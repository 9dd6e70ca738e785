"""The refusals of the Messages API, one class for each fact, in the shape that the API gives them."""

from collections.abc import Mapping

from workers.rehearsal.faults import Fault

# The error type that the API sends with each status (its page "Errors"); 4xx absent here are invalid_request_error.
ERROR_TYPES: Mapping[int, str] = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}


# What the API says with an error code; one code is ours, for a limit that the API tells by its message alone.
_CODES: Mapping[str, str] = {
    "enforced_spend_limit_reached": "The organization has crossed the monthly API usage threshold of its API tier.",
    "contract_spend_limit_reached": "The organization has reached the spend limit of its contract.",
    "ramp_limit_exceeded": "The request would exceed a ramp limit, which caps how fast usage can grow.",
    "organization_on_hold": "This organization has been disabled.",
}
OWN_SPEND_LIMIT = "own_spend_limit"
_OWN_SPEND_LIMIT_MESSAGE = "You have reached your specified API usage limits. You will regain access next month."


def error_type(status: int) -> str:
    """Return the `error.type` that the API sends with *status*."""
    return ERROR_TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")


class Refusal(Exception):
    """A request that is answered with an error; its subclasses say why."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        details: Mapping[str, str] | None = None,
        retry_after: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.details = details
        self.retry_after = retry_after

    def body(self, request_id: str) -> dict[str, object]:
        """Return the JSON body that the API would send."""
        error: dict[str, object] = {"type": error_type(self.status), "message": self.message}
        if self.details is not None:
            error["details"] = dict(self.details)
        return {"type": "error", "error": error, "request_id": request_id}


class InvalidRequest(Refusal):
    """Raised when *field* of a request is not what the API takes; the message begins with the field."""

    def __init__(self, field: str, fact: str) -> None:
        super().__init__(400, f"{field}: {fact}")
        self.field = field


class NotAuthenticated(Refusal):
    """Raised when a request carries no key. Any key will do: the rehearsal has no accounts."""

    def __init__(self) -> None:
        super().__init__(401, "Authentication failed: send a key in the Authorization header.")


class ModelUnknown(Refusal):
    """Raised when the catalogue has no model of that id."""

    def __init__(self, model_id: str) -> None:
        super().__init__(404, f"model: {model_id}")


class NothingHere(Refusal):
    """Raised for an address that the rehearsal does not serve."""

    def __init__(self, method: str, path: str) -> None:
        super().__init__(404, f"Not found: the rehearsal does not serve {method} {path}")


class BodyTooLarge(Refusal):
    """Raised when a request's body is larger than the API takes."""

    def __init__(self) -> None:
        super().__init__(413, "Request exceeds the maximum size")


class LimitReached(Refusal):
    """Raised when a request would exceed a limit per minute; it may come again after *seconds*."""

    def __init__(self, limit: str, per_minute: int, seconds: int) -> None:
        super().__init__(
            429,
            f"This request would exceed the rehearsal's limit of {per_minute:,} {limit} per minute.",
            retry_after=str(seconds),
        )


class BatchUnknown(Refusal):
    """Raised when the rehearsal remembers no batch of that id: deleted, or from before it was started."""

    def __init__(self, batch_id: str) -> None:
        super().__init__(404, f"batch: {batch_id}")


class AskedFor(Refusal):
    """Raised when a fault asked for a status, with what the API would say; *model_id* is that of a message."""

    def __init__(self, fault: Fault, model_id: object = None) -> None:
        message = f"Rehearsed: the answer with status {fault.status} that was asked for."
        details = None
        if fault.code == OWN_SPEND_LIMIT:
            message = _OWN_SPEND_LIMIT_MESSAGE
        elif fault.code:
            message = _CODES.get(fault.code, message)
            details = {"error_code": fault.code}
        elif fault.status == 404 and model_id is not None:
            message = f"model: {model_id}"
        super().__init__(fault.status, message, details=details, retry_after=fault.retry_after)


class LostOnTheWay(Refusal):
    """Raised for one of a batch whose connection broke, or (*hanging*) whose answer never came, on the API's side."""

    def __init__(self, *, hanging: bool) -> None:
        super().__init__(504 if hanging else 500, "Rehearsed: the answer was lost on the way that was asked for.")
