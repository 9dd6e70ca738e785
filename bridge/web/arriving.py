"""How a letter reaches the site over HTTP: what the request says of itself, whichever door it came by."""

from __future__ import annotations

from datetime import datetime

from flask import request

from bridge import admission, comments, limits
from bridge.admission import Arrival, Came
from bridge.comments import Letter, Receipt
from bridge.web.access import site

BAIT = "website"
"""The name of the field that people do not see and some programs fill in."""


def receive(
    slug: str,
    letter: Letter,
    *,
    came: Came,
    key: str | None,
    begun_at: datetime | None = None,
    author_secret: str | None,
    same_words_once: bool,
) -> Receipt:
    """Let a letter in, and return its receipt. Raises what `admission.admit` and `comments.receive_comment` do."""
    form = request.form if came is not Came.API else {}
    arrival = Arrival(
        came=came,
        network=limits.network(request.remote_addr),
        begun_at=begun_at,
        bait=form.get(BAIT, ""),
        proof=form.get("altcha") or None,
        to_a_person="to_a_person" in form,
    )
    noticed = admission.admit(site(), slug, letter, arrival)
    return comments.receive_comment(
        site(),
        slug,
        letter,
        key=key,
        author_secret=author_secret,
        same_words_once=same_words_once,
        noticed=noticed,
    )
