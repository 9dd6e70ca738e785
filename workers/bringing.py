"""Bringing in essays that were published elsewhere: a feed is fetched and read, and its essays wait at the gate."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bridge.essay import essays, imported, importing
from bridge.essay.imported import Outcome, Reported
from bridge.essay.importing import Entry, EntryRefused, FeedRefused
from bridge.site import Site
from bridge.text import words
from bridge.voice import voices
from workers import apart, outside

MOST_BYTES = 10 * 1024 * 1024
"""Of a file; what is fetched has less (`outside.MOST_BYTES`)."""
FEED_SECONDS = 120.0

Progress = Callable[[Sequence[Entry]], Iterable[Entry]]


@dataclass(frozen=True, slots=True)
class Brought:
    """What became of a feed."""

    reported: list[Reported]
    left: int
    """New entries behind the first `imported.MOST_AT_ONCE`, which the next time is for."""


def fetch(feed: str) -> tuple[bytes, str | None]:
    """Return what stands in a file or at an http or https address, with the address. Raises `FeedRefused`."""
    if not feed.lower().startswith(("http://", "https://")):
        return _of_file(Path(feed)), None
    try:
        answer = asyncio.run(outside.get(feed, within=outside.PUBLIC))
    except outside.OutsideRefused as refused:
        raise FeedRefused(f"The feed was not fetched. {refused} Nothing was added.") from None
    if answer.status != 200:
        raise FeedRefused(f"The feed was not fetched: its server answered {answer.status}. Nothing was added.")
    return answer.body, answer.url


def bring_in(
    site: Site,
    feed: str,
    *,
    voice: str,
    parents: Sequence[str] = (),
    dry_run: bool = False,
    progress: Progress = iter,
) -> Brought:
    """Add a feed's essays to what waits at the gate, as words of the voice of this name, and say what became of each.

    One that is here already is left, so twice does no harm; one that is refused keeps no other from being added. With
    *dry_run* nothing is changed. Raises `FeedRefused` or `voices.VoiceRefused`.
    """
    with site.database.reading_sessions() as session:
        voices.named(session, voice)
    raw, address = fetch(feed)
    try:
        found = [Entry(**each) for each in apart.read("feed", raw, seconds=FEED_SECONDS, address=address)]
    except apart.TooHard as refused:
        raise FeedRefused(f"The feed was not read. {refused} Nothing was added.") from None
    except apart.CouldNotBeRead as refused:
        raise FeedRefused(str(refused)) from None
    with site.database.reading_sessions() as session:
        here = imported.addresses(session)
    reported: list[Reported] = []
    new: list[Entry] = []
    for entry in found:
        try:
            link = importing.link_of(entry)
        except EntryRefused as refused:
            reported.append(_refused(entry, refused))
            continue
        if link in here:
            reported.append(Reported(link, entry.title, entry.author, Outcome.THERE_ALREADY))
        else:
            here.add(link)  # The same address twice in one feed is one essay.
            new.append(entry)
    for entry in progress(new[: imported.MOST_AT_ONCE]):
        reported.append(_bring(site, entry, voice, parents, dry_run))
    return Brought(reported, left=max(0, len(new) - imported.MOST_AT_ONCE))


def _bring(site: Site, entry: Entry, voice: str, parents: Sequence[str], dry_run: bool) -> Reported:
    try:
        # A process for each, so that what one of them costs is not the others' loss.
        body, left_out = apart.read("entry", **asdict(entry))
        return imported.add(site, entry, body, voice=voice, parents=parents, left_out=left_out, dry_run=dry_run)
    except (apart.CouldNotBeRead, EntryRefused, essays.EssayRefused, words.WordsRefused) as refused:
        return _refused(entry, refused)


def _refused(entry: Entry, why: Exception) -> Reported:
    return Reported(entry.link, entry.title, entry.author, Outcome.REFUSED, why=str(why))


def _of_file(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            raw = opened.read(MOST_BYTES + 1)
    except (OSError, ValueError):
        raise FeedRefused("There is no file of this name that can be read. Nothing was added.") from None
    if len(raw) > MOST_BYTES:
        raise FeedRefused(f"The file is larger than {MOST_BYTES:,} bytes. Nothing was added.")
    return raw
