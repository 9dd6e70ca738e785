"""The headers of every answer, in one place (SECURITY, B2)."""

from __future__ import annotations

from flask import Response, current_app, request, session

from bridge.web.access import Access, declared, site

_PAGES = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
_DATA = "default-src 'none'; frame-ancestors 'none'"


def protect(response: Response) -> Response:
    """Give *response* the headers of its surface: pages, private pages, or data."""
    headers = response.headers
    is_page = response.mimetype == "text/html"
    headers["Content-Security-Policy"] = _PAGES if is_page else _DATA
    headers["X-Content-Type-Options"] = "nosniff"
    headers["X-Frame-Options"] = "DENY"
    headers["Referrer-Policy"] = "same-origin"
    headers["Cross-Origin-Resource-Policy"] = "same-origin"
    if site().settings.address.startswith("https://"):
        headers["Strict-Transport-Security"] = "max-age=31536000"
    if _is_private() or "Set-Cookie" in headers:
        headers["Cross-Origin-Opener-Policy"] = "same-origin"
        headers["Cache-Control"] = "no-store"
    elif request.endpoint != "static" and "Cache-Control" not in headers:
        # What a page shows changes with each decision: ask again before showing it from a cache.
        headers["Cache-Control"] = "no-cache"
    if not _is_private() and not session.modified:
        # Flask-Security looks at every session. What is public is the same for everybody all the same, so no "Vary".
        session.accessed = False
    return response


def _is_private() -> bool:
    if request.endpoint is None:
        return False
    return declared(current_app, request.endpoint) not in {Access.PUBLIC, None}
