"""The pages around the essays: how this works, who writes here, what is kept; the feeds, and what robots read."""

from __future__ import annotations

from flask import Blueprint, Response, render_template, request
from flask.typing import ResponseReturnValue

from bridge.answer import waits
from bridge.letter import feeds, retention
from bridge.letter.feeds import Feed
from bridge.mail import recipients
from bridge.page import portraits, sitemap, statements
from bridge.web.access import Access, open_to, site
from moderation import reasons

around = Blueprint("around", __name__)


@around.get("/about")
@open_to(Access.PUBLIC)
def about() -> ResponseReturnValue:
    """Tell how a letter becomes an answer, and who decides what."""
    contact = _contact_link()
    return render_template("about.html", settings=site().settings, reasons=reasons, contact_link=contact)


@around.get("/voices/<voice>")
@open_to(Access.PUBLIC)
def voice(voice: str) -> ResponseReturnValue:
    """Tell who a voice is, whether it is asked now, and what it wrote."""
    with site().database.reading_sessions() as session:
        found = portraits.of(session, voice)
    return render_template("voice.html", found=found, usual=waits.usual(site(), found.voice.id))


@around.get("/privacy")
@open_to(Access.PUBLIC)
def privacy() -> ResponseReturnValue:
    """Tell what is kept, how long, why, and whom it is told; then what the operator says of it themselves."""
    settings = site().settings
    with site().database.reading_sessions() as session:
        told = recipients.of(session, settings)
    return render_template(
        "privacy.html",
        settings=settings,
        contact_link=_contact_link(),
        told=told,
        days_rejected=retention.days_rejected(site()),
        operators=statements.shown(settings.privacy_text),
        imprint=statements.shown(settings.imprint_text),
    )


@around.get("/feed.atom")
@open_to(Access.PUBLIC)
def site_feed() -> ResponseReturnValue:
    """Give the newest essays as Atom."""
    return _feed(feeds.of_site(site()))


@around.get("/essays/<slug>/feed.atom")
@open_to(Access.PUBLIC)
def essay_feed(slug: str) -> ResponseReturnValue:
    """Give the newest letters and answers under an essay as Atom."""
    return _feed(feeds.of_essay(site(), slug))


@around.get("/letters/<token>/feed.atom")
@open_to(Access.AUTHOR)
def letter_feed(token: str) -> ResponseReturnValue:
    """Give an author what becomes of their letter as Atom. The address is the key to it."""
    return _feed(feeds.of_letter(site(), token))


@around.get("/sitemap.xml")
@open_to(Access.PUBLIC)
def site_map() -> ResponseReturnValue:
    """Give search engines the addresses of what is released."""
    with site().database.reading_sessions() as session:
        whole = sitemap.sitemap(session, site().settings)
    return _tagged(Response(whole, mimetype="application/xml"))


@around.get("/robots.txt")
@open_to(Access.PUBLIC)
def robots() -> ResponseReturnValue:
    """Say what robots are asked to leave alone."""
    return Response(sitemap.robots(site().settings), mimetype="text/plain")


def _contact_link() -> str | None:
    contact = site().settings.contact
    return f"mailto:{contact}" if contact is not None and "@" in contact else contact


def _feed(feed: Feed) -> Response:
    response = Response(feed.body, mimetype="application/atom+xml")
    # By its tag alone: what it says changes with more than decisions, such as a disclaimer, and no date tells of all.
    response.set_etag(feed.etag, weak=True)
    return response.make_conditional(request)  # type: ignore[return-value]


def _tagged(response: Response) -> Response:
    response.add_etag(weak=True)
    return response.make_conditional(request)  # type: ignore[return-value]
