"""What other people's pages load of this site: the tag's script, the script for counts, and the numbers it asks for."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from typing import Any

from flask import Blueprint, Response, redirect, request
from flask.typing import ResponseReturnValue
from flask_openapi3 import APIBlueprint
from pydantic import BaseModel, Field, field_validator

from bridge.essay import embedding, essays
from bridge.essay.thread import Counts
from bridge.page import paths
from bridge.page.assets import FOLDER
from bridge.text import language
from bridge.text.language import gettext, ngettext, number
from bridge.web import shapes
from bridge.web.access import Access, framable, open_to, site

embed = Blueprint("embed", __name__)
counting = APIBlueprint("counting", __name__, url_prefix="/api/v1")

AT_MOST = 100
"""The essays that one request may ask the counts of."""
_SAYS = '{ en: ["Letters and answers", "Read the letters and answers on a page of their own"] }'
"""What `embed.js` has in the place of the catalogues' words."""


@embed.get("/embed.js")
@open_to(Access.PUBLIC)
def script() -> ResponseReturnValue:
    """Give the script of the one tag, with its two sentences in every language of the site."""
    return _script(_worded(site().settings.spoken))


@embed.get("/counts.js")
@open_to(Access.PUBLIC)
def counts_script() -> ResponseReturnValue:
    """Give the script that fills in counts on pages that list essays."""
    return _script((FOLDER / "counts.js").read_text())


@embed.get("/essays/<slug>/embed/at/<public_id>")
@open_to(Access.PUBLIC)
@framable
def at(slug: str, public_id: str) -> ResponseReturnValue:
    """Lead a frame to the page on which a letter or an answer stands; the browser keeps the address's anchor."""
    with site().database.reading_sessions() as session:
        essays.published(session, slug)
        page = embedding.page_of(session, slug, public_id)
    return redirect(paths.embed(slug, page or 1))


class CountsQuery(BaseModel):
    """Which essays are to be counted, and in which language it is said."""

    essays: str = Field(max_length=AT_MOST * 121, description="Slugs with commas between them, at most 100.")
    lang: str | None = Field(None, max_length=16, description="The language of `text`; else the site's own.")

    @field_validator("essays")
    @classmethod
    def _not_too_many(cls, given: str) -> str:
        if given.count(",") >= AT_MOST:
            raise ValueError(f"names more than {AT_MOST} essays")
        return given


class CountsOfEssay(BaseModel):
    """How much correspondence an essay has; `text` says it to readers."""

    letters: int
    answered: int
    text: str


class CountsOut(BaseModel):
    """The released essays among those asked for, by slug; others are absent."""

    counts: dict[str, CountsOfEssay]


@counting.get("/counts", responses={"200": CountsOut, "422": shapes.ProblemOut, "503": shapes.ProblemOut})
@open_to(Access.PUBLIC)
def get_counts(query: CountsQuery) -> Response:
    """Give the numbers of letters and answers under some essays, for any site's pages."""
    settings = site().settings
    slugs = {each.strip() for each in query.essays.split(",")} - {""}
    with site().database.reading_sessions() as session:
        found = embedding.counts(session, slugs)
    with language.speaking(query.lang, settings.spoken):
        told = {slug: CountsOfEssay(letters=c.letters, answered=c.answered, text=_said(c)) for slug, c in found.items()}
    response = Response(CountsOut(counts=told).model_dump_json(), mimetype="application/json")
    response.headers["Access-Control-Allow-Origin"] = "*"
    response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
    response.headers["Cache-Control"] = "public, max-age=60"
    return response


def _said(counts: Counts) -> str:
    if not counts.letters:
        return gettext("no letters yet")
    return ngettext("one letter", "%(letters)s letters", counts.letters) % {"letters": number(counts.letters)}


@cache
def _worded(spoken: tuple[str, ...]) -> str:
    says: dict[str, Any] = {}
    for code in spoken:
        with language.speaking(code, spoken):
            says[code] = [
                gettext("Letters and answers"),
                gettext("Read the letters and answers on a page of their own"),
            ]
    says.setdefault(language.ENGLISH, says[spoken[0]])  # What is said where the page's language is not among them.
    return (FOLDER / "embed.js").read_text().replace(_SAYS, json.dumps(says))


def _script(text: str) -> ResponseReturnValue:
    response = Response(text, mimetype="text/javascript")
    # The one kind of file that other sites load (SECURITY, B2).
    response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
    # Its address stays when it changes, so browsers ask again after an hour.
    response.headers["Cache-Control"] = "public, max-age=3600"
    response.set_etag(hashlib.sha256(text.encode()).hexdigest()[:32])
    return response.make_conditional(request)
