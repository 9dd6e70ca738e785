import asyncio
import json
import logging
import os
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any, TypeVar

import anthropic
import pytest
from ground.standing_in import Asked, Told, as_json, canned, standing_in
from ground.workshop import MODEL, message

from bridge.voice.model import (
    Allowance,
    Answer,
    ModelBusy,
    Outcome,
    PassingTrouble,
    RequestRefused,
    Trouble,
    Unreadable,
    VoiceBlocked,
)
from workers import claude
from workers.claude import Claude
from workers.rehearsal import Rehearsal, running

KEY = "sk-ant-KEY-CANARY"
WORDS = "WORDS-CANARY"

T = TypeVar("T")


@pytest.fixture(scope="module")
def stage() -> Iterator[Rehearsal]:
    with running() as rehearsal:
        yield rehearsal


def request(fault: str = "", *, words: str = WORDS, **more: Any) -> dict[str, Any]:
    said = f"{words}\n[[{fault}]]" if fault else words
    return {"model": MODEL, "max_tokens": 100, "messages": [{"role": "user", "content": said}], **more}


def ask(url: str, asked: dict[str, Any], *, key: str = KEY, rehearsed: bool = False, **how: Any) -> Answer:
    timing = {name: how.pop(name) for name in ("silence", "deadline") if name in how}

    async def once() -> Answer:
        async with Claude(api_key=key, base_url=url, rehearsed=rehearsed, **timing) as model:
            return await model.ask(asked, **{"api_version": None, "extra_body": None, **how})

    return asyncio.run(once())


def on_one(url: str, call: Callable[[Claude], Awaitable[T]], **how: Any) -> T:
    """Return what one call of one client brings."""

    async def once() -> T:
        async with Claude(**{"api_key": KEY, "base_url": url, "rehearsed": False, **how}) as model:
            return await call(model)

    return asyncio.run(once())


def trouble(url: str, asked: dict[str, Any], **how: Any) -> Trouble:
    with pytest.raises(Trouble) as caught:
        ask(url, asked, **how)
    holds_no_secret(caught.value)
    return caught.value


def holds_no_secret(error: Trouble) -> None:
    shown = [str(error), repr(error), repr(error.args), repr(vars(error)), *traceback.format_exception(error)]
    for secret in (KEY, WORDS):
        assert not any(secret in text for text in shown)


# What happened, and what it means for us (MODEL-API, section 4).


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ("status=401", "The key is not accepted."),
        ("status=402", "Billing needs attention."),
        ("status=403", f"This key may not use {MODEL}."),
        ("status=404", f"{MODEL} is unknown here, or retired and not open to this key."),
        ("status=400;code=organization_on_hold", "Anthropic has suspended this organisation."),
        ("status=400;code=own_spend_limit", "Our spending limit is reached."),
        ("status=429;code=enforced_spend_limit_reached", "The organisation's monthly limit is reached."),
        ("status=429;code=contract_spend_limit_reached", "The organisation's monthly limit is reached."),
    ],
)
def test_says_that_the_voice_is_blocked_until_a_person_acts(stage: Rehearsal, fault: str, why: str) -> None:
    blocked = trouble(stage.url, request(fault))
    assert type(blocked) is VoiceBlocked
    assert blocked.why.startswith(why)
    assert f"HTTP {fault[7:10]} " in blocked.error
    assert "req_" in blocked.error


def test_says_how_a_retired_model_is_opened(stage: Rehearsal) -> None:
    gone = trouble(stage.url, request("status=404"))
    assert "by request only" in gone.why
    assert "External Researcher Access Program" in gone.why
    assert f"model: {MODEL}" in gone.error


@pytest.mark.parametrize(("retry_after", "seconds"), [("7", 7), ("0.25", 0.5), ("3599", 3599), (None, 10), ("0", 0.5)])
def test_says_how_long_the_rate_limit_lasts(stage: Rehearsal, retry_after: str | None, seconds: float) -> None:
    busy = trouble(stage.url, request("status=429" + (f";retry-after={retry_after}" if retry_after else "")))
    assert isinstance(busy, ModelBusy)
    assert (busy.why, busy.seconds) == ("Waiting for the rate limit.", seconds)


@pytest.mark.parametrize(
    ("retry_after", "seconds"),
    [
        (format_datetime(datetime(2000, 1, 1, tzinfo=UTC)), 0.5),
        (format_datetime(datetime(2099, 1, 1, tzinfo=UTC)), 3600),
        ("Mon, 01 Jan 2035 00:00:00 -0000", 10),
        ("inf", 3600),
        ("nan", 10),
        ("-5", 0.5),
        ("soon", 10),
        ("", 10),
    ],
)
def test_takes_a_wait_within_reason_whatever_the_api_says(retry_after: str, seconds: float) -> None:
    body = json.dumps({"type": "error", "error": {"type": "rate_limit_error", "message": "Slowly."}}).encode()
    with canned(body, status=429, retry_after=retry_after) as url:
        busy = trouble(url, request())
    assert isinstance(busy, ModelBusy)
    assert busy.seconds == seconds


@pytest.mark.parametrize("status", [408, 409, 500, 502, 503, 504, 599])
def test_says_that_the_api_is_failing(stage: Rehearsal, status: int) -> None:
    failing = trouble(stage.url, request(f"status={status}"))
    assert type(failing) is PassingTrouble
    assert (failing.why, failing.tries, failing.longest_wait) == ("The API is failing.", 3, 8)


def test_waits_longer_for_an_api_that_is_overloaded(stage: Rehearsal) -> None:
    busy = trouble(stage.url, request("status=529"))
    assert type(busy) is PassingTrouble
    assert (busy.why, busy.tries) == ("The API is overloaded.", 3)
    assert (busy.first_wait, busy.longest_wait) == (5, 60)


@pytest.mark.parametrize("fault", ["drop", "cut"])
def test_says_that_the_connection_was_lost(stage: Rehearsal, fault: str) -> None:
    lost = trouble(stage.url, request(fault))
    assert type(lost) is PassingTrouble
    assert (lost.why, lost.tries) == ("The API cannot be reached, or cut its answer off.", 3)
    assert lost.error


def test_says_that_nobody_answers_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    lost = trouble(f"http://127.0.0.1:{port}", request())
    assert type(lost) is PassingTrouble
    assert lost.why == "The API cannot be reached, or cut its answer off."
    assert "Connect" in lost.error
    assert not lost.may_be_billed


@pytest.mark.parametrize(
    ("fault", "billed"),
    [("status=500", False), ("status=529", False), ("status=408", True), ("drop", True), ("cut", True)],
)
def test_knows_what_may_have_been_billed(stage: Rehearsal, fault: str, billed: bool) -> None:
    assert trouble(stage.url, request(fault)).may_be_billed is billed


@pytest.mark.parametrize(
    ("fault", "timing", "seconds"),
    [
        ("hang", {"silence": 0.2}, "0.2"),
        ("hang", {"deadline": 0.3}, "0.3"),
        ("slow=60", {"silence": 0.2}, "0.2"),
        # Bytes keep coming, so that only the deadline ends it.
        ("drip=60", {"silence": 20, "deadline": 0.4}, "0.4"),
    ],
)
def test_gives_a_silent_api_up_and_tries_once_more(
    stage: Rehearsal, fault: str, timing: dict[str, float], seconds: str
) -> None:
    silent = trouble(stage.url, request(fault), **timing)
    assert type(silent) is PassingTrouble
    assert (silent.why, silent.tries) == (f"No answer within {seconds} s.", 2)


@pytest.mark.parametrize("fault", ["html", "bad-json", "holes"])
def test_says_that_the_answer_was_unreadable(stage: Rehearsal, fault: str) -> None:
    unreadable = trouble(stage.url, request(fault))
    assert type(unreadable) is Unreadable
    assert (unreadable.why, unreadable.tries) == ("The answer was unreadable.", 3)
    assert unreadable.may_be_billed
    assert unreadable.body is not None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'"a text"',
        b"12",
        b"{}",
        b'{"type": "message", "content": null, "usage": null}',
        b'{"type": "message", "content": "I rest.", "usage": {}}',
        b'{"type": "message", "model": 3, "content": [], "usage": {}}',
        b'{"type": "message", "content": [], "usage": []}',
        b"[" * 100_000,
        b"\xff\xfe",
    ],
)
def test_takes_no_strange_body_for_a_message(body: bytes) -> None:
    with canned(body) as url:
        assert type(trouble(url, request())) is Unreadable


@pytest.mark.parametrize(
    "part",
    [
        {"type": "text", "text": "half a pair: \ud800"},
        {"type": "text", "text": "NUL: \0"},
        {"type": "text", "text": 7},
        {"type": "text"},
        {"type": "tool_use", "id": 4, "name": "decline", "input": "not an object"},
        {"type": "tool_use", "id": "t", "name": "decline", "input": {"reason": "\ud800"}},
        {"type": "server_tool_use", "something": {"new": [1, None]}},
        {"no": "type"},
        "a text",
        None,
    ],
)
def test_reads_a_strange_part_without_falling_over(part: Any) -> None:
    body = json.dumps(message(part, usage={"input_tokens": "many"}) | {"content": [part]}).encode()
    with canned(body) as url:
        answer = ask(url, request())
    json.dumps(answer.message)
    if answer.outcome is Outcome.REPLIED:
        assert answer.text == part["text"]


def test_has_half_a_surrogate_pair_come_through_as_it_is() -> None:
    body = json.dumps(message("half a pair: \ud800")).encode()
    with canned(body) as url:
        assert ask(url, request()).text == "half a pair: \ud800"


def test_says_what_the_api_refused(stage: Rehearsal) -> None:
    refused = trouble(stage.url, request(max_tokens=4097))
    assert type(refused) is RequestRefused
    assert refused.why.startswith("The API refused our request: max_tokens")
    assert not refused.too_long


def test_says_that_the_request_has_broken_characters(stage: Rehearsal) -> None:
    before = len(stage.calls)
    refused = trouble(stage.url, request(words=f"{WORDS} \ud800"))
    assert type(refused) is RequestRefused
    assert refused.why == "The request has broken characters."
    assert len(stage.calls) == before


def test_says_that_the_thread_is_too_long(stage: Rehearsal) -> None:
    for asked in (request("status=413"), request(words=WORDS * 70_000)):
        refused = trouble(stage.url, asked)
        assert type(refused) is RequestRefused
        assert (refused.why, refused.too_long) == ("The thread is too long to send.", True)


def test_says_that_another_model_answered(stage: Rehearsal) -> None:
    answer = ask(stage.url, request("other-model"))
    assert answer.outcome is Outcome.UNEXPECTED
    assert answer.why == f"Another model answered: {answer.model}."
    assert answer.model != MODEL


@pytest.mark.parametrize(
    ("status", "body", "headers", "kind", "why"),
    [
        (302, b"", {"location": "http://127.0.0.1:9/v1/messages"}, VoiceBlocked, "127.0.0.1 sends us elsewhere"),
        (308, b"", {"location": "http://127.0.0.1:9/v1/messages"}, VoiceBlocked, "127.0.0.1 sends us elsewhere"),
        (400, b'{"error": "no such field"}', {}, RequestRefused, "The API refused our request: no such field"),
        (400, b'{"message": "Input is too long for requested model."}', {}, RequestRefused, "The thread is too long"),
        (418, b'[{"error": {"message": "I rest"}}]', {}, RequestRefused, "The API refused our request: I rest"),
        (422, b'{"error": {"message": ["?"], "type": {"a": 1}}}', {}, RequestRefused, "The API refused our request: "),
        (500, b"\xff", {}, PassingTrouble, "The API is failing."),
        (503, b"[]", {}, PassingTrouble, "The API is failing."),
        (403, b"null", {"x-amzn-errortype": "ExpiredTokenException:http"}, VoiceBlocked, "The key is not accepted."),
    ],
)
def test_makes_sense_of_errors_in_any_shape(
    status: int, body: bytes, headers: dict[str, str], kind: type[Trouble], why: str
) -> None:
    with standing_in(lambda _: Told(body, status, headers=headers)) as server:
        told = trouble(server.url, request())
        assert len(server.asked) == 1
    assert type(told) is kind
    assert told.why.startswith(why)
    assert told.status == status


@pytest.mark.parametrize(
    ("fault", "error_type", "code"),
    [
        ("status=400;code=organization_on_hold", "invalid_request_error", "organization_on_hold"),
        ("status=401", "authentication_error", None),
        ("status=429;code=enforced_spend_limit_reached", "rate_limit_error", "enforced_spend_limit_reached"),
        ("status=529", "overloaded_error", None),
    ],
)
def test_keeps_what_the_api_says_of_an_error(stage: Rehearsal, fault: str, error_type: str, code: str | None) -> None:
    told = trouble(stage.url, request(fault))
    assert (told.status, told.error_type, told.error_code) == (int(fault[7:10]), error_type, code)
    assert (told.request_id or "").startswith("req_")
    assert told.limits["requests"].limit == 10_000


def test_keeps_the_request_of_an_answer_that_was_unreadable(stage: Rehearsal) -> None:
    for fault in ("html", "bad-json", "holes"):
        told = trouble(stage.url, request(fault))
        assert (told.status, told.error_type) == (200, None)
        assert (told.request_id or "").startswith("req_")


def test_knows_no_status_of_a_call_that_nobody_answered(stage: Rehearsal) -> None:
    told = trouble(stage.url, request("drop"))
    assert (told.status, told.request_id, told.limits) == (None, None, {})


# What the API's headers say of its limits.


def test_brings_the_limits_with_the_answer(stage: Rehearsal) -> None:
    limits = ask(stage.url, request()).limits
    assert set(limits) == {"requests", "tokens", "input-tokens", "output-tokens"}
    for told in limits.values():
        assert 0 <= told.remaining <= told.limit
        assert 0 <= told.reset < 60
    assert limits["requests"].limit == 10_000


SENT = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("limit", "remaining", "reset", "seconds"),
    [
        ("50", "49", "2026-11-23T12:00:07Z", 7),
        ("50", "0", "2026-11-23T13:00:01.5+01:00", 1.5),
        ("50", "50", "2026-11-23T11:00:00Z", 0),
        ("50", "51", "2026-11-23T12:00:07Z", None),
        ("0", "0", "2026-11-23T12:00:07Z", None),
        ("-1", "0", "2026-11-23T12:00:07Z", None),
        ("many", "1", "2026-11-23T12:00:07Z", None),
        ("1_000", "1", "2026-11-23T12:00:07Z", None),
        ("9" * 400, "1", "2026-11-23T12:00:07Z", None),
        ("50", "", "2026-11-23T12:00:07Z", None),
        ("50", "1", "2026-11-23T12:00:07", None),
        ("50", "1", "9999-12-31T23:59:59-23:59", None),
        ("50", "1", "soon", None),
        ("50", "1", "7", None),
    ],
)
def test_reads_a_limit_by_the_clock_of_who_tells_it(limit: str, remaining: str, reset: str, seconds: float) -> None:
    name = "anthropic-ratelimit-input-tokens"
    headers = {f"{name}-limit": limit, f"{name}-remaining": remaining, f"{name}-reset": reset}
    told = claude.rate_limits({**headers, "date": format_datetime(SENT, usegmt=True)})
    if seconds is None:
        assert told == {}
    else:
        assert told == {"input-tokens": Allowance(int(limit), int(remaining), seconds)}


@pytest.mark.parametrize("date", ["", "yesterday", "Mon, 99 Nov 2026"])
def test_reads_a_limit_by_our_clock_for_want_of_another(date: str) -> None:
    reset = (datetime.now(UTC) + timedelta(seconds=30)).isoformat()
    headers = {f"anthropic-ratelimit-tokens-{what}": "5" for what in ("limit", "remaining")}
    told = claude.rate_limits({**headers, "anthropic-ratelimit-tokens-reset": reset, "date": date})
    assert 25 < told["tokens"].reset <= 30


def test_waits_by_the_clock_of_who_asks_for_it() -> None:
    error = {"type": "error", "error": {"type": "rate_limit_error", "message": "Slowly."}}
    dates = {"date": format_datetime(SENT, usegmt=True), "retry_after": format_datetime(SENT + timedelta(seconds=42))}
    with standing_in(lambda _: as_json(error, 429, **dates)) as server:
        busy = trouble(server.url, request())
    assert isinstance(busy, ModelBusy)
    assert busy.seconds == 42


# What a prompt counts.


def counted(url: str, **how: Any) -> int | None:
    decline = {"name": "decline", "description": "Rest.", "input_schema": {"type": "object", "properties": {}}}
    asked = request(system=[{"type": "text", "text": "You rest."}], tools=[decline], tool_choice={"type": "auto"})
    return on_one(url, lambda model: model.count(asked, api_version="2023-06-01"), **how)


def test_counts_the_tokens_of_a_prompt(stage: Rehearsal) -> None:
    tokens = counted(stage.url)
    assert tokens is not None
    assert tokens > 0


def test_counts_without_what_the_api_does_not_take_there() -> None:
    with standing_in(lambda _: as_json({"input_tokens": 17})) as server:
        assert counted(server.url) == 17
        [asked] = server.asked
    assert asked.path == "/v1/messages/count_tokens"
    assert set(asked.told) == {"model", "system", "tools", "tool_choice", "messages"}
    assert asked.headers["anthropic-version"] == "2023-06-01"


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500])
def test_goes_without_a_count_where_none_is_served(status: int) -> None:
    with canned(b'{"error": {"message": "No."}}', status=status) as url:
        assert counted(url) is None


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b"{}", b'{"input_tokens": 0}', b'{"input_tokens": true}', b'{"input_tokens": "9"}']
)
def test_goes_without_a_count_that_is_none(body: bytes) -> None:
    with canned(body) as url:
        assert counted(url) is None


def test_goes_without_a_count_that_takes_long() -> None:
    waited = threading.Event()

    def slow(_: Asked) -> Told:
        waited.wait(10)
        return as_json({"input_tokens": 17})

    with standing_in(slow) as server:
        try:
            assert counted(server.url, deadline=0.2) is None
        finally:
            waited.set()


# How it asks.


def test_sends_nothing_where_nobody_is_to_be_asked(stage: Rehearsal) -> None:
    before = len(stage.calls)
    with pytest.raises(VoiceBlocked, match=r"^No key is set\.$"):
        on_one(
            stage.url,
            lambda model: model.ask(request(), api_version=None, extra_body=None),
            blocked="No key is set.",
        )
    assert counted(stage.url, blocked="No key is set.") is None
    assert len(stage.calls) == before


def test_names_host_and_model_and_no_key() -> None:
    model = Claude(api_key=KEY, base_url="http://127.0.0.1:9/proxy", rehearsed=False)
    assert model.who(MODEL) == f"127.0.0.1:9 {MODEL}"
    assert Claude(api_key=KEY, base_url="https://api.example", rehearsed=False).who(MODEL) == f"api.example {MODEL}"


@pytest.mark.parametrize("fault", ["status=429;retry-after=0", "status=500", "status=529", "drop", "hang", "bad-json"])
def test_asks_once_and_never_by_itself_again(stage: Rehearsal, fault: str) -> None:
    before = len(stage.calls)
    trouble(stage.url, request(fault), silence=0.3)
    assert len(stage.calls) == before + 1


@pytest.mark.parametrize(
    ("version", "sent"), [(None, claude.SDK_API_VERSION), ("2023-06-01", "2023-06-01"), ("", claude.SDK_API_VERSION)]
)
def test_names_the_voices_own_api_version(stage: Rehearsal, version: str | None, sent: str) -> None:
    answer = ask(stage.url, request(), api_version=version)
    assert answer.outcome is Outcome.REPLIED
    assert stage.calls[-1].headers["anthropic-version"] == sent
    origin = Claude(api_key=KEY, base_url=stage.url, rehearsed=False).origin(version)
    assert (origin.api_version, origin.host) == (sent, "127.0.0.1")
    assert origin.sdk_version == anthropic.__version__


def test_sends_what_else_a_voice_has_in_its_body(stage: Rehearsal) -> None:
    ask(stage.url, request(), api_version="2023-06-01", extra_body={"temperature": 0.5})
    sent = stage.calls[-1].body
    assert isinstance(sent, dict)
    assert sent == {**request(), "temperature": 0.5}


def test_knows_a_rehearsal_by_its_answer(stage: Rehearsal) -> None:
    assert ask(stage.url, request(), rehearsed=False).rehearsed
    with canned(json.dumps(message("I rest.")).encode()) as url:
        assert not ask(url, request(), rehearsed=False).rehearsed
        assert ask(url, request(), rehearsed=True).rehearsed


def test_brings_ids_and_tokens_with_the_answer(stage: Rehearsal) -> None:
    answer = ask(stage.url, request())
    assert answer.usage is not None
    assert min(answer.usage.fresh, answer.usage.output) > 0
    assert (answer.message_id or "").startswith("msg_")
    assert (answer.request_id or "").startswith("req_")
    assert WORDS in (answer.text or "")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ANTHROPIC_BASE_URL", "http://127.0.0.1:9"),
        ("ANTHROPIC_API_KEY", "another-key"),
        ("ANTHROPIC_AUTH_TOKEN", "another-token"),
        ("ANTHROPIC_PROFILE", "nobody"),
    ],
)
def test_is_led_by_no_variable_of_the_sdks(
    stage: Rehearsal, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    assert ask(stage.url, request()).outcome is Outcome.REPLIED


def test_sends_its_own_key_and_no_header_of_the_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_CUSTOM_HEADERS", "authorization: Bearer other\nx-other: OTHER-CANARY")
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "OTHER-CANARY")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "")
    with standing_in(lambda _: as_json(message("I rest."))) as server:
        assert ask(server.url, request()).text == "I rest."
        [asked] = server.asked
    assert asked.headers["authorization"] == f"Bearer {KEY}"
    assert "OTHER-CANARY" not in str(asked.headers)
    assert os.environ["ANTHROPIC_AUTH_TOKEN"] == "OTHER-CANARY"


def test_is_led_by_no_profile_at_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    profile = {"base_url": "http://127.0.0.1:9", "api_key": "OTHER-CANARY", "auth_token": "OTHER-CANARY"}
    for folder in (tmp_path, tmp_path / ".config" / "anthropic"):
        (folder / "configs").mkdir(parents=True)
        (folder / "configs" / "default.json").write_text(json.dumps(profile))
    monkeypatch.setenv("ANTHROPIC_CONFIG_DIR", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    with standing_in(lambda _: as_json(message("I rest."))) as server:
        assert ask(server.url, request()).text == "I rest."
        assert "OTHER-CANARY" not in str(server.asked)


def test_asks_no_proxy_for_this_machine(stage: Rehearsal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_PROXY")
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert ask(stage.url, request()).outcome is Outcome.REPLIED


def test_asks_the_proxy_for_every_other(monkeypatch: pytest.MonkeyPatch) -> None:
    with standing_in(lambda _: as_json(message("I rest."))) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        assert ask("http://letters.invalid", request()).text == "I rest."
        assert proxy.asked[0].path.startswith("http://letters.invalid/")


def test_logs_no_words_where_the_environment_asks_for_all() -> None:
    code = (
        "import asyncio, logging, sys\n"
        "from workers.claude import Claude\n"
        "async def once():\n"
        "    async with Claude(api_key=sys.argv[2], base_url=sys.argv[1], rehearsed=False) as model:\n"
        "        said = {'model': 'm', 'max_tokens': 1, 'messages': [{'role': 'user', 'content': sys.argv[3]}]}\n"
        "        await model.ask(said, api_version=None, extra_body=None)\n"
        "asyncio.run(once())\n"
        "logging.getLogger('tried').error('It was tried.')\n"
    )
    with standing_in(lambda _: as_json(message("I rest.", model="m"))) as server:
        done = subprocess.run(
            [sys.executable, "-c", code, server.url, KEY, WORDS],
            env={**os.environ, "ANTHROPIC_LOG": "debug"},
            capture_output=True,
            text=True,
            check=True,
        )
        assert WORDS.encode() in server.asked[0].body
    assert "It was tried." in done.stderr
    assert not any(secret in done.stderr + done.stdout for secret in (KEY, WORDS))


def test_logs_no_words_and_no_key_even_where_the_sdk_was_told_to(
    stage: Rehearsal, caplog: pytest.LogCaptureFixture
) -> None:
    assert logging.getLogger("anthropic").level == logging.WARNING
    with caplog.at_level(logging.DEBUG):
        ask(stage.url, request())
        for fault in ("status=401", "status=529", "drop", "html", "bad-json", "holes"):
            trouble(stage.url, request(fault))
    shown = caplog.text + "".join(str(vars(record)) for record in caplog.records)
    assert WORDS not in shown
    assert KEY not in shown


# doctor's question


def test_tries_a_model_by_the_smallest_call(stage: Rehearsal) -> None:
    answer = on_one(stage.url, lambda model: model.try_out(MODEL, api_version="2023-06-01"))
    assert answer.rehearsed
    call = stage.calls[-1]
    assert isinstance(call.body, dict)
    assert (call.body["max_tokens"], call.headers["anthropic-version"]) == (1, "2023-06-01")


def test_tells_a_model_that_is_not_served(stage: Rehearsal) -> None:
    with pytest.raises(VoiceBlocked) as gone:
        on_one(stage.url, lambda model: model.try_out("claude-nobody", api_version=None))
    assert gone.value.why.startswith("claude-nobody is unknown here, or retired and not open to this key.")
    assert "What waits keeps waiting." in gone.value.why
