"""The voices: added, paused, resumed, and what a call to one costs."""

import pytest
from ground.house import MODEL, VOICE, House
from sqlalchemy import update

from bridge import voices
from bridge.model import Usage
from bridge.records import Voice
from bridge.voices import NewVoice, VoiceRefused


def test_finds_a_voice_by_its_name_or_its_address(house: House) -> None:
    with house.site.database.reading_sessions() as session:
        assert voices.named(session, VOICE).slug == "test-voice"
        assert voices.named(session, "test-voice").name == VOICE
        with pytest.raises(VoiceRefused):
            voices.named(session, "nobody")


@pytest.mark.parametrize(
    "new",
    [
        NewVoice(VOICE, MODEL, "c"),
        NewVoice("Test  voice!", MODEL, "c"),
        NewVoice("", MODEL, "c"),
        NewVoice("\u65e5\u672c", MODEL, "c"),
        NewVoice("x" * 81, MODEL, "c"),
        NewVoice("Other (rehearsal)", MODEL, "c"),
        NewVoice("Other", MODEL, " \n"),
        NewVoice("Other", MODEL, "c", max_tokens=0),
        NewVoice("Other", MODEL, "c", price_in=float("nan"), price_out=1),
        NewVoice("Other", MODEL, "c", price_in=1, price_out=float("inf")),
        NewVoice("Other", MODEL, "c" * 15_001),
    ],
)
def test_refuses_a_voice_that_could_not_be_told_from_others_or_asked(house: House, new: NewVoice) -> None:
    before = house.contents()
    with pytest.raises(VoiceRefused), house.site.database.sessions.begin() as session:
        voices.add(session, new)
    assert house.contents() == before


def test_asks_no_paused_voice_until_it_is_resumed(any_house: House) -> None:
    with any_house.site.database.sessions.begin() as session:
        voice = voices.named(session, VOICE)
        voices.pause(session, voice, "The key ended.")
        assert not voices.may_be_asked(session, voice)
        voices.resume(session, voice)
        assert voices.may_be_asked(session, voice)
        assert (voice.paused_at, voice.paused_why, voice.failures_in_a_row) == (None, None, 0)


def test_asks_a_voice_again_when_its_pause_has_run_out_by_the_database_clock(any_house: House) -> None:
    with any_house.site.database.sessions.begin() as session:
        voice = voices.named(session, VOICE)
        voices.pause(session, voice, "It failed.", minutes=15)
        assert not voices.may_be_asked(session, voice)
        session.execute(update(Voice).values(paused_until=Voice.paused_until - 15 * 60 - 1))
        session.refresh(voice)
        assert voices.may_be_asked(session, voice)


def test_prices_a_call_in_millionths_of_a_dollar_rounded_up(house: House) -> None:
    used = Usage(fresh=1, cache_read=100, cache_written=30, cache_written_for_an_hour=10, output=7)
    with house.site.database.sessions.begin() as session:
        voice = voices.named(session, VOICE)
        assert voices.cost(voice, used) is None
        voice.price_in, voice.price_out = 15, 75
        # (1 + 100 / 10 + 20 * 1.25 + 10 * 2) * 15 + 7 * 75
        assert voices.cost(voice, used) == 1365
        voice.price_in = 15.001
        assert voices.cost(voice, used) == 1366


@pytest.mark.parametrize(
    ("title", "slug"),
    [
        ("On Rest", "on-rest"),
        ("  Crème brûlée: why? ", "creme-brulee-why"),
        ("--", ""),
        ("a" * 79 + " bc", "a" * 79),
        ("../../etc/passwd", "etc-passwd"),
    ],
)
def test_makes_an_address_of_words(title: str, slug: str) -> None:
    assert voices.slug_of(title) == slug
    assert voices.slug_of(slug) == slug
