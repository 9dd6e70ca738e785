"""How a letter reaches the site over HTTP: what the request says of itself, whichever door it came by."""

from __future__ import annotations

from datetime import datetime

from flask import request

from bridge import limits
from bridge.keys import new_secret
from bridge.letter import admission, comments
from bridge.letter.admission import Arrival, Came
from bridge.letter.comments import Letter, Receipt
from bridge.limits import Bound
from bridge.web.access import site

BAIT = "website"
"""The name of the field that people do not see and some programs fill in."""


def network() -> str:
    """Return the network that the request came from, as `admission` counts it."""
    return limits.network(request.remote_addr)


def take(bound: Bound) -> None:
    """Count what the request asks for, if that is no letter. Raises `admission.NothingMoreNow`."""
    admission.take(site(), bound, network())


def receive(
    slug: str,
    letter: Letter,
    *,
    came: Came,
    key: str | None,
    begun_at: datetime | None = None,
    author_secret: str | None,
    proof: str | None = None,
    to_a_person: bool = False,
) -> Receipt:
    """Let a letter in, and return its receipt. Raises what `admission.admit` and `comments.receive_comment` do.

    *proof* and *to_a_person* are a program's; a form has fields for them.
    """
    take(admission.ATTEMPTS)
    form = request.form if came is not Came.API else {}
    arrival = Arrival(
        came=came,
        network=network(),
        begun_at=begun_at,
        bait=form.get(BAIT, ""),
        proof=form.get("altcha") or proof,
        to_a_person="to_a_person" in form or to_a_person,
        once=admission.once(slug, key, author_secret),
    )
    noticed = admission.admit(site(), slug, letter, arrival)
    if key is None and author_secret is not None:
        key = new_secret()  # What was said is kept under it; without one the same words would be another letter.
    return comments.receive_comment(
        site(),
        slug,
        letter,
        key=key,
        author_secret=author_secret,
        as_it_stands=came is not Came.API,
        same_words_once=site().settings.rate_limits == "on",
        noticed=noticed,
    )
