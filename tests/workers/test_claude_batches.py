import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import pytest
from ground.standing_in import Asked, Told, as_json, standing_in
from ground.workshop import MODEL, message

from bridge.voice.model import (
    Answer,
    BatchModel,
    BatchStanding,
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
from workers.rehearsal import Rehearsal, RehearsalSettings, running

KEY = "sk-ant-KEY-CANARY"
WORDS = "WORDS-CANARY"
WHEN = "2026-11-23T12:00:00Z"

T = TypeVar("T")


@pytest.fixture(scope="module")
def stage() -> Iterator[Rehearsal]:
    with running() as rehearsal:
        yield rehearsal


def request(words: str = WORDS, **more: Any) -> dict[str, Any]:
    return {"model": MODEL, "max_tokens": 100, "messages": [{"role": "user", "content": words}], **more}


def on_one(url: str, call: Callable[[Claude], Awaitable[T]], **how: Any) -> T:
    async def once() -> T:
        async with Claude(**{"api_key": KEY, "base_url": url, "rehearsed": False, "model": MODEL, **how}) as model:
            return await call(model)

    return asyncio.run(once())


def trouble(url: str, call: Callable[[Claude], Awaitable[object]], **how: Any) -> Trouble:
    with pytest.raises(Trouble) as caught:
        on_one(url, call, **how)
    assert not any(secret in f"{caught.value!r} {vars(caught.value)}" for secret in (KEY, WORDS))
    return caught.value


def create(*entries: tuple[str, dict[str, Any]], **how: Any) -> Callable[[Claude], Awaitable[str]]:
    return lambda model: model.create_batch(entries, **{"api_version": None, "extra_body": None, **how})


async def ended(model: Claude, remote_id: str) -> BatchStanding:
    while not (standing := await model.batch(remote_id)).ended:
        await asyncio.sleep(0)
    return standing


async def results(model: Claude, remote_id: str) -> dict[str, Answer | Trouble]:
    return {name: result async for name, result in model.batch_results(remote_id)}


def whole(url: str, *entries: tuple[str, dict[str, Any]], **how: Any) -> dict[str, Answer | Trouble]:
    """Send a batch, wait for its end, and read what came of it."""

    async def seen_through(model: Claude) -> dict[str, Answer | Trouble]:
        remote_id = await create(*entries)(model)
        await ended(model, remote_id)
        return await results(model, remote_id)

    return on_one(url, seen_through, **how)


def batch(base_url: str, **more: Any) -> dict[str, Any]:
    counts = {"processing": 0, "succeeded": 2, "errored": 0, "canceled": 0, "expired": 0}
    return {
        "id": "msgbatch_1",
        "processing_status": "ended",
        "request_counts": counts,
        "created_at": WHEN,
        "results_url": f"{base_url}/v1/messages/batches/msgbatch_1/results",
        **more,
    }


def line(name: str, said: str = "I rest.") -> bytes:
    result = {"type": "succeeded", "message": message(said)}
    return json.dumps({"custom_id": name, "result": result}).encode() + b"\n"


def read_from(file: Told, **how: Any) -> tuple[dict[str, Answer | Trouble], Trouble | None]:
    """Return what is read of a file of results, and the trouble at its end."""
    read: dict[str, Answer | Trouble] = {}

    async def as_they_come(model: Claude) -> Trouble | None:
        try:
            async for name, result in model.batch_results("msgbatch_1"):
                read[name] = result
        except Trouble as at_the_end:
            return at_the_end
        return None

    with standing_in(lambda asked: file if asked.path.endswith("/results") else as_json(batch(url[0]))) as server:
        url = [server.url]
        at_the_end = on_one(server.url, as_they_come, **how)
    return read, at_the_end


# With the rehearsal.


def test_is_a_model_that_can_be_asked_in_batches() -> None:
    assert isinstance(Claude(api_key=KEY, base_url="http://127.0.0.1:9", rehearsed=False), BatchModel)


def test_brings_an_answer_for_each_request_of_a_batch(stage: Rehearsal) -> None:
    found = whole(stage.url, ("rr-1-1", request("One.")), ("rr-2-1", request("Two.")), ("rr-3-1", request("Three.")))
    assert set(found) == {"rr-1-1", "rr-2-1", "rr-3-1"}
    for name, said in (("rr-1-1", "One."), ("rr-2-1", "Two."), ("rr-3-1", "Three.")):
        answer = found[name]
        assert isinstance(answer, Answer)
        assert (answer.outcome, answer.model, answer.rehearsed) == (Outcome.REPLIED, MODEL, True)
        assert said in (answer.text or "")
        assert answer.usage is not None
        assert answer.request_id is None


def test_says_how_a_batch_stands(stage: Rehearsal) -> None:
    before = datetime.now(UTC)

    async def stands(model: Claude) -> BatchStanding:
        return await ended(model, await create(("a", request()), ("b", request()))(model))

    standing = on_one(stage.url, stands)
    assert standing.remote_id.startswith("msgbatch_")
    assert (standing.ended, standing.requests) == (True, 2)
    assert before - timedelta(seconds=5) <= standing.created_at <= datetime.now(UTC)


def test_finds_the_batches_of_late() -> None:
    async def three(model: Claude) -> tuple[list[str], datetime, list[list[str]]]:
        made = [await create(("a", request()))(model) for _ in range(3)]
        at = [(await model.batch(remote_id)).created_at for remote_id in made]
        found = [[each.remote_id for each in await model.recent_batches(since)] for since in (at[0], at[1], at[2])]
        none = await model.recent_batches(at[2] + timedelta(microseconds=1))
        assert list(none) == []
        return made, at[0], found

    with running() as stage:
        made, _, found = on_one(stage.url, three)
    assert found == [made[::-1], made[:0:-1], made[:1:-1]]


def test_ends_a_batch_early() -> None:
    async def cancelled(model: Claude) -> dict[str, Answer | Trouble]:
        remote_id = await create(("a", request()))(model)
        assert not (await model.batch(remote_id)).ended
        await model.cancel_batch(remote_id)
        await ended(model, remote_id)
        return await results(model, remote_id)

    with running(RehearsalSettings(latency=3600)) as stage:
        found = on_one(stage.url, cancelled)["a"]
    assert type(found) is PassingTrouble
    assert (found.why, found.error) == ("The batch was cancelled before its turn came.", "canceled")


def test_has_nothing_more_of_a_batch_kept(stage: Rehearsal) -> None:
    async def deleted(model: Claude) -> tuple[str, list[str]]:
        remote_id = await create(("a", request()))(model)
        await ended(model, remote_id)
        await model.delete_batch(remote_id)
        return remote_id, [each.remote_id for each in await model.recent_batches(datetime(2020, 1, 1, tzinfo=UTC))]

    remote_id, listed = on_one(stage.url, deleted)
    assert remote_id not in listed
    gone = trouble(stage.url, lambda model: results(model, remote_id))
    assert (type(gone), gone.status) == (RequestRefused, 404)


def test_deletes_no_batch_that_has_not_ended() -> None:
    async def too_early(model: Claude) -> None:
        await model.delete_batch(await create(("a", request()))(model))

    with running(RehearsalSettings(latency=3600)) as stage:
        assert type(trouble(stage.url, too_early)) is RequestRefused


@pytest.mark.parametrize(
    ("asked", "kind", "why"),
    [
        (request(f"{WORDS}\n[[expire]]"), PassingTrouble, "The batch ended before its turn came."),
        (request(f"{WORDS}\n[[status=529]]"), PassingTrouble, "The API is failing."),
        (request(f"{WORDS}\n[[drop]]"), PassingTrouble, "The API is failing."),
        (request(f"{WORDS}\n[[holes]]"), Unreadable, "The answer was unreadable."),
        (request(max_tokens=4097), RequestRefused, "The API refused our request: max_tokens"),
        (request(WORDS * 70_000), RequestRefused, "The thread is too long to send."),
    ],
)
def test_says_what_became_of_each_request_by_itself(
    stage: Rehearsal, asked: dict[str, Any], kind: type[Trouble], why: str
) -> None:
    found = whole(stage.url, ("good", request()), ("bad", asked))
    bad = found["bad"]
    assert type(bad) is kind
    assert bad.why.startswith(why)
    assert isinstance(found["good"], Answer)
    if isinstance(bad, RequestRefused):
        assert bad.too_long == (len(asked["messages"][0]["content"]) > 1000)
        assert bad.error_type == "invalid_request_error"


def test_tells_another_model_in_a_batch_too(stage: Rehearsal) -> None:
    answer = whole(stage.url, ("a", request(f"{WORDS}\n[[other-model]]")))["a"]
    assert isinstance(answer, Answer)
    assert answer.outcome is Outcome.UNEXPECTED
    assert (answer.why or "").startswith("Another model answered: ")


@pytest.mark.parametrize("remote_id", ["msgbatch_none", "../models", "a b", ""])
def test_says_that_there_is_no_such_batch(stage: Rehearsal, remote_id: str) -> None:
    calls: tuple[Callable[[Claude], Awaitable[object]], ...] = (
        lambda model: model.batch(remote_id),
        lambda model: model.cancel_batch(remote_id),
        lambda model: model.delete_batch(remote_id),
        lambda model: results(model, remote_id),
    )
    for call in calls:
        gone = trouble(stage.url, call)
        assert type(gone) is RequestRefused
        assert (gone.why, gone.status) == ("The API has no such batch.", 404)


def test_says_that_a_server_has_no_batches() -> None:
    with standing_in(lambda _: as_json({"detail": "Not Found"}, 404)) as server:
        none = trouble(server.url, create(("a", request())))
    assert type(none) is VoiceBlocked
    assert none.why == "No batches are served at 127.0.0.1. Have this voice called live."


def test_says_that_a_batch_has_not_ended() -> None:
    async def too_early(model: Claude) -> None:
        await results(model, await create(("a", request()))(model))

    with running(RehearsalSettings(latency=3600)) as stage:
        early = trouble(stage.url, too_early)
    assert type(early) is PassingTrouble
    assert early.why == "The batch has not ended yet."


# What is sent.


def test_sends_what_it_would_send_live() -> None:
    with standing_in(lambda _: as_json(batch(""))) as server:
        entries = (("rr-1-1", request("One.")), ("rr-2-1", request("Two.")))
        how: dict[str, Any] = {"api_version": "2023-06-01", "extra_body": {"temperature": 0.5}}
        assert on_one(server.url, create(*entries, **how)) == "msgbatch_1"
        [asked] = server.asked
    assert (asked.method, asked.path) == ("POST", "/v1/messages/batches")
    assert asked.headers["anthropic-version"] == "2023-06-01"
    assert asked.headers["authorization"] == f"Bearer {KEY}"
    assert asked.told == {
        "requests": [{"custom_id": name, "params": {**sent, "temperature": 0.5}} for name, sent in entries]
    }


@pytest.mark.parametrize("names", [[], ["a", "a"], [""], ["a b"], ["a" * 65], ["a\n"], ["ä"]])
def test_sends_no_names_that_the_api_does_not_take(names: list[str]) -> None:
    with standing_in(lambda _: as_json(batch(""))) as server:
        refused = trouble(server.url, create(*((name, request()) for name in names)))
        assert server.asked == []
    assert type(refused) is RequestRefused
    assert refused.why.endswith("Nothing was sent.")


def test_sends_no_broken_characters() -> None:
    with standing_in(lambda _: as_json(batch(""))) as server:
        refused = trouble(server.url, create(("a", request(f"{WORDS} \ud800"))))
        assert server.asked == []
    assert (type(refused), refused.why) == (RequestRefused, "The request has broken characters.")


def test_creates_a_batch_once_and_never_by_itself_again() -> None:
    with standing_in(lambda _: as_json({"error": {"message": "No."}}, 503)) as server:
        assert type(trouble(server.url, create(("a", request())))) is PassingTrouble
        assert len(server.asked) == 1


def test_sends_nothing_where_nobody_is_to_be_asked() -> None:
    with standing_in(lambda _: as_json(batch(""))) as server:
        told = trouble(server.url, create(("a", request())), blocked="No key is set.")
        assert server.asked == []
    assert (type(told), told.why) == (VoiceBlocked, "No key is set.")


# What is not trusted.


@pytest.mark.parametrize(
    ("status", "kind", "why"),
    [
        (400, RequestRefused, "The API refused our request: No."),
        (401, VoiceBlocked, "The key is not accepted."),
        (403, VoiceBlocked, "This key may not use batches."),
        (429, ModelBusy, "Waiting for the rate limit."),
        (500, PassingTrouble, "The API is failing."),
        (529, PassingTrouble, "The API is overloaded."),
    ],
)
def test_says_what_a_refusal_means(status: int, kind: type[Trouble], why: str) -> None:
    with standing_in(lambda _: as_json({"error": {"message": "No."}}, status)) as server:
        for call in (
            create(("a", request())),
            lambda model: model.batch("msgbatch_1"),
            lambda model: model.recent_batches(datetime.now(UTC)),
            lambda model: model.cancel_batch("msgbatch_1"),
            lambda model: model.delete_batch("msgbatch_1"),
            lambda model: results(model, "msgbatch_1"),
        ):
            told = trouble(server.url, call)  # type: ignore[arg-type]
            assert (type(told), told.why, told.status) == (kind, why, status)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"<html>",
        b"{}",
        json.dumps(batch("") | {"id": "../../"}).encode(),
        json.dumps(batch("") | {"id": None}).encode(),
        json.dumps(batch("") | {"created_at": "soon"}).encode(),
        json.dumps(batch("") | {"created_at": "2026-11-23T12:00:00"}).encode(),
        json.dumps(batch("") | {"request_counts": 3}).encode(),
        json.dumps(batch("") | {"processing_status": None}).encode(),
    ],
)
def test_takes_no_strange_body_for_a_batch(body: bytes) -> None:
    with standing_in(lambda _: Told(body)) as server:
        for call in (create(("a", request())), lambda model: model.batch("msgbatch_1")):
            assert type(trouble(server.url, call)) is Unreadable


@pytest.mark.parametrize("told", [{}, {"data": None}, {"data": [3]}, {"data": [{"id": "a"}]}])
def test_takes_no_strange_body_for_a_list_of_batches(told: dict[str, Any]) -> None:
    with standing_in(lambda _: as_json(told)) as server:
        assert type(trouble(server.url, lambda model: model.recent_batches(datetime.now(UTC)))) is Unreadable


def test_reads_no_list_without_end() -> None:
    page = {"data": [batch("")], "has_more": True}
    with standing_in(lambda _: as_json(page)) as server:
        found = on_one(server.url, lambda model: model.recent_batches(datetime(2026, 1, 1, tzinfo=UTC)))
        assert len(server.asked) == len(found) == claude.MOST_PAGES
        assert server.asked[1].path == "/v1/messages/batches?limit=100&after_id=msgbatch_1"


def test_sends_the_key_to_no_other_host() -> None:
    with standing_in(lambda _: Told(line("a"))) as other:
        for where in (
            other.url,
            "http://127.0.0.1:1",
            "https://127.0.0.1",
            other.url.replace("127.0.0.1", "localhost"),
            "file:///etc/passwd",
            "//127.0.0.1",
            "http://[::",
        ):
            told = batch(where)
            with standing_in(lambda _, told=told: as_json(told)) as server:  # type: ignore[misc]
                elsewhere = trouble(server.url, lambda model: results(model, "msgbatch_1"))
                assert len(server.asked) == 1
            assert type(elsewhere) is PassingTrouble
            assert "on another host" in elsewhere.why
        assert other.asked == []


def test_follows_no_results_to_another_host() -> None:
    def answer(asked: Asked) -> Told:
        if asked.path.endswith("/results"):
            return Told(b"", 307, headers={"location": f"{other.url}/"})
        return as_json(batch(server.url))

    with standing_in(lambda _: Told(line("a"))) as other, standing_in(answer) as server:
        assert type(trouble(server.url, lambda model: results(model, "msgbatch_1"))) is VoiceBlocked
        assert other.asked == []


def test_says_that_the_results_are_gone() -> None:
    with standing_in(lambda _: as_json(batch("") | {"results_url": None})) as server:
        gone = trouble(server.url, lambda model: results(model, "msgbatch_1"))
    assert (type(gone), gone.status) == (RequestRefused, 404)
    assert gone.why == "The API has the results of this batch no more."


def test_brings_the_good_lines_of_a_file_that_is_cut_off() -> None:
    read, at_the_end = read_from(Told(line("a") + line("b") + line("c")[:40], cut=100))
    assert set(read) == {"a", "b"}
    assert type(at_the_end) is PassingTrouble
    read, at_the_end = read_from(Told(line("a") + line("b") + line("c")[:40]))
    assert set(read) == {"a", "b"}
    assert type(at_the_end) is PassingTrouble
    assert at_the_end.why.startswith("The results of the batch were cut off")


def test_brings_the_good_lines_beside_the_bad_ones() -> None:
    bad = [
        b"[]\n",
        b"7\n",
        b'{"custom_id": 3, "result": {}}\n',
        b'{"custom_id": "x"}\n',
        b"\xff\xfe\n",
        b"[" * 100_000 + b"\n",
    ]
    read, at_the_end = read_from(Told(b"\n" + line("a") + b"".join(bad) + b"\r\n" + line("b")))
    assert set(read) == {"a", "b"}
    assert isinstance(at_the_end, PassingTrouble)
    assert at_the_end.error == f"{len(bad)} lines"


def test_ends_well_where_all_was_read() -> None:
    read, at_the_end = read_from(Told(line("a") + b"\n" + line("b")[:-1]))
    assert (set(read), at_the_end) == ({"a", "b"}, None)
    assert all(isinstance(answer, Answer) and not answer.rehearsed for answer in read.values())


@pytest.mark.parametrize(
    ("result", "kind", "why"),
    [
        ({"type": "succeeded"}, Unreadable, "The answer was unreadable."),
        ({"type": "succeeded", "message": []}, Unreadable, "The answer was unreadable."),
        ({"type": "succeeded", "message": {"type": "message"}}, Unreadable, "The answer was unreadable."),
        ({"type": "errored"}, PassingTrouble, "The API is failing."),
        ({"type": "errored", "error": {"error": "?"}}, PassingTrouble, "The API is failing."),
        ({"type": "errored", "error": {"error": {"type": ["?"]}}}, PassingTrouble, "The API is failing."),
        ({"type": "forgotten"}, PassingTrouble, "The batch gave it no result that we know."),
        ({}, PassingTrouble, "The batch gave it no result that we know."),
    ],
)
def test_makes_sense_of_a_result_in_any_shape(result: dict[str, Any], kind: type[Trouble], why: str) -> None:
    read, at_the_end = read_from(Told(json.dumps({"custom_id": "a", "result": result}).encode()))
    assert at_the_end is None
    told = read["a"]
    assert type(told) is kind
    assert told.why == why


def test_gives_up_a_file_that_stops_coming() -> None:
    over = threading.Event()
    try:
        read, at_the_end = read_from(Told(line("a"), cut=1, hold=over), silence=0.3)
    finally:
        over.set()
    assert set(read) == {"a"}
    assert type(at_the_end) is PassingTrouble
    assert at_the_end.why == "No answer within 0.3 s."


def test_gives_up_a_file_whose_line_never_ends() -> None:
    over = threading.Event()
    try:
        read, at_the_end = read_from(Told(line("a"), cut=1, hold=over), deadline=0.3)
    finally:
        over.set()
    assert set(read) == {"a"}
    assert isinstance(at_the_end, PassingTrouble)
    assert at_the_end.why == "No answer within 0.3 s."
