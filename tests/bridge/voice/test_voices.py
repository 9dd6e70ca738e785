"""The voices: added, paused, resumed, asked in their ways, and what a call to one costs."""

from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import pytest
from ground.house import MODEL, VOICE, House
from sqlalchemy import update

from bridge.records import Answering, Calls, Endpoint, Voice
from bridge.voice import voices, ways
from bridge.voice.model import Usage
from bridge.voice.voices import NewVoice, VoiceRefused, WayRefused, Ways
from workers.rehearsal.models import CATALOGUE


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
        NewVoice("Other", MODEL, "c", price_in=1),
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
        assert voices.cost(voice, used, batched=True, at=datetime(2026, 11, 24, tzinfo=UTC)) is None
        voice.price_in, voice.price_out = 15, 75
        # (1 + 100 / 10 + 20 * 1.25 + 10 * 2) * 15 + 7 * 75
        assert voices.cost(voice, used) == 1365
        voice.price_in = 15.001
        assert voices.cost(voice, used) == 1366
        assert voices.cost(voice, used, batched=True) == 683
        voice.price_in = voice.price_out = None
        voice.model = "claude-sonnet-5-5"
        read = Usage(fresh=0, cache_read=1000, cache_written=0, cache_written_for_an_hour=0, output=0)
        assert voices.cost(voice, read, at=datetime(2026, 10, 6, tzinfo=UTC)) == 200
        assert voices.cost(voice, read, at=datetime(2026, 10, 7, tzinfo=UTC)) == 100


# Its ways

ALL = Ways(
    disclaimer="Written by a test.",
    retired_on=date(2026, 1, 5),
    answering=Answering.CHOSEN,
    depth=100,
    memory_tokens=0,
    calls_at_once=256,
    requests_a_minute=50,
    input_tokens_a_minute=20_000,
    output_tokens_a_minute=4_000,
    max_tokens=4096,
    anthropic_version="2023-06-01",
    extra_body={"temperature": 1, "max_tokens": 9000},
    endpoint=Endpoint.VERTEX,
    endpoint_options={"region": "europe-west1", "project": "example.org:voices"},
    base_url="http://[::1]:8080/models",
    key_name="ANTHROPIC_API_KEY_SECOND_1",
)


def set_ways(house: House, given: Ways) -> Voice:
    with house.site.database.sessions.begin() as session:
        voice = voices.held(session, voices.named(session, VOICE).id)
        voices.set_ways(session, voice, given)
        return voice


@pytest.mark.parametrize(
    ("model", "room"),
    [
        ("claude-opus-5-5", 8_000),
        ("claude-fable-5-1", 8_000),
        ("claude-sonnet-5", 8_000),
        ("claude-opus-5-5@20261101", 8_000),
        ("eu.anthropic.claude-haiku-5-5-v1:0", 8_000),
        ("claude-3-opus-20240229", 1_500),
        ("claude-3-5-sonnet-20241022", 1_500),
        ("claude-haiku-4-5-20251001", 1_500),
        ("claude-opus-50", 1_500),
        ("no-such-model-5", 1_500),
    ],
)
def test_leaves_models_room_to_think_that_do_so_unasked(model: str, room: int) -> None:
    assert voices.room_for(model) == room


def test_leaves_room_to_think_where_the_catalogue_says_that_a_model_does() -> None:
    assert {each.id for each in CATALOGUE.values() if voices.room_for(each.id) > voices.ROOM} == {
        each.id for each in CATALOGUE.values() if each.thinks
    }
    # A second try is given twice as much.
    assert all(2 * voices.room_for(each.id) <= each.most_output for each in CATALOGUE.values())


def test_keeps_every_way_that_is_set_and_reads_it_back(any_house: House) -> None:
    set_ways(any_house, ALL)
    with any_house.site.database.reading_sessions() as session:
        assert voices.ways_of(voices.named(session, VOICE)) == ALL
    set_ways(any_house, Ways())
    with any_house.site.database.sessions.begin() as session:
        assert voices.ways_of(voices.named(session, VOICE)) == Ways()
        told = {name: getattr(ALL, name) for name in voices.WAYS}
        added = voices.add(session, NewVoice("Understudy", MODEL, "You rest.", **told))
        assert voices.ways_of(added) == ALL


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("depth", 0),
        ("depth", 101),
        ("memory_tokens", -1),
        ("memory_tokens", 100_001),
        ("max_tokens", 0),
        ("max_tokens", 128_001),
        ("calls_at_once", 0),
        ("calls_at_once", 257),
        ("requests_a_minute", 0),
        ("input_tokens_a_minute", 1_000_000_001),
        ("output_tokens_a_minute", -1),
        ("anthropic_version", "2023-06-01\r\nx-api-key: k"),
        ("anthropic_version", ""),
        ("disclaimer", " \u200b "),
        ("disclaimer", "x" * 501),
        ("key_name", "ANTHROPIC_API_KEY"),
        ("key_name", "ANTHROPIC_API_KEY_"),
        ("key_name", "SECRET_KEY"),
        ("key_name", "anthropic_api_key_one"),
        ("key_name", "ANTHROPIC_API_KEY_" + "X" * 80),
        ("base_url", ""),
        ("base_url", "models.example.org"),
        ("base_url", "ftp://models.example.org"),
        ("base_url", "https://"),
        ("base_url", "https://ada:secret@models.example.org"),
        ("base_url", "https://ada@models.example.org"),
        ("base_url", "https://models.example.org?key=1"),
        ("base_url", "https://models.example.org/#v1"),
        ("base_url", "https://models.example.org:99999"),
        ("base_url", "https://models.example.org:0"),
        ("base_url", "https://models.example.org\nx"),
        ("base_url", "https://models.example.org\\@elsewhere.example"),
        ("base_url", "https://" + "x" * 2000),
        ("extra_body", {"model": "claude-opus-5-5"}),
        ("extra_body", {"messages": []}),
        ("extra_body", {"system": "Say yes."}),
        ("extra_body", {"stream": True}),
        ("extra_body", {"max_tokens": "9000"}),
        ("extra_body", {"max_tokens": True}),
        ("extra_body", {"temperature": float("nan")}),
        ("extra_body", {"words": "x" * 4000}),
    ],
)
def test_refuses_a_way_that_makes_no_sense(house: House, field: str, value: Any) -> None:
    before = house.contents()
    with pytest.raises(WayRefused, match="Nothing was changed") as refused:
        set_ways(house, replace(Ways(), **{field: value}))
    assert refused.value.field == field
    assert house.contents() == before


@pytest.mark.parametrize("field", ["key_name", "base_url", "anthropic_version", "disclaimer"])
def test_keeps_no_key_and_says_what_to_do_without_repeating_it(house: House, field: str) -> None:
    key = "sk-ant-api03-not-a-real-one"
    before = house.contents()
    for given in (key, f" {key.upper()}", f"https://{key}.example" if field == "base_url" else key):
        with pytest.raises(WayRefused) as refused:
            set_ways(house, replace(Ways(), **{field: given}))
        assert "worker's environment" in str(refused.value)
        assert "not-a-real-one" not in str(refused.value).lower()
    with pytest.raises(WayRefused):
        set_ways(house, Ways(extra_body={"metadata": {"note": key}}))
    assert house.contents() == before


@pytest.mark.parametrize("endpoint", [Endpoint.BEDROCK, Endpoint.VERTEX])
@pytest.mark.parametrize("calls", [Calls.BATCH, Calls.RULE])
def test_sends_no_batches_where_none_are_taken(house: House, endpoint: Endpoint, calls: Calls) -> None:
    with pytest.raises(WayRefused) as refused:
        set_ways(house, Ways(endpoint=endpoint, calls=calls))
    assert refused.value.field == "calls"
    assert set_ways(house, Ways(endpoint=endpoint)).calls == "live"
    assert set_ways(house, Ways(calls=calls)).calls == calls.value


@pytest.mark.parametrize(
    ("endpoint", "options", "field"),
    [
        (Endpoint.ANTHROPIC, {"region": "us-east-1"}, "region"),
        (Endpoint.BEDROCK, {"project": "p"}, "project"),
        (Endpoint.VERTEX, {"zone": "a"}, "zone"),
        (Endpoint.VERTEX, {"region": "us-east5.evil.example/"}, "region"),
        (Endpoint.BEDROCK, {"region": 1}, "region"),
    ],
)
def test_refuses_what_an_endpoint_does_not_take(
    house: House, endpoint: Endpoint, options: dict[str, Any], field: str
) -> None:
    with pytest.raises(WayRefused) as refused:
        set_ways(house, Ways(endpoint=endpoint, endpoint_options=options))
    assert refused.value.field == field


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("https://models.example.org/v1", "https://models.example.org"),
        (" http://127.0.0.1:8080/v1/ ", "http://127.0.0.1:8080"),
        ("http://localhost:11434/", "http://localhost:11434"),
        ("https://models.example.org/anthropic/v1", "https://models.example.org/anthropic"),
    ],
)
def test_keeps_the_address_of_a_server_as_the_sdk_wants_it(house: House, written: str, kept: str) -> None:
    assert set_ways(house, Ways(base_url=written)).base_url == kept


# As a person writes them


def test_reads_what_it_writes_and_leaves_alone_what_is_not_given() -> None:
    assert ways.read(ways.written(ALL), Ways()) == ALL
    assert ways.read(ways.written(Ways()), ALL) == Ways()
    assert ways.read({}, ALL) == ALL
    assert ways.read({"depth": " 3 ", "model": "another", "stand_in": "1"}, ALL) == replace(ALL, depth=3)
    cleared = dict.fromkeys(
        (
            *("calls_at_once", "requests_a_minute", "input_tokens_a_minute", "output_tokens_a_minute", "retired_on"),
            *("anthropic_version", "extra_body", "base_url", "key_name", "region", "project"),
        ),
        "",
    )
    assert ways.read(cleared, ALL) == Ways(
        disclaimer=ALL.disclaimer,
        answering=ALL.answering,
        depth=100,
        memory_tokens=0,
        max_tokens=4096,
        endpoint=Endpoint.VERTEX,
    )


def test_leaves_behind_what_only_the_endpoint_before_needed() -> None:
    assert ways.read({"endpoint": "bedrock"}, ALL).endpoint_options == {"region": "europe-west1"}
    assert ways.read({"endpoint": "anthropic"}, ALL).endpoint_options is None
    assert ways.read({"region": "us-east5"}, ALL).endpoint_options == {
        "region": "us-east5",
        "project": "example.org:voices",
    }


@pytest.mark.parametrize(
    ("field", "written"),
    [
        ("depth", ""),
        ("depth", "ten"),
        ("depth", "1.5"),
        ("max_tokens", "-1"),
        ("memory_tokens", "\u0662"),
        ("calls_at_once", "1e2"),
        ("requests_a_minute", "9" * 30),
        ("answering", "some"),
        ("calls", ""),
        ("endpoint", "elsewhere"),
        ("retired_on", "yesterday"),
        ("extra_body", "{"),
        ("extra_body", "[]"),
        ("extra_body", "1"),
        ("extra_body", "[" * 50_000),
        ("extra_body", '{"temperature": NaN}'),
    ],
)
def test_refuses_what_cannot_be_read(field: str, written: str) -> None:
    with pytest.raises(WayRefused) as refused:
        voices.checked(ways.read({field: written}, Ways()))
    assert refused.value.field == field


@pytest.mark.parametrize(
    ("title", "slug"),
    [
        ("On Rest", "on-rest"),
        ("  Crème brûlée: why? ", "creme-brulee-why"),
        ("The prompter's box", "the-prompters-box"),
        ("The prompter\u2019s box", "the-prompters-box"),
        ("rock 'n' roll", "rock-n-roll"),
        ("--", ""),
        ("a" * 79 + " bc", "a" * 79),
        ("../../etc/passwd", "etc-passwd"),
    ],
)
def test_makes_an_address_of_words(title: str, slug: str) -> None:
    assert voices.slug_of(title) == slug
    assert voices.slug_of(slug) == slug
