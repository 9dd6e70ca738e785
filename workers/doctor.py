"""`emeritus doctor`: whether each thing that the site leans on is there, and what to do if not."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from redis.exceptions import RedisError
from sqlalchemy import make_url
from sqlalchemy.exc import OperationalError

from bridge import migrate, queues
from bridge.db import WrongRole
from bridge.letter import erased_before
from bridge.page import statements
from bridge.records import Voice
from bridge.site import Site
from bridge.voice import voices
from bridge.voice.model import Outcome, PassingTrouble, Trouble, VoiceBlocked
from moderation.base import now
from workers import endpoints, outside, posting
from workers.claude import Claude
from workers.settings import WorkerSettings

State = Literal["well", "note", "broken"]
LISTED_WITHIN = timedelta(minutes=5)
"""How long an erasure may be missing from the list outside the database: the sweep comes every minute."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. A note works and should be known; broken does not work."""

    what: str
    state: State
    told: str


def examine(site: Site, asked: WorkerSettings) -> list[Finding]:
    """Look at everything, and go on after what is broken."""
    database = _database(site)
    found = [
        database,
        *_logins(asked),
        _redis(asked),
        *_address(asked),
        *_limits(asked),
        *_mail(asked),
        *_webhook(asked),
        *_statements(asked),
    ]
    if database.state == "broken":
        return [*found, _key(asked)]
    return [*found, *_erasures(site), *_voices(site, asked)]


def _database(site: Site) -> Finding:
    backend = site.database.reading.dialect.name
    try:
        migrate.check(site.database.reading)
    except OperationalError:
        return Finding("database", "broken", "It cannot be reached.")
    except (migrate.SchemaRefused, WrongRole) as refused:
        return Finding("database", "broken", str(refused))
    return Finding("database", "well", f"{backend}, migration {migrate.head()}, every write-once trigger in place.")


def _logins(asked: WorkerSettings) -> Iterator[Finding]:
    app, owner = make_url(asked.database), make_url(asked.database_owner)
    if app.get_backend_name() == "postgresql" and app.username == owner.username:
        told = (
            "The site connects with the login that owns the tables and only takes another role. Only two logins are a "
            "wall: give the owner's as DATABASE_OWNER_URL, a lesser one as DATABASE_URL, and run `emeritus migrate`."
        )
        yield Finding("database logins", "note", told)


def _redis(asked: WorkerSettings) -> Finding:
    try:
        queues.connection(asked.redis).ping()
    except RedisError:
        told = (
            "It does not answer: nothing is lost, and nothing is answered until it does. `emeritus serve` brings one."
        )
        return Finding("Redis", "broken", told)
    return Finding("Redis", "well", "It answers.")


def _address(asked: WorkerSettings) -> Iterator[Finding]:
    host = make_url(asked.address.replace("https://", "x://").replace("http://", "x://")).host
    if asked.address.startswith("http://") and host not in {"localhost", "127.0.0.1"}:
        told = f"{asked.address} is not https: cookies lack their `__Host-` prefix, and words can be read on the way."
        yield Finding("address", "note", told)


def _limits(asked: WorkerSettings) -> Iterator[Finding]:
    if asked.rate_limits == "off":
        told = "RATE_LIMITS=off: anybody may send as much as they like, without proof of work. It is for load tests."
        yield Finding("limits", "note", told)


def _mail(asked: WorkerSettings) -> Iterator[Finding]:
    if asked.smtp_url is None:
        told = f"No SMTP_URL: each mail becomes a file in {asked.data / 'mail'}, and nobody is sent one."
        yield Finding("mail", "note", told)
        return
    try:
        with posting.connected(asked.smtp_url):
            yield Finding("mail", "well", f"The server answers. Mail is from {asked.sender}.")
    except posting.NotTaken as refusal:
        yield Finding("mail", "broken", f"{refusal} Mail waits, and is tried again for some hours.")


def _statements(asked: WorkerSettings) -> Iterator[Finding]:
    given = (("privacy", "PRIVACY_TEXT", asked.privacy_text), ("imprint", "IMPRINT_TEXT", asked.imprint_text))
    for what, name, file in given:
        if file is None:
            told = f"No {name}: {asked.address}/privacy says that you have not added yours. The law may ask for it."
            yield Finding(what, "note", told)
            continue
        try:
            statements.read(file)
        except statements.NoStatement as refused:
            yield Finding(what, "broken", f"{name}: {refused} Readers are told that you have not added yours.")
        else:
            yield Finding(what, "well", f"{name} is shown on {asked.address}/privacy.")
    if asked.contact is None:
        yield Finding("contact", "note", "No CONTACT: a reader who is refused finds no way to a person but the desk.")


def _erasures(site: Site) -> Iterator[Finding]:
    """Say whether what was erased is listed outside the database, and whether a backup brought any of it back."""
    what, file = "erasures", erased_before.where(site)
    try:
        found = erased_before.compare(site)
    except OSError as error:
        told = f"{file} cannot be read: {error.strerror}. Nothing is listed there, and a backup would bring back all."
        yield Finding(what, "broken", told)
        return
    left, again = found.left, "Run `emeritus erase --again`, or let the sweep do it."
    overdue = sum(at < now() - LISTED_WITHIN for at in found.unlisted)
    if left.letters or left.addresses:
        told = f"Erased before, and here again: {len(left.letters)} letters, {len(left.addresses)} addresses. {again}"
        yield Finding(what, "broken", told)
    elif file.exists() and not os.access(file, os.W_OK):
        yield Finding(what, "broken", f"{file} cannot be written: what is erased from now on is not listed there.")
    elif overdue and site.database.reading.dialect.name == "postgresql":
        told = f"{overdue} are not in {file}. Well, if the sweep runs on another machine: the whole list is there."
        yield Finding(what, "note", told)
    elif overdue:
        told = f"{overdue} are not in {file} yet: no sweep was done, or its log says why it could not write there."
        yield Finding(what, "broken", told)
    elif found.unreadable:
        told = (
            f"{found.unreadable} lines of {file} cannot be read, or came under another SECRET_KEY: they change nothing."
        )
        yield Finding(what, "note", told)
    elif found.listed:
        yield Finding(what, "well", f"{found.listed} are listed in {file}, and none of them stands here again.")


def _webhook(asked: WorkerSettings) -> Iterator[Finding]:
    if asked.desk_webhook_url is None:
        return
    try:
        outside.checked(asked.desk_webhook_url, outside.bounds(allow_private=asked.desk_webhook_private == "on"))
    except outside.OutsideRefused as refusal:
        yield Finding("webhook", "broken", f"DESK_WEBHOOK_URL is not called. {refusal} See DESK_WEBHOOK_PRIVATE.")
        return
    if asked.desk_webhook_secret is None:
        yield Finding("webhook", "note", "No DESK_WEBHOOK_SECRET: what it is told is not signed.")
    else:
        yield Finding("webhook", "well", "It is set, and what it is told is signed.")


def _key(asked: WorkerSettings) -> Finding:
    if asked.rehearses:
        return Finding("key", "note", "No key: the rehearsal answers, and its replies are marked.")
    return Finding("key", "well", "A key is set.")


def _voices(site: Site, asked: WorkerSettings) -> Iterator[Finding]:
    """Say of each voice whether its model answers, where it is and with the key that is its own."""
    with site.database.reading_sessions() as session:
        everyone = voices.everyone(session)
        session.expunge_all()
    if not everyone:
        yield _key(asked)
    for voice in everyone:
        what = f"voice {voice.name}"
        if endpoints.rehearses(voice, asked):
            yield Finding(what, "note", "No key: rehearsal, replies are marked.")
        else:
            yield asyncio.run(_asked(what, voice, asked))


async def _asked(what: str, voice: Voice, asked: WorkerSettings) -> Finding:
    async with endpoints.reach(voice, asked, None) as claude:
        try:
            answer = await claude.try_out(voice.model, api_version=voice.anthropic_version)
        except Trouble as trouble:
            return Finding(what, "broken", _why_not(trouble, voice, claude))
    if answer.outcome is Outcome.UNEXPECTED:
        return Finding(what, "broken", f"{voice.model} answers, but not as it should. {answer.why}")
    used = answer.usage
    spent = used.fresh + used.output if used else 0
    cost = voices.cost(voice, used) if used else None
    dollars = "" if cost is None else ", $" + f"{cost / 1e6:.6f}".rstrip("0").rstrip(".")
    if answer.rehearsed:
        return Finding(what, "note", f"The rehearsal answers for {voice.model} ({spent} tokens), replies are marked.")
    return Finding(what, "well", f"{voice.model} answers ({spent} tokens{dollars}).")


def _why_not(trouble: Trouble, voice: Voice, claude: Claude) -> str:
    if trouble.status == 401:
        return "Key not accepted."
    if trouble.status == 404 and claude.gives_by_request:
        since = f"retired on {voice.retired_on}" if voice.retired_on else "it is unknown there, or retired"
        return (
            f"Key accepted, but this organisation cannot use {voice.model}: {since}; Anthropic gives access by request "
            "(External Researcher Access Program); comments wait."
        )
    if type(trouble) is PassingTrouble and trouble.status is None:
        return f"{claude.host} cannot be reached. {trouble.why}"
    if isinstance(trouble, VoiceBlocked):
        return trouble.why
    return f"{trouble.why} {trouble.error}".strip()
