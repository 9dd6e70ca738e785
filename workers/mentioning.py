"""Webmentions on their way: pages that say they link here are looked at, and pages that an essay links to are told.

Every address here is a stranger's, so it is called by `workers.outside`, and what comes back is read by
`workers.apart`.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from urllib.parse import urlencode, urlsplit

from bridge.letter import mentions
from bridge.letter.mentions import Taken, Way
from bridge.signal import blocks
from bridge.signal.blocks import Blocks
from bridge.site import Site
from workers import apart, outside

MOST_BYTES = 1024 * 1024
"""Of a page that is read for its links."""
SECONDS = 8.0
"""For reading one."""
_PAGES = {"text/html": False, "application/xhtml+xml": False, "text/plain": True}
"""What is read, and whether it is plain text."""
_BLOCKED = "Webmentions from this site are not taken."
_FORM = {"Content-Type": "application/x-www-form-urlencoded"}
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})


def see_to(site: Site, mention_id: int) -> str:
    """See to a mention that waits, once; return a word for the log."""
    with site.database.sessions.begin() as session:
        taken = mentions.take(session, mention_id)
        blocked = blocks.blocks(session)
    if taken is None:
        return "nothing to do"
    if taken.way is Way.OUT:
        return _tell(site, taken)
    if _is_at(taken.source, blocked):
        return mentions.refuse(site, taken, _BLOCKED)
    return _look(site, taken, blocked)


def _look(site: Site, taken: Taken, blocked: Blocks) -> str:
    """Look whether a page elsewhere links to the essay that it says it links to."""
    answer = _get(taken.source)
    if isinstance(answer, outside.OutsideRefused):
        return mentions.refuse(site, taken, str(answer), passing=answer.passing)
    if _is_at(answer.url, blocked):
        return mentions.refuse(site, taken, _BLOCKED)
    if answer.status in {404, 410}:
        return mentions.gone(site, taken, "The page is gone.")
    if answer.status != 200:
        return mentions.refuse(site, taken, f"It answered {answer.status}.", passing=answer.status in _PASSING)
    if answer.type not in _PAGES:
        return mentions.refuse(site, taken, "It is neither HTML nor plain text.")
    try:
        plain = _PAGES[answer.type]
        page = apart.read("page", answer.body, seconds=SECONDS, address=answer.url, target=taken.target, plain=plain)
    except apart.CouldNotBeRead as refused:
        return mentions.refuse(site, taken, str(refused))
    if not page["links"]:
        return mentions.gone(site, taken, "The page does not link to the essay.")
    return mentions.found(site, taken, author=page["author"], words=page["words"])


def _tell(site: Site, taken: Taken) -> str:
    """Tell a page that an essay links to it, if it says where it wants to be told."""
    answer = _get(taken.target)
    if isinstance(answer, outside.OutsideRefused):
        return mentions.refuse(site, taken, str(answer), passing=answer.passing)
    if answer.status != 200:
        return mentions.refuse(site, taken, f"It answered {answer.status}.", passing=answer.status in _PASSING)
    try:
        where = _endpoint(answer)
    except apart.CouldNotBeRead as refused:
        return mentions.refuse(site, taken, str(refused))
    if where is None:
        return mentions.told(site, taken, "It takes no webmentions.")
    body = urlencode({"source": taken.source, "target": taken.target}).encode()
    try:
        said = asyncio.run(outside.post(where, body=body, headers=_FORM, within=outside.PUBLIC))
    except outside.OutsideRefused as refused:
        return mentions.refuse(site, taken, f"Where it takes webmentions: {refused}", passing=refused.passing)
    if 200 <= said.status < 300:
        return mentions.told(site, taken)
    why = f"Where it takes webmentions, it answered {said.status}."
    return mentions.refuse(site, taken, why, passing=said.status in _PASSING)


def _endpoint(answer: outside.Answer) -> str | None:
    for relation, address in answer.links:
        if "webmention" in relation.lower().split():
            return address
    if _PAGES.get(answer.type) is not False:
        return None
    found: str | None = apart.read("endpoint", answer.body, seconds=SECONDS, address=answer.url)
    return found


def _is_at(address: str, blocked: Blocks) -> bool:
    """Whether an address is at a blocked domain."""
    return blocked.of_host(urlsplit(address).hostname or "") is not None


def _get(address: str) -> outside.Answer | outside.OutsideRefused:
    within = replace(outside.PUBLIC, most_bytes=MOST_BYTES)
    try:
        return asyncio.run(outside.get(address, headers={"Accept": "text/html, text/plain;q=0.5"}, within=within))
    except outside.OutsideRefused as refused:
        return refused
