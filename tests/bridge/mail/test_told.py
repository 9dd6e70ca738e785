"""What moderators are told of what waits, and when: numbers and times alone, and never about nothing."""

import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
from ground.house import ADA, BEN, CLEO, House, site_over
from sqlalchemy import select, update

from bridge.mail import outbox, told
from bridge.mail.outbox import Mail
from bridge.mail.told import Told
from bridge.people import accounts
from bridge.records import Outgoing, User, Voice
from bridge.site import Site
from bridge.voice import voices
from bridge.voice.model import RequestRefused, Trouble, VoiceBlocked
from moderation import base, holds, moderators
from moderation.overview import overview
from moderation.types import Kind

AUTHOR, WORDS = "Author-canary", "Words-canary, asking whether you dream."
HOOK = "https://hooks.example/canary"


class Clock:
    """The time, which a test moves."""

    def __init__(self, at: datetime) -> None:
        self.at = at

    def __call__(self) -> datetime:
        return self.at

    def passes(self, **time: float) -> None:
        self.at += timedelta(**time)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Half past ten on a day of its own, after the house was furnished."""
    clock = Clock(datetime(2031, 5, 6, 10, 30, tzinfo=UTC))
    real = base.now
    for module in list(_modules_with(real)):
        monkeypatch.setattr(module, "now", clock)
    return clock


def _modules_with(real: Callable[[], datetime]) -> Iterator[object]:
    for name, module in sys.modules.items():
        if name.partition(".")[0] in {"bridge", "moderation"} and getattr(module, "now", None) is real:
            yield module


def choose(site: Site, email: str, how: Told) -> None:
    with site.database.sessions.begin() as session:
        session.execute(update(User).where(User.email == email).values(told=how.value))


def send(house: House, **more: str) -> str:
    return house.send(f"{WORDS} {more}", author=AUTHOR, **more).public_id


def written(site: Site) -> list[Mail]:
    """Take every mail that was written down since, in order."""
    found = []
    with site.database.sessions.begin() as session:
        while (taken := outbox.take(session, site.keys)) is not None:
            assert taken.mail is not None
            found.append(taken.mail)
    return found


def tell(site: Site) -> list[str]:
    """Have moderators told; return to whom mail was written."""
    told.tell(site)
    return [mail.to for mail in written(site)]


def test_offers_what_an_account_may_choose() -> None:
    assert tuple(how.value for how in Told) == accounts.TOLD
    assert all(how.in_words for how in Told)


@pytest.mark.parametrize("how", [Told.AT_ONCE, Told.HOURLY, Told.DAILY])
def test_tells_nobody_about_nothing(house: House, clock: Clock, how: Told) -> None:
    choose(house.site, ADA, how)
    assert tell(house.site) == []
    letter = send(house)
    house.approve(letter)
    clock.passes(days=1)
    assert tell(house.site) == []


def test_tells_nobody_who_did_not_ask_or_is_no_longer_active(house: House, clock: Clock) -> None:
    choose(house.site, CLEO, Told.AT_ONCE)  # Her account was ended.
    send(house)
    assert tell(house.site) == []
    choose(house.site, BEN, Told.AT_ONCE)
    assert tell(house.site) == [BEN]


def test_tells_nobody_whom_the_gate_no_longer_knows(house: House, clock: Clock) -> None:
    choose(house.site, BEN, Told.DAILY)
    with house.site.database.sessions.begin() as session:
        accounts.deactivate(session, BEN)
        session.execute(update(User).where(User.email == BEN).values(active=True))
    send(house)
    assert tell(house.site) == []


def test_tells_at_once_and_gathers_for_five_minutes(house: House, clock: Clock) -> None:
    choose(house.site, ADA, Told.AT_ONCE)
    send(house)
    assert tell(house.site) == [ADA]
    assert tell(house.site) == []
    clock.passes(minutes=1)
    send(house, slug="on-rest")
    clock.passes(minutes=1)
    house.send("Another.")
    assert tell(house.site) == []
    clock.passes(minutes=3, seconds=1)
    assert tell(house.site) == [ADA]
    clock.passes(hours=7)
    assert tell(house.site) == []  # The same three wait.


def test_tells_nothing_new_when_the_newest_is_decided(house: House, clock: Clock) -> None:
    choose(house.site, ADA, Told.AT_ONCE)
    send(house)
    clock.passes(minutes=2)
    newest = house.send("Another.").public_id
    assert tell(house.site) == [ADA]
    house.approve(newest)
    clock.passes(minutes=6)
    assert tell(house.site) == []


def test_tells_once_an_hour_when_something_new_waits(house: House, clock: Clock) -> None:
    choose(house.site, ADA, Told.HOURLY)
    send(house)
    assert tell(house.site) == [ADA]
    clock.passes(minutes=10)
    house.send("Another.")
    assert tell(house.site) == []
    clock.passes(minutes=20)
    assert tell(house.site) == [ADA]  # It is eleven.
    clock.passes(hours=1)
    assert tell(house.site) == []


def test_tells_once_a_day_what_waits(house: House, clock: Clock) -> None:
    choose(house.site, ADA, Told.DAILY)
    clock.at = datetime(2031, 5, 6, 7, 59, tzinfo=UTC)
    send(house)
    assert tell(house.site) == []
    clock.passes(minutes=1)
    assert tell(house.site) == [ADA]
    for hours in (1, 14, 8):
        clock.passes(hours=hours)
        assert tell(house.site) == []
    clock.passes(hours=1)
    assert clock.at.hour == 8
    assert tell(house.site) == [ADA]  # It still waits.


def test_says_how_much_waits_and_never_what(house: House, clock: Clock) -> None:
    choose(house.site, ADA, Told.DAILY)
    house.exchange()
    house.post("Do you sleep?")
    house.answer("Neither-canary.")
    held = send(house)
    with house.site.database.sessions.begin() as session:
        holds.hold(session, house.submission(held), moderator=house.ben)
    house.essay("on-work", "# On work-canary\n\nIt waits.", released=False)
    clock.passes(hours=26)
    told.tell(house.site)
    [mail] = written(house.site)
    assert mail.subject == "3 wait on the desk"
    assert mail.text == (
        "Waiting on the desk of Emeritus:\n\n  1 essay\n  1 letter\n  1 answer\n\n"
        "The oldest has waited 1 day.\n1 of them is held for a second reader.\n\n"
        "The desk: http://localhost:8000/desk/\n\n"
        "You asked to be told once a day what waits. You can change this, or end it, on the desk under your name.\n"
    )
    assert "canary" not in mail.text + mail.subject
    assert "Ben" not in mail.text


def test_says_which_proposals_lapse_within_a_day(house: House, clock: Clock) -> None:
    choose(house.site, ADA, Told.DAILY)
    house.post()
    [reply] = house.answer()
    house.reject(reply, code="harm")
    clock.passes(days=5, hours=12)
    told.tell(house.site)
    [mail] = written(house.site)
    assert "lapses" not in mail.text
    clock.passes(days=1)
    told.tell(house.site)
    [mail] = written(house.site)
    assert "1 proposal lapses within a day, unless a second moderator answers.\n" in mail.text


def test_writes_one_mail_however_many_tell_at_once(any_house: House, clock: Clock) -> None:
    choose(any_house.site, ADA, Told.AT_ONCE)
    send(any_house)
    with any_house.site.database.reading_sessions() as session:
        letters = list(told._letters(session, any_house.site, overview(session), clock.at))
    assert tell(any_house.site) == [ADA]
    # Another sweep, which had looked before the first one wrote, writes now.
    with any_house.site.database.sessions.begin() as session:
        for letter in letters:
            told._write_down(session, any_house.site, letter, clock.at)
    assert written(any_house.site) == []


def test_notes_when_a_moderator_was_told_with_the_mail_itself(house: House, clock: Clock) -> None:
    choose(house.site, ADA, Told.AT_ONCE)
    send(house)
    tell(house.site)
    with house.site.database.reading_sessions() as session:
        assert session.scalars(select(User.told_at).where(User.email == ADA)).one() == clock.at
        assert session.scalars(select(User.told_at).where(User.email == BEN)).one() is None
        [once] = session.scalars(select(Outgoing.once))
    assert "@" not in once


# The webhook.


@pytest.fixture
def hooked(house: House) -> House:
    return House(site_over(house.site.database, house.site.settings.data, desk_webhook_url=HOOK), house.tokens)


def payloads(site: Site) -> list[dict[str, object]]:
    found = []
    with site.database.sessions.begin() as session:
        while (taken := outbox.take(session, site.keys)) is not None:
            assert taken.payload is not None
            found.append(taken.payload)
    return found


def test_tells_the_webhook_what_waits(hooked: House, clock: Clock) -> None:
    told.tell(hooked.site)
    assert payloads(hooked.site) == []
    send(hooked)
    began = clock.at
    told.tell(hooked.site)
    [payload] = payloads(hooked.site)
    assert payload == {
        "text": "1 waits on the desk, the oldest for less than a minute: http://localhost:8000/desk/",
        "waiting": {"essay": 0, "comment": 1, "reply": 0},
        "held": 0,
        "lapsing": 0,
        "oldest_at": began.isoformat(),
        "desk": "http://localhost:8000/desk/",
    }


def test_gathers_for_the_webhook_too(hooked: House, clock: Clock) -> None:
    send(hooked)
    told.tell(hooked.site)
    assert len(payloads(hooked.site)) == 1
    clock.passes(minutes=2)
    hooked.send("Another.")
    told.tell(hooked.site)
    assert payloads(hooked.site) == []
    clock.passes(minutes=3)
    told.tell(hooked.site)
    assert len(payloads(hooked.site)) == 1
    clock.passes(minutes=30)
    told.tell(hooked.site)
    assert payloads(hooked.site) == []


def test_tells_no_webhook_that_is_not_set(house: House, clock: Clock) -> None:
    send(house)
    told.tell(house.site)
    assert payloads(house.site) == []


def test_rounds_what_it_need_not_count() -> None:
    assert [told._number(count) for count in (1, 999, 1000)] == ["1", "999", "1,000 or more"]
    assert [told._age(timedelta(minutes=minutes)) for minutes in (-1, 0, 1, 59, 60, 179, 1440, 4000)] == [
        "less than a minute",
        "less than a minute",
        "1 minute",
        "59 minutes",
        "1 hour",
        "2 hours",
        "1 day",
        "2 days",
    ]


def test_looks_over_an_empty_desk(house: House) -> None:
    with house.site.database.reading_sessions() as session:
        seen = overview(session)
    assert seen.is_empty
    assert (seen.number, seen.held, seen.oldest_at, seen.newest_at) == (0, 0, None, None)
    assert seen.waiting == dict.fromkeys(Kind, 0)


# Admins, of a voice in trouble


def promote(house: House, *emails: str) -> None:
    with house.site.database.sessions.begin() as session:
        for email in emails:
            moderators.set_role(session, accounts.moderator_of(session, email), "admin")


def pause(house: House, why: str, trouble: Trouble | None = None) -> bool:
    with house.site.database.sessions.begin() as session:
        voice = session.scalars(select(Voice)).one()
        return told.pause_voice(session, house.site, voice.id, why, trouble=trouble)


def blocked(status: int, why: str) -> VoiceBlocked:
    trouble = VoiceBlocked(why, error=f"HTTP {status} {WORDS}")
    trouble.status = status
    return trouble


def mails_about_pauses(house: House) -> list[Mail]:
    return [each for each in written(house.site) if each.subject == "A voice is paused"]


def test_tells_every_active_admin_once_that_a_voice_is_paused(any_house: House) -> None:
    house = any_house
    promote(house, ADA)
    with house.site.database.sessions.begin() as session:
        accounts.add_moderator(session, "dora@desk.example", role="admin", name="Dora")
        accounts.add_moderator(session, "eve@desk.example", role="admin", name="Eve")
        accounts.deactivate(session, "eve@desk.example")
    trouble = blocked(401, "The key is not accepted.")
    assert pause(house, trouble.why, trouble) is True
    # Calls that were open together fail together: that is one pause still, and the first reason stays.
    assert pause(house, "Billing needs attention.", blocked(402, "Billing needs attention.")) is False
    came = mails_about_pauses(house)
    assert [each.to for each in came] == [ADA, "dora@desk.example"]
    assert "What happened: The key is not accepted." in came[0].text
    assert "Put a key that is accepted" in came[0].text
    assert f"{house.site.settings.address}/desk/voices/test-voice" in came[0].text
    with house.site.database.reading_sessions() as session:
        assert session.scalars(select(Voice.paused_why)).one() == "The key is not accepted."


def test_tells_again_of_the_next_pause(house: House) -> None:
    promote(house, ADA)
    assert pause(house, "This key may not use it.", blocked(403, "This key may not use it."))
    with house.site.database.sessions.begin() as session:
        voices.resume(session, session.scalars(select(Voice)).one())
    assert pause(house, "This key may not use it.", blocked(403, "This key may not use it."))
    assert len(mails_about_pauses(house)) == 2


def test_tells_of_trouble_that_lasts_after_a_pause_that_passes_by_itself(house: House) -> None:
    promote(house, ADA)
    with house.site.database.sessions.begin() as session:
        voices.pause(session, session.scalars(select(Voice)).one(), "The API is failing.", minutes=15)
    assert pause(house, "The key is not accepted.", blocked(401, "The key is not accepted."))
    assert len(mails_about_pauses(house)) == 1
    with house.site.database.reading_sessions() as session:
        assert session.scalars(select(Voice.paused_until)).one() is None


def test_says_how_to_ask_for_a_retired_model(house: House) -> None:
    promote(house, ADA)
    pause(house, "no-such-model-0 is unknown here.", blocked(404, "no-such-model-0 is unknown here."))
    (mail,) = mails_about_pauses(house)
    assert "External Researcher Access Program" in mail.text
    assert "no-such-model-0 is unknown here." in mail.text


def test_repeats_in_no_mail_what_the_api_or_a_model_said(house: House) -> None:
    promote(house, ADA)
    pause(house, f"The API refused our request: {WORDS}", RequestRefused(f"The API refused our request: {WORDS}"))
    with house.site.database.sessions.begin() as session:
        voices.resume(session, session.scalars(select(Voice)).one())
    pause(house, f"Another model answered: {WORDS}.")
    refused, other = mails_about_pauses(house)
    assert "What happened: The API refused our request.\n" in refused.text
    assert "What happened: Another model answered.\n" in other.text
    for mail in (refused, other):
        assert WORDS not in mail.text
        assert "Read on the voice's page what is on record" in mail.text


def test_pauses_whatever_is_wrong_with_a_name_or_an_address(house: House) -> None:
    promote(house, ADA)
    with house.site.database.sessions.begin() as session:
        session.execute(update(User).where(User.email == ADA).values(email="ada=?utf-8?q?=0a?=@desk.example"))
        session.execute(update(Voice).values(name="=?utf-8?q?=0aBcc:_x?= {happened} %s"))
    assert pause(house, "The key is not accepted.", blocked(401, "The key is not accepted."))
    assert mails_about_pauses(house) == []
    with house.site.database.reading_sessions() as session:
        assert session.scalars(select(Voice.paused_at)).one() is not None
