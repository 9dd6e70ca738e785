"""Admission: how a letter came, what that says about it, and which comes too often to be taken now.

Nothing is dropped. What looks like a program's sorts a letter into the likely spam, where a person reads it as well;
who is refused is told what to do, and may ask, at a low rate, that a person looks at the letter all the same.

An address is nowhere but in a keyed hash, as the name of a counter, under a random key that is gone after a week
(SECURITY, O2). `RATE_LIMITS=off` lifts the limits, the least time and proof of work.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from base64 import b64decode
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from weakref import WeakKeyDictionary

import altcha
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from bridge.db import Database
from bridge.essay.essays import NoSuchEssay
from bridge.keys import fingerprint
from bridge.letter import comments
from bridge.letter.comments import CommentRefused, Letter
from bridge.limits import Bound, Limits
from bridge.records import PassingKey
from bridge.signal import blocks
from bridge.signal.signals import Name, Noticed
from bridge.site import Site
from bridge.text import language
from bridge.text.language import N_
from bridge.text.words import WordsRefused
from moderation.base import now

LEAST_TIME = timedelta(seconds=3)
"""From the beginning of a form to its sending: nobody writes a letter faster."""

LETTERS = Bound("letters", 5, 600)
LETTERS_A_DAY = Bound("letters a day", 20, 86_400)
UNPROVEN = Bound("unproven letters", 2, 600)
"""Without proof of work."""
UNDER_AN_ESSAY = Bound("letters under an essay", 60, 3600)
REPEATS = Bound("repeats", 30, 600)
"""Of a letter that was let in: a network that failed, a second click."""
TO_A_PERSON = Bound("to a person", 1, 3600)
TO_A_PERSON_IN_ALL = Bound("to a person in all", 20, 86_400)

ATTEMPTS = Bound("attempts at a letter", 60, 600)
"""Also of letters that cannot be taken as they are: reading one over costs what it is long."""
PREVIEWS = Bound("previews", 120, 60)
"""While words are typed: a form asks for 40 a minute at most."""
READ_OVER = Bound("letters read over", 60, 60)
OWN_LETTERS = Bound("own letters shown", 120, 60)
FORM_TOKENS = Bound("form tokens", 60, 60)
CHANGES = Bound("changes", 20, 3600)
"""Of letters that wait: by one network, and of one letter."""
REPORTS = Bound("reports", 10, 3600)
DATA_REQUESTS = Bound("data requests", 5, 3600)
MENTIONS = Bound("mentions", 60, 3600)

_LET_IN = Bound("let in", 1, 86_400)
_ASKED = Bound("asked for a person", 1, 86_400)
_USED_ONCE = Bound("proofs", 1, 86_400)
_USED_FOR_IT = Bound("proofs of a letter", 1, 86_400)

KEY_USED_FOR = timedelta(days=6)
"""How long a key names new counters: those of its last day end with it."""
KEY_KEPT = timedelta(days=7)
_KEY_KNOWN_FOR = timedelta(minutes=1)

PROOF_LIFE = timedelta(days=1)
"""As long as a form's token: a letter may take that long to write."""
PROOF_ALGORITHM = "PBKDF2/SHA-256"
"""Browsers do it off the page's thread, and one step of it costs about the same on all of them."""
PROOF_COST = 2_000
PROOF_STEPS = (50, 250)
"""Between which lies the number to be found: 300,000 rounds on average, about 0.3 s on a phone."""
PROOF_LENGTH = 4_096
"""The most characters of a proof that are looked at."""


class Came(StrEnum):
    """By which door a letter came."""

    PAGE = "page"
    EMBED = "embed"
    API = "api"


@dataclass(frozen=True, slots=True)
class Arrival:
    """What a request says of itself besides the letter that it carries."""

    came: Came
    network: str = field(repr=False)
    """`limits.network` of the address it came from."""
    begun_at: datetime | None = None
    """When its form was given its token; None where there is none."""
    bait: str = ""
    """What stands in the field that people do not see."""
    proof: str | None = None
    """The proof of work, as the form's module sent it."""
    to_a_person: bool = False
    """Whether its author, once refused, asked that a person looks at it."""
    once: str | None = None
    """What is the same for each sending of one letter, or None where nothing tells."""


class NotAdmitted(CommentRefused):
    """A letter that is not taken as it came. Nothing was kept."""

    may_ask_a_person = True
    """Whether its author may ask that a person looks at it all the same."""

    def __init__(self, sentence: str, *, retry_after: int | None = None, **parts: str) -> None:
        self.sentence = sentence
        self.retry_after = retry_after
        """Seconds after which it would be taken."""
        self._parts = parts
        super().__init__(sentence % self.parts)

    @property
    def parts(self) -> dict[str, str]:
        """What stands in the sentence's places, in what is spoken now."""
        wait = {"wait": language.span(self.retry_after)} if self.retry_after is not None else {}
        return self._parts | wait


class TooOften(NotAdmitted):
    """Raised when something comes more often than it is taken."""


class NothingMoreNow(TooOften):
    """Raised when something other than a letter comes more often than it is taken."""

    may_ask_a_person = False


class NetworkBlocked(NotAdmitted):
    """Raised for a letter from a network on the block list."""


class NobodyToAsk(NotAdmitted):
    """Raised when those who ask for a person are more than people can read."""

    may_ask_a_person = False


_SENTENCES = {
    LETTERS: N_(
        "More letters came from your connection than are taken at once, so this one was not sent. "
        "Please send it again in %(wait)s."
    ),
    LETTERS_A_DAY: N_(
        "As many letters came from your connection as are taken in a day, so this one was not sent. "
        "Please send it again in %(wait)s."
    ),
    UNPROVEN: N_(
        "Your browser did not run this page's script, and then two letters are taken in ten minutes, so this one was "
        "not sent. Please send it again in %(wait)s."
    ),
    UNDER_AN_ESSAY: N_(
        "Very many letters are being written about this essay, so yours was not sent. Please send it again in %(wait)s."
    ),
}
_BLOCKED = N_(
    "Letters from your connection are not taken, because unwanted ones came from it, so yours was not sent. "
    "If you meant well, try another connection."
)
_NOTHING_MORE = N_(
    "This was asked for too often from your connection. Nothing was changed. Please try again in %(wait)s."
)
_NOBODY = N_(
    "People are asked to look at more letters than they can read, so yours was not sent. "
    "Please send it again in %(wait)s."
)
_NOBODY_BUT = N_(
    "People are asked to look at more letters than they can read, so yours was not sent. "
    "Please send it again in %(wait)s, or write to %(contact)s."
)


def admit(site: Site, slug: str, letter: Letter, arrival: Arrival) -> Sequence[Noticed]:
    """Return what there is to notice about how a letter came, having counted it.

    Raises a `NotAdmitted`. A letter that cannot be taken anyway counts for nothing, so that its author may mend it:
    `comments.receive_comment` says what is wrong with it.
    """
    with site.database.reading_sessions() as session:
        try:
            comments.taking_letters(session, slug)
            comments.check(session, letter)
        except (CommentRefused, WordsRefused, NoSuchEssay):
            return []
        blocked = blocks.blocks(session)
    noticed = _notice(site, letter, arrival, blocked)
    try:
        _let_in(site, slug, arrival)
    except NotAdmitted as refused:
        if not arrival.to_a_person:
            raise
        _ask_a_person(site, arrival)
        why = f"Its author asked for a person, after this: {refused.sentence % _in_english(refused)}"
        noticed.append(Noticed(Name.ASKED_FOR_A_PERSON, why, strong=True))
    return noticed


def take(site: Site, bound: Bound, network: str) -> None:
    """Count something other than a letter that a network asks for. Raises `NothingMoreNow`."""
    if site.settings.rate_limits == "off":
        return
    counted, who = _limits(site), visitor(site, network)
    if not counted.take(bound, who):
        raise NothingMoreNow(_NOTHING_MORE, retry_after=counted.wait(bound, who))


def challenge(site: Site, slug: str) -> dict[str, Any] | None:
    """Return what a browser is to solve before it sends a letter under an essay (ALTCHA, version 2).

    None where nothing is asked. The solution is good for a day, and once.
    """
    if site.settings.rate_limits == "off":
        return None
    least, most = PROOF_STEPS
    made = altcha.create_challenge(
        PROOF_ALGORITHM,
        PROOF_COST,
        counter=least + secrets.randbelow(most - least),
        expires_at=now() + PROOF_LIFE,
        data={"essay": slug},
        hmac_secret=site.keys.derived("proof of work"),
        hmac_key_secret=site.keys.derived("proof of work: its key"),
    )
    told: dict[str, Any] = made.to_dict()
    return told


def once(slug: str, key: str | None, author_secret: str | None) -> str | None:
    """Return what is the same for each sending of one letter, or None for one without a key."""
    return None if key is None else fingerprint(json.dumps([slug, author_secret, key]))


def visitor(site: Site, network: str, *, make_key: bool = False) -> str:
    """Return the keyed hash under which a network is counted; it says nothing once its key is deleted.

    Before there is a key, and without *make_key*, it is this process's own: then nothing is written.
    """
    return hmac.new(_key(site, make=make_key), network.encode(), hashlib.sha256).hexdigest()


def renew_keys(session: Session) -> None:
    """Delete the keys that are a week old, and make one if none is in use. Twice changes nothing."""
    session.execute(delete(PassingKey).where(PassingKey.made_at <= now() - KEY_KEPT))
    if _in_use(session) is None:
        session.add(PassingKey(key=secrets.token_bytes(32), made_at=now()))
        session.flush()


def _notice(site: Site, letter: Letter, arrival: Arrival, blocked: blocks.Blocks) -> list[Noticed]:
    noticed = []
    if arrival.bait:
        noticed.append(Noticed(Name.BAIT, "A field was filled in that people do not see.", strong=True))
    limited = site.settings.rate_limits == "on"
    if limited and arrival.begun_at is not None and now() - arrival.begun_at < LEAST_TIME:
        why = f"It was sent within {LEAST_TIME.seconds} seconds of being begun."
        noticed.append(Noticed(Name.HASTE, why, strong=True))
    if letter.email and (domain := blocked.of_host(letter.email.rpartition("@")[2])) is not None:
        why = f'Its author gave an e-mail address at a blocked domain: "{domain}".'
        noticed.append(Noticed(Name.BLOCKED_MAIL, why, strong=True))
    return noticed


def _let_in(site: Site, slug: str, arrival: Arrival) -> None:
    """Count a letter. Raises a `NotAdmitted`."""
    if blocks.blocks_network(site, arrival.network):
        raise NetworkBlocked(_BLOCKED)
    if site.settings.rate_limits == "off":
        return
    counted, who = _limits(site), visitor(site, arrival.network, make_key=True)
    repeated = arrival.once is not None and not counted.left(_LET_IN, arrival.once)
    if repeated and counted.take(REPEATS, who):
        return
    bounds = [LETTERS, LETTERS_A_DAY]
    if not _is_proven(site, slug, arrival):
        bounds.insert(0, UNPROVEN)
    counts = [*((bound, who) for bound in bounds), (UNDER_AN_ESSAY, slug)]
    # All are asked before any counts: what is refused by one bound uses up no other.
    for bound, whom in counts:
        if not counted.left(bound, whom):
            raise _too_often(counted, bound, whom)
    for bound, whom in counts:
        if not counted.take(bound, whom):
            raise _too_often(counted, bound, whom)
    if arrival.once is not None:
        counted.take(_LET_IN, arrival.once)


def _too_often(counted: Limits, bound: Bound, whom: str) -> TooOften:
    return TooOften(_SENTENCES[bound], retry_after=counted.wait(bound, whom))


def _in_english(refused: NotAdmitted) -> dict[str, str]:
    with language.speaking(language.ENGLISH):
        return refused.parts


def _ask_a_person(site: Site, arrival: Arrival) -> None:
    """Count a letter that a person is asked to look at, also where limits are off. Raises `NobodyToAsk`."""
    counted, who = _limits(site), visitor(site, arrival.network, make_key=True)
    repeated = arrival.once is not None and not counted.left(_ASKED, arrival.once)
    if repeated and counted.take(REPEATS, who):
        return
    counts = [(TO_A_PERSON, who), (TO_A_PERSON_IN_ALL, "everyone")]
    for asks in (counted.left, counted.take):
        for bound, whom in counts:
            if not asks(bound, whom):
                raise _nobody(site, counted.wait(bound, whom))
    if arrival.once is not None:
        counted.take(_ASKED, arrival.once)


def _nobody(site: Site, wait: int) -> NobodyToAsk:
    contact = site.settings.contact
    if contact is None:
        return NobodyToAsk(_NOBODY, retry_after=wait)
    return NobodyToAsk(_NOBODY_BUT, retry_after=wait, contact=contact)


def _is_proven(site: Site, slug: str, arrival: Arrival) -> bool:
    """Return whether a letter came with the work that its form was given to do, and for no other letter before."""
    proof = arrival.proof
    if not proof or len(proof) > PROOF_LENGTH:
        return False
    # What a proof says is believed only below, once its signature is known to be ours.
    verified = altcha.verify_solution(
        proof,
        site.keys.derived("proof of work"),
        hmac_key_secret=site.keys.derived("proof of work: its key"),
    ).verified
    if not verified:
        return False
    told = json.loads(b64decode(proof))["challenge"]
    parameters, signature = told["parameters"], told["signature"]
    if parameters["data"] != {"essay": slug} or parameters["expiresAt"] <= now().timestamp():
        return False
    counted = _limits(site)
    # A letter that is sent twice, by two clicks say, comes with its own proof twice.
    if arrival.once is not None and not counted.left(_USED_FOR_IT, signature, arrival.once):
        return True
    if counted.take(_USED_ONCE, signature):
        if arrival.once is not None:
            counted.take(_USED_FOR_IT, signature, arrival.once)
        return True
    # Once more: the other of two clicks may have come between.
    return arrival.once is not None and not counted.left(_USED_FOR_IT, signature, arrival.once)


_counters: WeakKeyDictionary[Database, Limits] = WeakKeyDictionary()
_OWN_KEY = secrets.token_bytes(32)


def _limits(site: Site) -> Limits:
    found = _counters.get(site.database)
    if found is None:
        found = _counters.setdefault(site.database, Limits(site.settings.redis))
    return found


@dataclass(frozen=True, slots=True)
class _Known:
    key: bytes = field(repr=False)
    made_at: datetime
    read_at: datetime


_keys: WeakKeyDictionary[Database, _Known] = WeakKeyDictionary()


def _key(site: Site, *, make: bool) -> bytes:
    """Return the key in use, as of a minute ago at most."""
    known, at = _keys.get(site.database), now()
    if known is not None and at - known.made_at < KEY_USED_FOR and timedelta(0) <= at - known.read_at < _KEY_KNOWN_FOR:
        return known.key
    with site.database.reading_sessions() as session:
        found = _in_use(session)
    if found is None and make:
        with site.database.sessions.begin() as session:
            renew_keys(session)
            found = _in_use(session)
    if found is None:
        _keys.pop(site.database, None)
        return _OWN_KEY
    _keys[site.database] = _Known(found.key, found.made_at, at)
    return found.key


def _in_use(session: Session) -> PassingKey | None:
    """Return the first key made that still names counters: of two that were made at one moment, everybody takes one."""
    return session.scalar(
        select(PassingKey).where(PassingKey.made_at > now() - KEY_USED_FOR).order_by(PassingKey.id).limit(1)
    )
