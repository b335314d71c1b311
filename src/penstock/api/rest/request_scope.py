"""What the ASGI scope of a request says of its caller."""

from starlette.requests import Request

from penstock.api.common.request_builder import REQUEST_ID
from penstock.serving.access.caller_access import CallerAccess
from penstock.serving.access.request_author import RequestAuthor, author_of


def access_of(request: Request) -> CallerAccess:
    """Return what the credential of a request may do."""
    access: CallerAccess = request.scope["access"]
    return access


def author_of_request(request: Request) -> RequestAuthor:
    """Return who sent a request, for the audit."""
    request_id = request.headers.get(REQUEST_ID.decode(), "")
    return author_of(access_of(request).caller, request.scope["client"], request_id)
