"""The headers of every answer, in one place (SECURITY, B2).

`of_page` and `of_data` need no request: stored pages are answered ahead of the application (`bridge.web.stored`).
"""

from __future__ import annotations

from functools import lru_cache

from flask import Response, current_app, request, session

from bridge.db import Unreadable
from bridge.essay import embedding
from bridge.settings import Settings
from bridge.web.access import Access, declared, may_be_framed, site

_PAGES = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors {}; require-trusted-types-for 'script'"
)
_DATA = "default-src 'none'; frame-ancestors 'none'"
_NOBODY = "'none'"


def of_page(
    settings: Settings, *, framed: bool = False, parents: str | None = None, original_url: str | None = None
) -> list[tuple[str, str]]:
    """Return the headers of a public page; of one in a frame, with the sites that may show it.

    These are the site's own list, the essay's *parents* and the origin of its *original_url*.
    """
    allowed = embedding.parents(settings, parents, original_url) if framed else ()
    return list(_kept(settings, _PAGES.format(" ".join(allowed) or _NOBODY), bool(allowed)))


def of_data(settings: Settings) -> list[tuple[str, str]]:
    """Return the headers of JSON and feeds."""
    return list(_kept(settings, _DATA, False))


@lru_cache(maxsize=256)
def _kept(settings: Settings, policy: str, framed: bool) -> tuple[tuple[str, str], ...]:
    told = [
        ("Content-Security-Policy", policy),
        ("X-Content-Type-Options", "nosniff"),
        ("Referrer-Policy", "same-origin"),
        ("Cross-Origin-Resource-Policy", "same-origin"),
    ]
    if not framed:
        # It knows no list: where some sites may show a page in a frame, the policy alone says which.
        told.append(("X-Frame-Options", "DENY"))
    if settings.address.startswith("https://"):
        told.append(("Strict-Transport-Security", "max-age=31536000"))
    return tuple(told)


def protect(response: Response) -> Response:
    """Give *response* the headers of its surface: pages, frames, private pages, or data."""
    headers = response.headers
    for name, value in _of_surface(response):
        # What other sites load (`embed.js`) says so itself, and nothing else does.
        if name != "Cross-Origin-Resource-Policy" or name not in headers:
            headers[name] = value
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


def _of_surface(response: Response) -> list[tuple[str, str]]:
    settings = site().settings
    if response.mimetype != "text/html":
        return of_data(settings)
    if request.endpoint is None or not may_be_framed(current_app, request.endpoint):
        return of_page(settings)
    slug = (request.view_args or {}).get("slug", "")
    try:
        row = site().database.read_one("SELECT embed_parents, original_url FROM essays WHERE slug = {0}", slug)
    except Unreadable:
        row = None  # The page says so, to whoever every essay may be framed by.
    own, original_url = row or (None, None)
    return of_page(settings, framed=True, parents=own, original_url=original_url)


def _is_private() -> bool:
    if request.endpoint is None:
        return False
    return declared(current_app, request.endpoint) not in {Access.PUBLIC, None}
