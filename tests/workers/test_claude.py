import asyncio
import json
import logging
import socket
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from ground.workshop import MODEL, message

from bridge.model import (
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


def trouble(url: str, asked: dict[str, Any], **how: Any) -> Trouble:
    with pytest.raises(Trouble) as caught:
        ask(url, asked, **how)
    holds_no_secret(caught.value)
    return caught.value


def holds_no_secret(error: Trouble) -> None:
    shown = [str(error), repr(error), repr(error.args), repr(vars(error)), *traceback.format_exception(error)]
    for secret in (KEY, WORDS):
        assert not any(secret in text for text in shown)


@contextmanager
def canned(body: bytes, content_type: str = "application/json", status: int = 200, **headers: str) -> Iterator[str]:
    """Serve an API that has one answer to everything."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(status)
            self.send_header("content-type", content_type)
            self.send_header("content-length", str(len(body)))
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


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


# How it asks.


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


def serves(url: str, model: str = MODEL) -> tuple[bool, str]:
    async def once() -> tuple[bool, str]:
        async with Claude(api_key=KEY, base_url=url, rehearsed=False) as asked:
            return await asked.serves(model)

    return asyncio.run(once())


def test_tries_a_model_by_the_smallest_call(stage: Rehearsal) -> None:
    served, told = serves(stage.url)
    assert served
    assert told.startswith(f"The rehearsal answers for {MODEL} (")
    sent = stage.calls[-1].body
    assert isinstance(sent, dict)
    assert sent["max_tokens"] == 1


def test_says_that_the_model_itself_answers() -> None:
    with canned(json.dumps(message("I", stop="max_tokens")).encode()) as url:
        assert serves(url) == (True, f"{MODEL} answers (1010 tokens).")


def test_says_that_a_model_is_not_served(stage: Rehearsal) -> None:
    served, told = serves(stage.url, "claude-nobody")
    assert not served
    assert told.startswith("claude-nobody is unknown here, or retired and not open to this key.")
    assert "What waits keeps waiting." in told
