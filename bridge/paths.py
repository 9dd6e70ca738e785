"""The addresses of what readers see, for templates that are rendered where no request is: in jobs, mail and the shelf.

In another language than the site's own each of them says so (`?lang=de`), so that whoever follows one stays in theirs.
`tests/bridge/web/test_paths.py` holds each against Flask's own map.
"""

from __future__ import annotations

from urllib.parse import quote, urlencode

from bridge.language import tongue


def index() -> str:
    """The front page."""
    return _said("/")


def about() -> str:
    """How this works."""
    return _said("/about")


def privacy() -> str:
    """What is kept, by whom and why."""
    return _said("/privacy")


def numbers() -> str:
    """The site in numbers."""
    return _said("/transparency")


def voice(slug: str) -> str:
    """A voice's own page."""
    return _said(f"/voices/{quote(slug)}")


def essay(slug: str, page: int = 1, anchor: str = "") -> str:
    """An essay with a page of its correspondence."""
    return _said(f"/essays/{quote(slug)}", anchor, page=str(page) if page > 1 else None)


def write(slug: str, *, answering: str | None = None, about: int | None = None) -> str:
    """The form for a letter on a page of its own, which works without a module."""
    return _said(f"/essays/{quote(slug)}/write", answering=answering, about=None if about is None else str(about))


def send(slug: str) -> str:
    """Where the form posts to."""
    return _said(f"/essays/{quote(slug)}/comments")


def form_token(slug: str) -> str:
    """Where the form's module fetches what lets it send at once."""
    return f"/essays/{quote(slug)}/form-token"


def embed(slug: str, page: int = 1, anchor: str = "") -> str:
    """An essay's correspondence alone, for a frame."""
    return _said(f"/essays/{quote(slug)}/embed", anchor, page=str(page) if page > 1 else None)


def embed_send(slug: str) -> str:
    """Where the form in a frame posts to."""
    return _said(f"/essays/{quote(slug)}/embed/comments")


def comment(public_id: str) -> str:
    """A letter's own page."""
    return _said(f"/comments/{public_id}")


def reply(public_id: str) -> str:
    """An answer's own page, with how it came about."""
    return _said(f"/replies/{public_id}")


def letter(token: str) -> str:
    """The author's page. Its address is the key to the letter."""
    return _said(f"/letters/{quote(token)}")


def report(of: str) -> str:
    """The form for a report; *of* is a public id or an essay's slug."""
    return _said("/reports", of=of)


def feed(slug: str | None = None) -> str:
    """The Atom feed of the site, or of one essay's correspondence."""
    return "/feed.atom" if slug is None else f"/essays/{quote(slug)}/feed.atom"


def desk() -> str:
    """The moderators' pages."""
    return "/desk/"


def _said(path: str, anchor: str = "", **query: str | None) -> str:
    asked = {name: value for name, value in query.items() if value is not None}
    spoken = tongue()
    if not spoken.first:
        asked["lang"] = spoken.code
    return path + (f"?{urlencode(asked)}" if asked else "") + (f"#{anchor}" if anchor else "")
