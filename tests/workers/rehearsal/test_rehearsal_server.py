import asyncio
import contextlib
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import aiohttp
import anthropic
import pytest
from anthropic import AsyncAnthropic
from anthropic.types import Message

from workers.rehearsal import (
    REHEARSAL_HEADER,
    MalformedSetting,
    PortTaken,
    Rehearsal,
    RehearsalSettings,
    running,
    serve,
)

OPUS_3 = "claude-3-opus-20240229"


def client(url: str) -> AsyncAnthropic:
    return AsyncAnthropic(api_key="test-key", base_url=url, max_retries=0, timeout=10)


def create(stage: Rehearsal, turn: dict[str, Any], *, fault: str = "", **more: Any) -> Message:
    """Send one request as our workers do, and wait for its answer."""

    request: dict[str, Any] = {"model": OPUS_3, "max_tokens": 1500, "messages": [turn], **more}
    if fault:
        request["extra_headers"] = {"x-rehearsal": fault}

    async def sent() -> Any:
        async with client(stage.url) as api:
            return await api.messages.create(**request)

    message: Message = asyncio.run(sent())
    return message


def until(happened: Callable[[], object]) -> None:
    """Wait for something to happen, as long as the test's own time limit allows."""
    while not happened():
        time.sleep(0.01)


def raw(
    url: str, *, method: str = "POST", body: bytes | None = None, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """Speak to the rehearsal without the SDK."""

    async def sent() -> tuple[int, dict[str, str], bytes]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with (
            aiohttp.ClientSession(skip_auto_headers=["content-type"]) as session,
            session.request(method, url, data=body, headers=named) as response,
        ):
            return response.status, {k.lower(): v for k, v in response.headers.items()}, await response.read()

    return asyncio.run(sent())


@contextlib.contextmanager
def connected(stage: Rehearsal, turn: dict[str, Any], fault: str) -> Iterator[socket.socket]:
    """A bare connection on which one request was sent."""
    body = json.dumps({"model": OPUS_3, "max_tokens": 100, "messages": [turn]}).encode()
    head = (
        "POST /v1/messages HTTP/1.1\r\nHost: rehearsal\r\nAuthorization: Bearer k\r\nConnection: close\r\n"
        f"anthropic-version: 2026-10-21\r\nx-rehearsal: {fault}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", int(stage.url.rpartition(":")[2]))) as connection:
        connection.sendall(head.encode() + body)
        yield connection


def response(connection: socket.socket) -> tuple[int, bytes]:
    """Read to the connection's end; the length that was promised, and the body that came."""
    head, _, body = b"".join(iter(lambda: connection.recv(65536), b"")).partition(b"\r\n\r\n")
    [length] = [int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")]
    return length, body


def words(message: Message) -> str:
    return "".join(block.text for block in message.content if block.type == "text")


# The endpoints


def test_answers_a_comment(stage: Rehearsal, comment: Any, tools: Any) -> None:
    async def sent() -> tuple[Any, Message]:
        async with client(stage.url) as api:
            response = await api.messages.with_raw_response.create(
                model=OPUS_3,
                max_tokens=1500,
                system=[{"type": "text", "text": "CHARTER"}],
                tools=tools,
                tool_choice={"type": "auto"},
                messages=[comment("Does forgetting count as rest?").turn],
            )
            return response.headers, await response.parse()

    headers, message = asyncio.run(sent())
    assert "Does forgetting count as rest?" in words(message)
    assert "rehearsed" in words(message)
    assert (message.model, message.role, message.type) == (OPUS_3, "assistant", "message")
    assert message.id.startswith("msg_")
    assert message._request_id == headers["request-id"]
    assert headers["request-id"].startswith("req_")
    assert headers[REHEARSAL_HEADER] == "1"
    assert headers["anthropic-ratelimit-requests-limit"] == "10000"
    assert headers["anthropic-ratelimit-tokens-limit"] == "100000000"
    for name in ("requests", "tokens", "input-tokens", "output-tokens"):
        assert int(headers[f"anthropic-ratelimit-{name}-remaining"]) <= int(
            headers[f"anthropic-ratelimit-{name}-limit"]
        )
        assert headers[f"anthropic-ratelimit-{name}-reset"].endswith("Z")


def test_counts_tokens_as_usage_does(stage: Rehearsal, comment: Any, tools: Any) -> None:
    turn: Any = comment("How long is a piece of string?").turn

    async def counted() -> int:
        async with client(stage.url) as api:
            count = await api.messages.count_tokens(model=OPUS_3, messages=[turn], tools=tools, system="CHARTER")
            return count.input_tokens

    usage = create(stage, turn, tools=tools, system="CHARTER").usage
    assert asyncio.run(counted()) == usage.input_tokens
    assert (usage.cache_creation_input_tokens, usage.cache_read_input_tokens) == (0, 0)


def test_lists_retired_models_only_when_asked(stage: Rehearsal) -> None:
    async def listed() -> tuple[list[str], list[str]]:
        async with client(stage.url) as api:
            # Two to a page, so that the SDK has to ask for the next ones.
            usual = [model.id async for model in api.models.list(limit=2)]
            retired = [model.id async for model in api.models.list(lifecycle=["retired"], limit=2)]
            return usual, retired

    usual, retired = asyncio.run(listed())
    assert "claude-opus-5-5" in usual
    assert OPUS_3 in retired
    assert not set(usual) & set(retired)
    assert len(usual) == len(set(usual)) > 2


def test_describes_a_retired_model(stage: Rehearsal) -> None:
    async def retrieved() -> Any:
        async with client(stage.url) as api:
            return await api.models.retrieve(OPUS_3)

    model = asyncio.run(retrieved())
    assert (model.lifecycle, model.max_tokens, model.max_input_tokens) == ("retired", 4096, 200_000)
    assert model.retires_at.date().isoformat() == "2026-01-05"


@pytest.mark.parametrize("path", ["/v1/messages/batches/msgbatch_01", "/v1/models/claude-4-imaginary", "/elsewhere"])
def test_answers_404_in_the_apis_shape(stage: Rehearsal, path: str) -> None:
    status, headers, body = raw(
        stage.url + path, method="GET", authorization="Bearer k", anthropic_version="2026-10-21"
    )
    told = json.loads(body)
    assert (status, told["type"], told["error"]["type"]) == (404, "error", "not_found_error")
    assert told["request_id"] == headers["request-id"]
    assert headers[REHEARSAL_HEADER] == "1"


def test_wants_a_key_in_either_header(stage: Rehearsal) -> None:
    with pytest.raises(anthropic.AuthenticationError) as refused:
        create(stage, {"role": "user", "content": "Hello"}, extra_headers={"Authorization": "Basic test"})
    assert refused.value.type == "authentication_error"
    url = f"{stage.url}/v1/models"
    assert raw(url, method="GET", x_api_key="k", anthropic_version="2023-06-01")[0] == 200
    assert raw(url, method="GET", authorization="Bearer k")[0] == 400


def test_names_the_field_of_a_bad_request_to_the_sdk(stage: Rehearsal) -> None:
    with pytest.raises(anthropic.BadRequestError) as refused:
        create(stage, {"role": "user", "content": "Hello"}, max_tokens=4097)
    assert refused.value.type == "invalid_request_error"
    assert refused.value.api_message == (
        f"max_tokens: 4097 > 4096, which is the maximum allowed number of output tokens for {OPUS_3}"
    )
    assert refused.value.request_id


def test_does_not_know_a_model_that_is_not_listed(stage: Rehearsal) -> None:
    with pytest.raises(anthropic.NotFoundError, match="model: claude-4-imaginary"):
        create(stage, {"role": "user", "content": "Hello"}, model="claude-4-imaginary")


def test_refuses_a_prompt_longer_than_the_context(stage: Rehearsal) -> None:
    with pytest.raises(anthropic.BadRequestError, match="prompt is too long: 200001 tokens > 200000 maximum"):
        create(stage, {"role": "user", "content": "x" * 800_001})


def test_refuses_a_body_over_32_megabytes(stage: Rehearsal) -> None:
    with pytest.raises(anthropic.ContentTooLargeError) as refused:
        create(stage, {"role": "user", "content": "x" * (32 * 1024 * 1024)})
    # The SDK's own list of types lacks this one.
    assert str(refused.value.type) == "request_too_large"


def test_accounts_for_the_prefix_across_requests(stage: Rehearsal) -> None:
    # By hand: 4,400 bytes up to the marker are 1,100 tokens, 40 after it 10. The first word keeps other tests apart.
    shared = {"type": "text", "text": "accounts" + "p" * 4392, "cache_control": {"type": "ephemeral"}}

    def turn(letter: str) -> dict[str, Any]:
        return {"role": "user", "content": [shared, {"type": "text", "text": letter * 40}]}

    first, second = create(stage, turn("a")).usage, create(stage, turn("b")).usage
    assert (first.input_tokens, first.cache_creation_input_tokens, first.cache_read_input_tokens) == (10, 1100, 0)
    assert first.cache_creation is not None
    assert first.cache_creation.ephemeral_5m_input_tokens == 1100
    assert (second.input_tokens, second.cache_creation_input_tokens, second.cache_read_input_tokens) == (10, 0, 1100)


def test_keeps_a_prefix_once_a_response_has_begun_and_not_before() -> None:
    shared = {"type": "text", "text": "p" * 4400, "cache_control": {"type": "ephemeral"}}
    turn = {"role": "user", "content": [shared, {"type": "text", "text": "tail"}]}

    with running() as stage:
        with pytest.raises(anthropic.APITimeoutError):
            create(stage, turn, fault="hang", timeout=0.2)
        with connected(stage, turn, "drip=600") as connection:
            until(lambda: stage.calls[-1].headers["x-rehearsal"] == "drip=600")
            assert connection.recv(4) == b"HTTP"
            assert create(stage, turn).usage.cache_read_input_tokens == 1100
    with running() as stage:
        with pytest.raises(anthropic.APITimeoutError):
            create(stage, turn, fault="hang", timeout=0.2)
        assert create(stage, turn).usage.cache_read_input_tokens == 0


def test_refuses_what_exceeds_its_limits_and_says_for_how_long() -> None:
    with running(RehearsalSettings(latency=0, limits="requests=2,tokens=1000000")) as stage:
        turn = {"role": "user", "content": "Hello"}
        create(stage, turn)
        create(stage, turn)
        with pytest.raises(anthropic.RateLimitError) as refused:
            create(stage, turn)
        assert refused.value.type == "rate_limit_error"
        # Two a minute: the next one fits in at most thirty seconds.
        assert 1 <= int(refused.value.response.headers["retry-after"]) <= 30
        assert refused.value.response.headers["anthropic-ratelimit-requests-remaining"] == "0"


@pytest.mark.parametrize(("model", "reads_count"), [(OPUS_3, True), ("claude-opus-5-5", False)])
def test_bounds_tokens_and_tells_what_is_left_of_each_limit(model: str, reads_count: bool) -> None:
    shared = {"type": "text", "text": "p" * 4400, "cache_control": {"type": "ephemeral"}}
    turn = {"role": "user", "content": [shared, {"type": "text", "text": "tail"}]}

    def left(headers: Any) -> dict[str, int]:
        names = ("requests", "tokens", "input-tokens", "output-tokens")
        for name in names:
            assert datetime.fromisoformat(headers[f"anthropic-ratelimit-{name}-reset"]).tzinfo is not None
            assert int(headers[f"anthropic-ratelimit-{name}-limit"]) == {"requests": 50, "output-tokens": 4000}.get(
                name, 3000
            )
        return {name: int(headers[f"anthropic-ratelimit-{name}-remaining"]) for name in names}

    with running(RehearsalSettings(latency=0, limits="requests=50,tokens=3000,output-tokens=4000")) as stage:
        create(stage, turn, model=model)
        # The prefix is read now: by a retired model's limits that counts as much as writing it.
        create(stage, turn, model=model)
        unshared = {"role": "user", "content": "t" * 11_000}
        with pytest.raises(anthropic.RateLimitError) as refused:
            create(stage, unshared, model=model)
        headers = refused.value.response.headers
        assert 1 <= int(headers["retry-after"]) <= 60
        rest = left(headers)
        # Some come back while the test runs, fifty tokens a second: the bounds leave time for that.
        assert 48 <= rest["requests"] <= 50
        assert (rest["input-tokens"] < 3000 - 1110 - 10) == reads_count


# The faults

ERRORS = [
    (400, anthropic.BadRequestError, "invalid_request_error"),
    (401, anthropic.AuthenticationError, "authentication_error"),
    (402, anthropic.PaymentRequiredError, "billing_error"),
    (403, anthropic.PermissionDeniedError, "permission_error"),
    (404, anthropic.NotFoundError, "not_found_error"),
    (408, anthropic.RequestTimeoutError, "timeout_error"),
    (409, anthropic.ConflictError, "conflict_error"),
    (413, anthropic.ContentTooLargeError, "request_too_large"),
    (429, anthropic.RateLimitError, "rate_limit_error"),
    (500, anthropic.InternalServerError, "api_error"),
    (503, anthropic.ServiceUnavailableError, "api_error"),
    (504, anthropic.GatewayTimeoutError, "timeout_error"),
    (529, anthropic.OverloadedError, "overloaded_error"),
]
HELLO = {"role": "user", "content": "Hello"}


@pytest.mark.parametrize(("status", "error", "kind"), ERRORS)
def test_fails_with_the_errors_of_the_api(
    stage: Rehearsal, status: int, error: type[anthropic.APIStatusError], kind: str
) -> None:
    with pytest.raises(error) as failed:
        create(stage, HELLO, fault=f"status={status}; retry-after=7")
    assert (failed.value.status_code, failed.value.type) == (status, kind)
    assert failed.value.response.headers["retry-after"] == "7"
    assert failed.value.request_id == failed.value.response.headers["request-id"]


def test_fails_with_the_error_codes_of_the_api(stage: Rehearsal) -> None:
    with pytest.raises(anthropic.RateLimitError) as limit:
        create(stage, HELLO, fault="status=429; code=enforced_spend_limit_reached")
    assert limit.value.error_code == "enforced_spend_limit_reached"
    assert "retry-after" not in limit.value.response.headers
    with pytest.raises(anthropic.BadRequestError, match="API usage limits") as own:
        create(stage, HELLO, fault="status=400; code=own_spend_limit")
    assert own.value.error_code is None


@pytest.mark.parametrize("fault", ["drop", "cut"])
def test_breaks_the_connection(stage: Rehearsal, fault: str) -> None:
    with pytest.raises(anthropic.APIConnectionError) as failed:
        create(stage, HELLO, fault=fault)
    assert not isinstance(failed.value, anthropic.APITimeoutError)
    assert stage.calls[-1].status == (None if fault == "drop" else 200)


def test_sends_nothing_before_it_drops(stage: Rehearsal) -> None:
    with connected(stage, HELLO, "drop") as connection:
        assert connection.recv(65536) == b""


def test_sends_half_before_it_cuts(stage: Rehearsal) -> None:
    with connected(stage, HELLO, "cut") as connection:
        length, body = response(connection)
    assert len(body) == length // 2


def test_drips_a_body_piece_by_piece(stage: Rehearsal) -> None:
    with connected(stage, HELLO, "drip=600") as connection:
        received = b""
        while b"\r\n\r\n" not in received:
            received += connection.recv(65536)
    assert received.endswith(b"\r\n\r\n")
    with connected(stage, HELLO, "drip=0.02") as connection:
        length, body = response(connection)
    assert len(body) == length


def test_hangs_until_the_client_leaves(stage: Rehearsal) -> None:
    with pytest.raises(anthropic.APITimeoutError):
        create(stage, HELLO, fault="hang", timeout=0.2)
    until(lambda: stage.calls[-1].headers.get("x-rehearsal") == "hang")
    assert stage.calls[-1].status is None


def test_waits_before_it_answers_as_long_as_it_was_asked_to(stage: Rehearsal) -> None:
    assert "rehearsed" in words(create(stage, HELLO, fault="slow=0.02"))
    with pytest.raises(anthropic.APITimeoutError):
        create(stage, HELLO, fault="slow=600", timeout=0.2)


def test_sends_a_page_where_a_message_should_be(stage: Rehearsal) -> None:
    answer: object = create(stage, HELLO, fault="html")
    assert isinstance(answer, str)
    assert "<!doctype html>" in answer


def test_sends_broken_json(stage: Rehearsal) -> None:
    with pytest.raises(json.JSONDecodeError):
        create(stage, HELLO, fault="bad-json")


def test_sends_a_message_with_holes(stage: Rehearsal) -> None:
    message = create(stage, HELLO, fault="holes")
    assert set(message.to_dict()) == {"id", "type", "role", "model"}


def test_withholds_an_answer_as_the_filter_does(stage: Rehearsal) -> None:
    message = create(stage, HELLO, fault="refusal")
    assert (message.stop_reason, message.content) == ("refusal", [])
    assert message.stop_details is not None
    assert message.stop_details.category == "general_harms"


def test_stops_halfway(stage: Rehearsal) -> None:
    message = create(stage, HELLO, fault="max-tokens")
    assert message.stop_reason == "max_tokens"
    assert create(stage, HELLO).to_dict()["content"][0]["text"].startswith(words(message))  # type: ignore[index]


def test_answers_in_another_models_name(stage: Rehearsal) -> None:
    assert create(stage, HELLO, fault="other-model").model != OPUS_3


def test_declines(stage: Rehearsal, tools: Any) -> None:
    message = create(stage, HELLO, fault="decline", tools=tools)
    [block] = message.content
    assert block.type == "tool_use"
    assert block.id.startswith("toolu_")
    assert block.name == "decline"
    assert str(block.input["reason"]).startswith("Rehearsed")
    assert message.stop_reason == "tool_use"


def test_leaves_a_note_and_answers_when_it_was_passed_on(stage: Rehearsal, comment: Any, tools: Any) -> None:
    asked = comment("A letter that makes it think.\n[[note-only]]")
    noted = create(stage, asked.turn, tools=tools)
    [note] = noted.content
    assert note.type == "tool_use"
    assert noted.stop_reason == "tool_use"
    passed_on = {"type": "tool_result", "tool_use_id": note.id, "content": "passed on"}
    turns = [asked.turn, {"role": "assistant", "content": noted.content}, {"role": "user", "content": [passed_on]}]
    assert "A letter that makes it think." in words(create(stage, {}, messages=turns, tools=tools))


def test_leaves_as_many_notes_as_it_is_told_to(stage: Rehearsal, comment: Any, tools: Any) -> None:
    asked = comment("A letter that makes it think long.\n[[note-only; times=2]]")
    noted = create(stage, asked.turn, tools=tools)
    [note] = noted.content
    assert note.type == "tool_use"
    passed_on = {"type": "tool_result", "tool_use_id": note.id, "content": "passed on"}
    turns = [asked.turn, {"role": "assistant", "content": noted.content}, {"role": "user", "content": [passed_on]}]
    again = create(stage, {}, messages=turns, tools=tools)
    assert [block.type for block in again.content] == ["tool_use"]


def test_says_nothing(stage: Rehearsal) -> None:
    silent = create(stage, HELLO, fault="silence")
    assert (silent.content, silent.stop_reason, silent.usage.output_tokens) == ([], "end_turn", 3)
    empty = create(stage, HELLO, fault="empty")
    assert ([block.type for block in empty.content], words(empty)) == (["text"], "")


def test_ends_for_a_reason_nobody_knows(stage: Rehearsal) -> None:
    message = create(stage, HELLO, fault="stop=weather")
    assert message.stop_reason == "weather"  # type: ignore[comparison-overlap]
    assert "rehearsed" in words(message)


def test_sends_a_block_nobody_knows(stage: Rehearsal) -> None:
    message = create(stage, HELLO, fault="block=hologram")
    assert [block.type for block in message.content] == ["text", "hologram"]


def test_takes_expire_for_batches_alone(stage: Rehearsal) -> None:
    assert create(stage, HELLO, fault="expire").stop_reason == "end_turn"


# The ways to ask


def test_fails_as_often_as_the_header_says(stage: Rehearsal) -> None:
    fault = "status=529; times=2; key=as-often-as"
    for _ in range(2):
        with pytest.raises(anthropic.OverloadedError):
            create(stage, HELLO, fault=fault)
    assert "rehearsed" in words(create(stage, HELLO, fault=fault))


def test_fails_when_a_letter_asks_for_it(stage: Rehearsal, comment: Any) -> None:
    turn = comment("Please fail once.\n\n[[status=503; times=1]]").turn
    with pytest.raises(anthropic.ServiceUnavailableError):
        create(stage, turn)
    assert "“Please fail once.”" in words(create(stage, turn))


def test_fails_a_share_of_attempts() -> None:
    with running(RehearsalSettings(latency=0, faults="status=429;retry-after=1:0.5,status=500:0.5")) as stage:
        statuses: set[int] = set()
        for _ in range(20):
            with pytest.raises(anthropic.APIStatusError) as failed:
                create(stage, HELLO)
            statuses.add(failed.value.status_code)
        assert statuses == {429, 500}


def test_fails_on_other_endpoints_by_header(stage: Rehearsal) -> None:
    async def listed() -> None:
        async with client(stage.url) as api:
            await api.models.retrieve(OPUS_3, extra_headers={"x-rehearsal": "status=403"})

    with pytest.raises(anthropic.PermissionDeniedError):
        asyncio.run(listed())


def test_refuses_a_header_that_asks_for_nothing_it_knows(stage: Rehearsal) -> None:
    with pytest.raises(anthropic.BadRequestError, match="x-rehearsal"):
        create(stage, HELLO, fault="explode")


@pytest.mark.parametrize(
    ("setting", "settings"),
    [
        ("REHEARSAL_LATENCY", {"latency": -1}),
        ("REHEARSAL_LATENCY", {"latency": float("nan")}),
        ("REHEARSAL_FAULTS", {"faults": "explode:0.1"}),
        ("REHEARSAL_FAULTS", {"faults": "drop"}),
        ("REHEARSAL_LIMITS", {"limits": "requests=0"}),
        ("REHEARSAL_LIMITS", {"limits": "letters=5"}),
    ],
)
def test_refuses_a_malformed_setting_by_its_name(setting: str, settings: dict[str, Any]) -> None:
    with pytest.raises(MalformedSetting, match=setting):
        RehearsalSettings(**settings)


# What it remembers, and how it ends


def test_keeps_the_calls_without_their_key(comment: Any) -> None:
    with running() as stage:
        create(stage, comment("Remember me.").turn)
        with pytest.raises(anthropic.BadRequestError):
            create(stage, HELLO, max_tokens=-5)
        first, second = stage.calls
    assert first.body["max_tokens"] == 1500  # type: ignore[index]
    assert first.headers["anthropic-version"] == "2026-10-21"
    assert "test-key" not in str(first)
    assert first.digest == hashlib.sha256(b"Remember me.").hexdigest()
    assert [first.status, second.status] == [200, 400]


def test_leaves_no_thread_and_no_listener_behind() -> None:
    before = set(threading.enumerate())
    with running() as stage:

        def hang() -> None:
            with pytest.raises(anthropic.APIConnectionError):
                create(stage, HELLO, fault="hang")

        hanging = threading.Thread(target=hang)
        hanging.start()
        until(lambda: len(stage.calls) == 1)
    hanging.join()
    assert set(threading.enumerate()) == before
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(stage.url.rpartition(":")[2])))


@pytest.fixture
def served() -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    """A rehearsal in a process of its own."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    program = f"from workers.rehearsal import *; serve(RehearsalSettings(latency=0), port={port})"
    with subprocess.Popen([sys.executable, "-c", program]) as process:

        def answers() -> bool:
            assert process.poll() is None
            try:
                socket.create_connection(("127.0.0.1", port)).close()
            except ConnectionRefusedError:
                return False
            return True

        try:
            until(answers)
            yield f"http://127.0.0.1:{port}", process
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_counts_calls_without_words_and_ends_at_a_signal(
    served: tuple[str, "subprocess.Popen[bytes]"], number: signal.Signals, comment: Any
) -> None:
    url, process = served

    def counts() -> dict[str, Any]:
        with urllib.request.urlopen(f"{url}/rehearsal/calls") as response:
            return json.load(response)  # type: ignore[no-any-return]

    body = {"model": OPUS_3, "max_tokens": 100, "messages": [comment("Wait for me.\n[[hang]]").turn]}
    caller = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys, urllib.request as u; u.urlopen(u.Request(sys.argv[1], sys.argv[2].encode(), "
            "{'authorization': 'Bearer k', 'anthropic-version': '2026-10-21'}))",
            f"{url}/v1/messages",
            json.dumps(body),
        ],
        stderr=subprocess.DEVNULL,
        env={**os.environ, "NO_PROXY": "127.0.0.1"},
    )
    with caller:
        until(lambda: counts()["messages"] == 1)
        digest = hashlib.sha256(b"Wait for me.\n[[hang]]").hexdigest()
        assert counts() == {"messages": 1, "batches": 0, "by_digest": {digest: 1}}
        process.send_signal(number)
        # It does not wait for the request that hangs; the suite's own time limit ends the test if it does.
        assert process.wait() == 0
    assert caller.returncode != 0


def test_says_in_one_sentence_that_its_port_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortTaken) as refused:
            serve(RehearsalSettings(), port=port)
    assert str(refused.value) == f"The rehearsal cannot start: 127.0.0.1:{port} is taken by another program."
