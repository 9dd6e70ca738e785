"""The addresses of what readers see, for templates that are rendered where no request is: in jobs, mail and the shelf.

In another language than the site's own each of them says so (`?lang=de`), so that whoever follows one stays in theirs.
`tests/bridge/web/test_paths.py` holds each against Flask's own map.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote, urlencode

from bridge.text.language import tongue


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


def form_token(slug: str, *, answering: str | None = None) -> str:
    """Where the form's module fetches what lets it send at once."""
    return f"/essays/{quote(slug)}/form-token" + _asked({"answering": answering})


def preview() -> str:
    """Where the form's module asks how a letter would be shown."""
    return _said("/preview")


def embed_preview(slug: str) -> str:
    """The same for the form in a frame."""
    return _framed(f"/essays/{quote(slug)}/embed/preview")


def embed(slug: str, page: int = 1, anchor: str = "") -> str:
    """An essay's correspondence alone, for a frame."""
    return _framed(f"/essays/{quote(slug)}/embed", anchor, page=str(page) if page > 1 else None)


def embed_send(slug: str) -> str:
    """Where the form in a frame posts to."""
    return _framed(f"/essays/{quote(slug)}/embed/comments")


def embed_write(slug: str, *, answering: str | None = None, about: int | None = None) -> str:
    """The form for a letter on a page of its own, in a frame."""
    return _framed(
        f"/essays/{quote(slug)}/embed/write", answering=answering, about=None if about is None else str(about)
    )


def embed_form_token(slug: str, *, answering: str | None = None) -> str:
    """Where the module of the form in a frame fetches what lets it send at once."""
    return f"/essays/{quote(slug)}/embed/form-token" + _asked({"answering": answering})


def embed_sent(slug: str, token: str) -> str:
    """What a frame shows once a letter was sent from it; *token* is that of the author's page."""
    return _framed(f"/essays/{quote(slug)}/embed/sent/{quote(token)}")


def mine(slug: str) -> str:
    """Where a reader's own letters are that are not posted."""
    return _said(f"/essays/{quote(slug)}/mine")


def embed_mine(slug: str) -> str:
    """Where the module in a frame asks for them, by their keys."""
    return _framed(f"/essays/{quote(slug)}/embed/mine")


def comment(public_id: str) -> str:
    """A letter's own page."""
    return _said(f"/comments/{public_id}")


def reply(public_id: str) -> str:
    """An answer's own page, with how it came about."""
    return _said(f"/replies/{public_id}")


def letter(token: str) -> str:
    """The author's page. Its address is the key to the letter."""
    return _said(f"/letters/{quote(token)}")


def letter_change(token: str) -> str:
    """Where an author changes a letter that nobody has decided on."""
    return _said(f"/letters/{quote(token)}/change")


def letter_withdrawal(token: str) -> str:
    """Where an author takes a letter back."""
    return _said(f"/letters/{quote(token)}/withdrawal")


def letter_feed(token: str) -> str:
    """The Atom feed of what becomes of a letter; as secret as the author's page."""
    return _said(f"/letters/{quote(token)}/feed.atom")


def letter_appeal(token: str) -> str:
    """Where an author asks for another person to read a letter."""
    return _said(f"/letters/{quote(token)}/appeal")


def letter_erasure(token: str) -> str:
    """Where an author has a letter erased."""
    return _said(f"/letters/{quote(token)}/erasure")


def confirm_mail(token: str) -> str:
    """Where the owner of an e-mail address says that it is theirs."""
    return _said(f"/mail/confirm/{quote(token)}")


def stop_mail(token: str) -> str:
    """Where they end what is sent to it."""
    return _said(f"/mail/stop/{quote(token)}")


def your_letters(token: str | None = None) -> str:
    """Where readers ask for what is kept about them; with the token of the link that is mailed, what that is."""
    return _said("/your-letters" if token is None else f"/your-letters/{quote(token)}")


def your_letters_asked() -> str:
    """Where they are told that a mail is on its way, if it is."""
    return _said("/your-letters/asked")


def your_letters_file(token: str) -> str:
    """Where they fetch all of it as one file."""
    return _said(f"/your-letters/{quote(token)}/file")


def your_letters_erasure(token: str) -> str:
    """Where they have all of it erased."""
    return _said(f"/your-letters/{quote(token)}/erasure")


def your_letters_erased() -> str:
    """Where they are told that it is."""
    return _said("/your-letters/erased")


def report(of: str) -> str:
    """The form for a report; *of* is a public id or an essay's slug."""
    return _said("/reports", of=of)


def send_report() -> str:
    """Where the form for a report posts to."""
    return _said("/reports")


def reported(token: str) -> str:
    """Where a reporter sees what became of a report. Its address is the key to it."""
    return _said(f"/reports/{quote(token)}")


def feed(slug: str | None = None) -> str:
    """The Atom feed of the site, or of one essay's correspondence."""
    return "/feed.atom" if slug is None else f"/essays/{quote(slug)}/feed.atom"


def webmention() -> str:
    """Where other sites tell of a page that links to an essay."""
    return "/webmention"


def desk() -> str:
    """The moderators' pages."""
    return "/desk/"


def _framed(path: str, anchor: str = "", **query: str | None) -> str:
    """Return an address within a frame. It always names the language: that is the page's around it, no browser's."""
    return _said(path, anchor, **query, lang=tongue().code)


def _said(path: str, anchor: str = "", **query: str | None) -> str:
    spoken = tongue()
    if not spoken.first:
        query["lang"] = spoken.code
    return path + _asked(query) + (f"#{anchor}" if anchor else "")


def _asked(query: Mapping[str, str | None]) -> str:
    asked = {name: value for name, value in query.items() if value is not None}
    return f"?{urlencode(asked)}" if asked else ""
