"""Stored pages, answered ahead of the application: one plain statement, and no session, sign-in, Redis or rendering.

What is not stored goes on to the application, which has a view for each of these addresses.
"""

from __future__ import annotations

import gzip
import logging
import re
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qs

from bridge.db import Unreadable
from bridge.page import shelf
from bridge.page.shelf import LISTED, Stored
from bridge.site import Site
from bridge.text import language
from bridge.web import headers

log = logging.getLogger(__name__)

StartResponse = Callable[..., Any]
Application = Callable[[dict[str, Any], StartResponse], Iterable[bytes]]

_SLUG = "[a-z0-9-]{1,120}"
_ADDRESS = re.compile(rf"/essays/(?P<slug>{_SLUG})(?P<frame>/embed)?|/api/v1/essays/(?P<listed>{_SLUG})/thread")
NUMBER = re.compile(r"[1-9][0-9]{0,6}")
_TAGS = re.compile(r'W/"[0-9a-f]{32}"')
_NO_PACKING = re.compile(r"gzip\s*;\s*q=0(\.0*)?(\s*,|\s*$)")


class StoredPages:
    """Answers what is on the shelf, and passes everything else on."""

    def __init__(self, application: Application, site: Site) -> None:
        self._application = application
        self._site = site

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request, or pass it on."""
        wanted = self._wanted(environ) if environ["REQUEST_METHOD"] in {"GET", "HEAD"} else None
        if wanted is None:
            return self._application(environ, start_response)
        surface, code, key = wanted
        has = _TAGS.findall(environ.get("HTTP_IF_NONE_MATCH", ""))
        try:
            stored = shelf.read(self._site, key, has=has[0] if has else "")
        except Unreadable as unreadable:
            log.warning("no stored page can be read: %s", type(unreadable.__cause__).__name__)
            stored = None  # The application prints it from the records, or says what is wrong in its own words.
        if stored is None:
            return self._application(environ, start_response)
        return self._answer(environ, start_response, stored, surface, code)

    def _wanted(self, environ: dict[str, Any]) -> tuple[str, str, str] | None:
        """Return the surface, the language and the key of what is asked for, if it is kept here."""
        found = _ADDRESS.fullmatch(environ.get("PATH_INFO", ""))
        if found is None:
            return None
        given = environ.get("QUERY_STRING", "")
        asked = parse_qs(given, keep_blank_values=True) if given else {}
        slug = found["listed"]
        if slug is not None:
            after = asked.get("cursor", ["0"])[-1]
            if asked.get("limit", [str(LISTED)])[-1] != str(LISTED) or not (after == "0" or NUMBER.fullmatch(after)):
                return None
            return "thread", "", shelf.list_key(slug, int(after))
        page = asked.get("page", ["1"])[-1]
        if NUMBER.fullmatch(page) is None:
            return None
        spoken = self._site.settings.spoken
        accepted = environ.get("HTTP_ACCEPT_LANGUAGE", "")
        code = language.chosen(asked["lang"][-1] if "lang" in asked else None, accepted, spoken)
        surface = "embed" if found["frame"] else "page"
        return surface, code, shelf.key(surface, found["slug"], int(page), code)

    def _answer(
        self, environ: dict[str, Any], start_response: StartResponse, stored: Stored, surface: str, code: str
    ) -> Iterable[bytes]:
        told = [("ETag", stored.etag), ("Cache-Control", "no-cache")]
        if surface == "thread":
            told += [("Vary", "Accept-Encoding"), *headers.of_data(self._site.settings)]
        else:
            told += [
                ("Vary", "Accept-Encoding, Accept-Language"),
                *headers.of_page(
                    self._site.settings,
                    framed=surface == "embed",
                    parents=stored.parents,
                    original_url=stored.original_url,
                ),
            ]
        if stored.body is None:
            start_response("304 Not Modified", told)
            return []
        body = stored.body
        accepted = environ.get("HTTP_ACCEPT_ENCODING", "")
        if "gzip" in accepted and _NO_PACKING.search(accepted) is None:
            told.append(("Content-Encoding", "gzip"))
        else:
            body = gzip.decompress(body)
        if surface == "thread":
            told.append(("Content-Type", "application/json"))
        else:
            told += [("Content-Type", "text/html; charset=utf-8"), ("Content-Language", code)]
        told.append(("Content-Length", str(len(body))))
        start_response("200 OK", told)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]
