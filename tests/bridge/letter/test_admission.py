"""Admission: what is counted, what is sorted, who gets through to a person, and that no address is kept."""

import base64
import json
from datetime import datetime, timedelta
from pathlib import Path

import altcha
import pytest
from ground.house import SLUG, House, site_over
from sqlalchemy import select

from bridge.db import Database
from bridge.letter import admission, comments
from bridge.letter.admission import Arrival, Came, NetworkBlocked, NobodyToAsk, NothingMoreNow, TooOften
from bridge.letter.comments import Letter
from bridge.limits import Bound
from bridge.records import PassingKey, Signal
from bridge.signal import blocks, signals
from bridge.signal.blocks import What
from bridge.signal.signals import Name
from bridge.site import Site
from moderation.base import now
from moderation.queue import pending
from moderation.types import Tray

HERE = "192.0.2.7"
LETTER = Letter("Reader", "Do you dream?")


@pytest.fixture
def counting(house: House, tmp_path: Path) -> House:
    """A house whose limits are on."""
    return House(site_over(house.site.database, tmp_path, rate_limits="on"), house.tokens)


def come(house: House, *, letter: Letter = LETTER, slug: str = SLUG, network: str = HERE, **more: object) -> list[Name]:
    """Have a letter come, long enough after its form was begun; return what is noticed."""
    arrival = Arrival(Came.PAGE, network, **more)  # type: ignore[arg-type]
    return [each.name for each in admission.admit(house.site, slug, letter, arrival)]


def proof(house: House, slug: str = SLUG) -> str:
    """Return the solution of a fresh challenge."""
    given = admission.challenge(house.site, slug)
    assert given is not None
    return solved(given)


def solved(given: dict[str, object]) -> str:
    challenge = altcha.Challenge.from_dict(given)
    solution = altcha.solve_challenge(challenge)
    assert solution is not None
    return altcha.Payload(challenge, solution).to_base64()


def refused(house: House, **more: object) -> TooOften:
    with pytest.raises(TooOften) as caught:
        come(house, **more)  # type: ignore[arg-type]
    return caught.value


def test_takes_two_letters_without_proof_and_five_with_it(counting: House) -> None:
    assert [come(counting), come(counting)] == [[], []]
    assert "run this page's script" in str(refused(counting))
    for _ in range(3):
        assert come(counting, proof=proof(counting)) == []
    told = refused(counting, proof=proof(counting))
    assert "Please send it again in" in str(told)
    assert told.may_ask_a_person
    assert told.retry_after is not None
    assert 590 <= told.retry_after <= 600
    assert come(counting, network="192.0.2.8") == []


def test_takes_sixty_letters_an_hour_under_an_essay(counting: House) -> None:
    counting.essay("on-work")
    for number in range(60):
        come(counting, network=f"198.51.100.{number}")
    assert "about this essay" in str(refused(counting))
    assert come(counting, slug="on-work") == []


def test_takes_twenty_letters_a_day(counting: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "LETTERS", Bound("letters", 50, 600))
    monkeypatch.setattr(admission, "_is_proven", lambda *_: True)
    for number in range(20):
        counting.essay(f"essay-{number}")
        come(counting, slug=f"essay-{number}")
    assert "in a day" in str(refused(counting))


@pytest.mark.parametrize(
    ("letter", "slug"), [(Letter("Reader", "x" * 6000), SLUG), (Letter("", "Hello."), SLUG), (LETTER, "no-essay")]
)
def test_counts_nothing_for_a_letter_that_cannot_be_taken_anyway(counting: House, letter: Letter, slug: str) -> None:
    for _ in range(6):
        assert come(counting, letter=letter, slug=slug) == []
    assert [come(counting), come(counting)] == [[], []]


def test_counts_a_letter_that_is_sent_again_once(counting: House) -> None:
    same = admission.once(SLUG, "k" * 43, None)
    for _ in range(8):
        assert come(counting, once=same) == []
    assert come(counting, once=admission.once(SLUG, "l" * 43, None)) == []
    # Under another author's secret it is another letter.
    assert refused(counting, once=admission.once(SLUG, "k" * 43, "s" * 43))


def test_lifts_all_of_it_where_limits_are_off(house: House) -> None:
    for _ in range(30):
        assert come(house, begun_at=now()) == []
        admission.take(house.site, admission.REPORTS, HERE)
    assert admission.challenge(house.site, SLUG) is None


def test_bounds_what_is_no_letter(counting: House) -> None:
    for _ in range(admission.REPORTS.times):
        admission.take(counting.site, admission.REPORTS, HERE)
    with pytest.raises(NothingMoreNow, match="Nothing was changed") as caught:
        admission.take(counting.site, admission.REPORTS, HERE)
    assert not caught.value.may_ask_a_person
    admission.take(counting.site, admission.MENTIONS, HERE)


# Proof of work.


def test_takes_each_proof_for_one_letter(counting: House) -> None:
    used = proof(counting)
    first, other = admission.once(SLUG, "a" * 43, None), admission.once(SLUG, "b" * 43, None)
    assert proven(counting, used, once=first)
    assert proven(counting, used, once=first)
    assert not proven(counting, used, once=other)
    assert not proven(counting, used, once=other)
    assert not proven(counting, used)


def test_believes_no_proof_but_its_own(counting: House, monkeypatch: pytest.MonkeyPatch) -> None:
    counting.essay("on-work")
    good = json.loads(base64.b64decode(proof(counting)))
    cheaper = altcha.create_challenge("PBKDF2/SHA-256", 1, data={"essay": SLUG}, hmac_secret="a guess").to_dict()
    wrong = {**good, "solution": {**good["solution"], "derivedKey": "00" * 32}}
    elsewhere = proof(counting, "on-work")
    for bad in (solved(cheaper), packed(wrong), elsewhere, "", "bm8=", "[]", "\ud800", packed([]), "A" * 5000):
        assert not proven(counting, bad)
    late = now() + timedelta(days=1, minutes=1)
    monkeypatch.setattr(admission, "now", lambda: late)
    assert not proven(counting, packed(good))


def proven(house: House, given: str, **more: object) -> bool:
    return admission._is_proven(house.site, SLUG, Arrival(Came.PAGE, HERE, proof=given, **more))  # type: ignore[arg-type]


def packed(told: object) -> str:
    return base64.b64encode(json.dumps(told).encode()).decode()


# Sorting.


@pytest.mark.parametrize(
    ("how", "name"),
    [({"bait": "https://casino.example"}, Name.BAIT), ({"begun_at": "just now"}, Name.HASTE)],
)
def test_sorts_what_looks_like_a_program_and_drops_nothing(counting: House, how: dict[str, str], name: Name) -> None:
    more: dict[str, object] = dict(how)
    if "begun_at" in more:
        more["begun_at"] = now() - timedelta(seconds=2)
    noticed = admission.admit(counting.site, SLUG, LETTER, Arrival(Came.PAGE, HERE, **more))  # type: ignore[arg-type]
    assert [(each.name, each.strong) for each in noticed] == [(name, True)]
    sent = comments.receive_comment(counting.site, SLUG, LETTER, noticed=noticed)
    assert tray(counting, sent.public_id) is Tray.LIKELY_SPAM


def test_lets_whoever_took_their_time_through(counting: House) -> None:
    assert come(counting, begun_at=now() - timedelta(seconds=4)) == []


def test_keeps_how_a_letter_came_when_its_author_changes_it(counting: House) -> None:
    noticed = admission.admit(counting.site, SLUG, LETTER, Arrival(Came.PAGE, HERE, bait="x"))
    sent = comments.receive_comment(counting.site, SLUG, LETTER, noticed=noticed)
    comments.change_comment(counting.site, sent.public_id, Letter("Reader", "Do you dream, then?"))
    assert tray(counting, sent.public_id) is Tray.LIKELY_SPAM
    assert Name.BAIT in names(counting, sent.public_id)


def test_keeps_how_a_letter_came_when_it_is_looked_at_again(counting: House) -> None:
    noticed = admission.admit(counting.site, SLUG, LETTER, Arrival(Came.PAGE, HERE, bait="x"))
    sent = comments.receive_comment(counting.site, SLUG, LETTER, noticed=noticed)
    with counting.site.database.sessions.begin() as session:
        comment, _ = comments.one(session, sent.public_id)
        signals.look_at_letter(session, comment)
        # As a screening service does that finds nothing.
        signals.keep(session, comment.submission_id, [Name.AKISMET], [])
    signals.look_again(counting.site)
    assert Name.BAIT in names(counting, sent.public_id)
    assert tray(counting, sent.public_id) is Tray.LIKELY_SPAM


def test_notices_an_address_at_a_blocked_domain(counting: House) -> None:
    blocks.add(counting.site, What.DOMAIN, "casino.example", "", moderator=counting.ada)
    assert come(counting, letter=Letter("Reader", "Hello.", email="a@mail.casino.example")) == [Name.BLOCKED_MAIL]
    assert come(counting, letter=Letter("Reader", "Hello.", email="a@nocasino.example")) == []


def tray(house: House, public_id: str) -> Tray:
    with house.site.database.reading_sessions() as session:
        found = pending(session, house.submission(public_id))
    assert found is not None
    return found.tray


def names(house: House, public_id: str) -> list[str]:
    of = Signal.submission_id == house.submission(public_id)
    with house.site.database.reading_sessions() as session:
        return list(session.scalars(select(Signal.name).where(of)))


# A way through to a person.


def test_lets_one_refused_letter_an_hour_through_to_a_person(counting: House) -> None:
    come(counting), come(counting)
    refused(counting)
    noticed = admission.admit(counting.site, SLUG, LETTER, Arrival(Came.PAGE, HERE, to_a_person=True))
    assert [(each.name, each.strong) for each in noticed] == [(Name.ASKED_FOR_A_PERSON, True)]
    sent = comments.receive_comment(counting.site, SLUG, LETTER, noticed=noticed)
    assert tray(counting, sent.public_id) is Tray.LIKELY_SPAM
    with pytest.raises(NobodyToAsk) as caught:
        come(counting, to_a_person=True)
    assert not caught.value.may_ask_a_person


@pytest.mark.parametrize("where", ["counting", "blocked"])
def test_counts_a_letter_to_a_person_that_is_sent_twice_once(counting: House, where: str) -> None:
    if where == "blocked":
        blocks.add(counting.site, What.NETWORK, "192.0.2.0/24", "", moderator=counting.ada)
    else:
        come(counting), come(counting)
    same = admission.once(SLUG, "k" * 43, None)
    for _ in range(3):
        assert come(counting, to_a_person=True, once=same) == [Name.ASKED_FOR_A_PERSON]
    with pytest.raises(NobodyToAsk):
        come(counting, to_a_person=True, once=admission.once(SLUG, "l" * 43, None))


def test_refuses_a_blocked_network_and_leaves_it_the_way_through(house: House) -> None:
    blocks.add(house.site, What.NETWORK, "192.0.2.0/24", "", moderator=house.ada)
    with pytest.raises(NetworkBlocked) as caught:
        come(house)
    assert caught.value.may_ask_a_person
    assert come(house, network="192.0.3.7") == []
    assert come(house, to_a_person=True) == [Name.ASKED_FOR_A_PERSON]


def test_counts_no_letter_twice_for_one_who_needs_no_person(counting: House) -> None:
    assert come(counting, to_a_person=True) == []


def test_names_where_a_person_is_reached_when_too_many_ask(house: House, tmp_path: Path) -> None:
    site = site_over(house.site.database, tmp_path, contact="people@site.example")
    blocks.add(site, What.NETWORK, "198.51.100.0/24", "", moderator=house.ada)
    for number in range(20):
        come(House(site, house.tokens), network=f"198.51.100.{number}", to_a_person=True)
    with pytest.raises(NobodyToAsk, match=r"or write to people@site\.example"):
        come(House(site, house.tokens), network="198.51.100.99", to_a_person=True)


# Addresses.


def test_makes_a_key_uses_it_for_six_days_and_deletes_it_after_a_week(
    counting: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    began = now()
    admission.visitor(counting.site, HERE)
    assert keys(counting.site) == []
    come(counting)
    [first] = keys(counting.site)
    hashed = admission.visitor(counting.site, HERE)
    assert hashed == admission.visitor(counting.site, HERE) != admission.visitor(counting.site, "192.0.2.8")

    def later(**how: float) -> None:
        at: datetime = began + timedelta(**how)
        monkeypatch.setattr(admission, "now", lambda: at)
        with counting.site.database.sessions.begin() as session:
            admission.renew_keys(session)

    later(days=5, hours=23)
    assert keys(counting.site) == [first]
    assert admission.visitor(counting.site, HERE) == hashed
    later(days=6, minutes=1)
    assert len(keys(counting.site)) == 2
    assert admission.visitor(counting.site, HERE) != hashed
    later(days=7, minutes=1)
    assert first not in keys(counting.site)
    assert len(keys(counting.site)) == 1


def test_takes_one_key_of_two_that_were_made_at_once(database: Database, tmp_path: Path) -> None:
    site = site_over(database, tmp_path, rate_limits="on")
    with database.sessions.begin() as session:
        session.add_all(PassingKey(key=bytes([each]) * 32, made_at=now()) for each in (1, 2))
    assert admission._key(site, make=True) == bytes([1]) * 32


def keys(site: Site) -> list[bytes]:
    with site.database.reading_sessions() as session:
        return [row.key for row in session.scalars(select(PassingKey).order_by(PassingKey.id))]
