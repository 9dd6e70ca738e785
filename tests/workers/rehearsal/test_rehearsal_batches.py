import asyncio
import hashlib
import json
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import asdict
from typing import Any, TypeVar

import anthropic
import httpx2
import pytest
from anthropic import AsyncAnthropic
from anthropic.types.messages import MessageBatch, MessageBatchIndividualResponse

from workers.rehearsal import Rehearsal, RehearsalSettings, running

OPUS_3 = "claude-3-opus-20240229"
HOUR = 3600.0

T = TypeVar("T")


@pytest.fixture(scope="module")
def endless() -> Iterator[Rehearsal]:
    """A rehearsal whose batches end when they are canceled, and never by themselves."""
    with running(RehearsalSettings(latency=HOUR)) as rehearsal:
        yield rehearsal


def asked(stage: Rehearsal, ask: Callable[[AsyncAnthropic], Awaitable[T]]) -> T:
    """Ask with the real SDK."""

    async def sent() -> T:
        async with AsyncAnthropic(api_key="test-key", base_url=stage.url, max_retries=0, timeout=10) as api:
            return await ask(api)

    return asyncio.run(sent())


def params(body: str, **more: Any) -> dict[str, Any]:
    """The params of a message that answers a comment with these words."""
    quoted = json.dumps({"id": "c17", "author": "Ada", "body": body})
    text = f"<comment_to_answer_1f2e3d4c5b6a>{quoted}</comment_to_answer_1f2e3d4c5b6a>"
    return {"model": OPUS_3, "max_tokens": 1500, "messages": [{"role": "user", "content": text}], **more}


def cached(body: str, ttl: str) -> dict[str, Any]:
    """The same, with a prefix of some 2,000 tokens that all who share its time to live share."""
    system = [{"type": "text", "text": f"{ttl} " * 2700, "cache_control": {"type": "ephemeral", "ttl": ttl}}]
    return params(body, system=system)


def requests(*bodies: str) -> list[dict[str, Any]]:
    return [{"custom_id": f"rr-{i}-1", "params": params(body)} for i, body in enumerate(bodies)]


async def created(api: AsyncAnthropic, them: list[dict[str, Any]], fault: str = "") -> MessageBatch:
    headers = {"x-rehearsal": fault} if fault else {}
    return await api.messages.batches.create(requests=them, extra_headers=headers)  # type: ignore[arg-type]


async def ended(api: AsyncAnthropic, batch_id: str) -> MessageBatch:
    while (batch := await api.messages.batches.retrieve(batch_id)).processing_status != "ended":
        await asyncio.sleep(0.01)
    return batch


async def results_of(api: AsyncAnthropic, batch_id: str) -> list[MessageBatchIndividualResponse]:
    return [line async for line in await api.messages.batches.results(batch_id)]


def outcomes(
    stage: Rehearsal, them: list[dict[str, Any]], fault: str = ""
) -> tuple[MessageBatch, dict[str, MessageBatchIndividualResponse]]:
    """Send a batch, wait for its end, and return it with its results by custom id."""

    async def all_of_it(api: AsyncAnthropic) -> tuple[MessageBatch, dict[str, MessageBatchIndividualResponse]]:
        batch = await ended(api, (await created(api, them, fault)).id)
        results = await results_of(api, batch.id)
        assert len(results) == len(them)
        return batch, {each.custom_id: each for each in results}

    return asked(stage, all_of_it)


def kind(one: MessageBatchIndividualResponse) -> str:
    """The outcome, with the type of its error."""
    return f"errored {one.result.error.error.type}" if one.result.type == "errored" else one.result.type


def words(one: MessageBatchIndividualResponse) -> str:
    assert one.result.type == "succeeded"
    return "".join(block.text for block in one.result.message.content if block.type == "text")


def counts(batch: MessageBatch) -> dict[str, int]:
    return {name: number for name, number in batch.request_counts.to_dict().items() if number}  # type: ignore[misc]


# Answers


def test_answers_each_as_a_single_message_is_answered(stage: Rehearsal) -> None:
    bodies = [f"Letter {i}: does forgetting count as rest?" for i in range(9)]
    batch, results = outcomes(stage, requests(*bodies))
    assert counts(batch) == {"succeeded": 9}
    assert batch.results_url == f"{stage.url}/v1/messages/batches/{batch.id}/results"
    assert batch.ended_at is not None
    for i, body in enumerate(bodies):
        single = asked(stage, lambda api, body=body: api.messages.create(**params(body)))  # type: ignore[misc]
        result = results[f"rr-{i}-1"].result
        assert result.type == "succeeded"
        assert body in words(results[f"rr-{i}-1"])
        assert [b.to_dict() for b in result.message.content] == [b.to_dict() for b in single.content]
        assert result.message.usage.service_tier == "batch"
        assert result.message.usage.output_tokens == single.usage.output_tokens


def test_gives_results_in_another_order_than_the_one_they_were_sent_in(stage: Rehearsal) -> None:
    async def order(api: AsyncAnthropic, custom_ids: list[str]) -> list[str]:
        them = [{"custom_id": each, "params": params("Hello.")} for each in custom_ids]
        batch = await ended(api, (await created(api, them)).id)
        return [each.custom_id for each in await results_of(api, batch.id)]

    sent = ["a", "b"]
    got = asked(stage, lambda api: order(api, sent))
    assert got != sent
    assert sorted(got) == sent
    assert asked(stage, lambda api: order(api, sent[::-1])) != sent[::-1]


def test_reads_in_one_what_another_of_the_batch_wrote(stage: Rehearsal) -> None:
    them = [{"custom_id": f"c{i}", "params": cached(f"Letter {i}.", "1h")} for i in range(4)]
    _, results = outcomes(stage, them)
    usages = [each.result.message.usage for each in results.values() if each.result.type == "succeeded"]
    written = sorted(usage.cache_creation_input_tokens or 0 for usage in usages)
    read = sorted(usage.cache_read_input_tokens or 0 for usage in usages)
    assert written[:3] == [0, 0, 0]
    assert written[3] > 1024
    assert read == [0, written[3], written[3], written[3]]


def test_looks_at_ids_at_once_and_at_params_at_the_end(stage: Rehearsal) -> None:
    for wrong in (
        [{"custom_id": "twice", "params": params("One.")}, {"custom_id": "twice", "params": params("Two.")}],
        [{"custom_id": "with space", "params": params("One.")}],
        [{"custom_id": "x" * 65, "params": params("One.")}],
        [{"custom_id": "line\n", "params": params("One.")}],
        [{"custom_id": "a"}],
        [{"params": params("One.")}],
        [{"custom_id": "a", "params": params("One."), "body": 1}],
        [],
    ):
        with pytest.raises(anthropic.BadRequestError) as refused:
            asked(stage, lambda api, wrong=wrong: created(api, wrong))  # type: ignore[misc]
        assert "requests" in refused.value.message
    batch, results = outcomes(
        stage,
        [
            {"custom_id": "right", "params": params("One.")},
            {"custom_id": "sampling", "params": params("Two.", temperature=1)},
            {"custom_id": "streams", "params": params("Three.", stream=True)},
            {"custom_id": "unknown", "params": {**params("Four."), "model": "claude-4-imaginary"}},
            {"custom_id": "too-long", "params": params("Five.", system="x" * 800_000)},
            {"custom_id": "empty", "params": {}},
        ],
    )
    assert {custom_id: kind(each) for custom_id, each in results.items()} == {
        "right": "succeeded",
        "sampling": "errored invalid_request_error",
        "streams": "errored invalid_request_error",
        "unknown": "errored not_found_error",
        "too-long": "errored invalid_request_error",
        "empty": "errored invalid_request_error",
    }
    assert counts(batch) == {"succeeded": 1, "errored": 5}


# What goes wrong with one


@pytest.mark.parametrize(
    ("line", "outcome"),
    [
        ("status=529", "errored overloaded_error"),
        ("status=429; retry-after=5", "errored rate_limit_error"),
        ("status=400", "errored invalid_request_error"),
        ("drop", "errored api_error"),
        ("cut", "errored api_error"),
        ("bad-json", "errored api_error"),
        ("html", "errored api_error"),
        ("hang", "errored timeout_error"),
        ("expire", "expired"),
        ("decline", "errored invalid_request_error"),
        ("silence", "succeeded"),
        ("refusal", "succeeded"),
        ("slow=0.01", "succeeded"),
        ("choose", "succeeded"),
    ],
)
def test_fails_one_by_its_last_line(stage: Rehearsal, line: str, outcome: str) -> None:
    _, results = outcomes(stage, requests(f"Line {line}.\n[[{line}]]", "Nothing is wrong here."))
    assert (kind(results["rr-0-1"]), kind(results["rr-1-1"])) == (outcome, "succeeded")


def test_answers_unusually_by_a_last_line(stage: Rehearsal) -> None:
    them = requests("A.\n[[refusal]]", "B.\n[[holes]]", "C.\n[[other-model]]", "D.\n[[silence]]", "E.\n[[stop=odd]]")
    _, results = outcomes(stage, them)
    messages = [each.result.message for _, each in sorted(results.items()) if each.result.type == "succeeded"]
    assert messages[0].stop_reason == "refusal"
    assert messages[1].content is None
    assert messages[2].model != OPUS_3
    assert messages[3].content == []
    assert messages[4].stop_reason == "odd"


def test_fails_as_often_as_a_last_line_says(stage: Rehearsal) -> None:
    them = requests("Once or twice.\n[[status=500; times=2; key=batched]]")
    assert [kind(outcomes(stage, them)[1]["rr-0-1"]) for _ in range(3)] == [
        "errored api_error",
        "errored api_error",
        "succeeded",
    ]


def test_draws_a_fault_for_each_and_none_for_the_requests_about_batches() -> None:
    with running(RehearsalSettings(latency=0, faults="status=529:1")) as stage:
        batch, results = outcomes(stage, requests("One.", "Two."))
        assert {kind(each) for each in results.values()} == {"errored overloaded_error"}
        assert counts(batch) == {"errored": 2}


def test_gives_the_answers_that_the_header_of_the_batch_asks_for(stage: Rehearsal) -> None:
    batch, _ = outcomes(stage, requests("One.", "Two.", "Three."), fault="expire; times=2; key=two-expire")
    assert counts(batch) == {"expired": 2, "succeeded": 1}


# Life


def test_is_in_progress_until_it_is_canceled(endless: Rehearsal) -> None:
    async def life(api: AsyncAnthropic) -> None:
        batch = await created(api, requests("One.", "Two."))
        assert (batch.type, batch.processing_status, counts(batch)) == (
            "message_batch",
            "in_progress",
            {"processing": 2},
        )
        assert (batch.results_url, batch.ended_at, batch.cancel_initiated_at) == (None, None, None)
        assert (batch.expires_at - batch.created_at).total_seconds() == 24 * HOUR
        with pytest.raises(anthropic.AnthropicError):
            await api.messages.batches.results(batch.id)
        with pytest.raises(anthropic.BadRequestError, match="ended"):
            await api.messages.batches.delete(batch.id)
        canceling = await api.messages.batches.cancel(batch.id)
        assert (canceling.processing_status, counts(canceling)) == ("canceling", {"processing": 2})
        assert canceling.cancel_initiated_at is not None
        done = await ended(api, batch.id)
        assert counts(done) == {"canceled": 2}
        assert {kind(each) for each in await results_of(api, batch.id)} == {"canceled"}
        with pytest.raises(anthropic.BadRequestError, match="has ended"):
            await api.messages.batches.cancel(batch.id)

    before = endless.calls.counts()["messages"]
    asked(endless, life)
    assert endless.calls.counts()["messages"] == before


def test_cancels_what_is_not_answered_yet(stage: Rehearsal) -> None:
    async def life(api: AsyncAnthropic) -> dict[str, str]:
        wrong = {"custom_id": "wrong", "params": {}}
        batch = await created(api, [*requests("Done by then.", "Slow.\n[[slow=3600]]", "Never begun."), wrong])
        digest = hashlib.sha256(b"Done by then.").hexdigest()
        while digest not in str(stage.calls.counts()["by_digest"]):
            await asyncio.sleep(0.01)
        await api.messages.batches.cancel(batch.id)
        await ended(api, batch.id)
        return {each.custom_id: kind(each) for each in await results_of(api, batch.id)}

    assert asked(stage, life) == {
        "rr-0-1": "succeeded",
        "rr-1-1": "canceled",
        "rr-2-1": "canceled",
        "wrong": "canceled",
    }


def test_lists_the_newest_first_and_page_by_page() -> None:
    async def listed(api: AsyncAnthropic) -> None:
        sent = [(await created(api, requests(f"Batch {i}."))).id for i in range(5)]
        page = await api.messages.batches.list(limit=2)
        assert [each.id for each in page.data] == sent[:2:-1]
        assert page.has_more
        assert [each.id async for each in page] == sent[::-1]
        before = await api.messages.batches.list(limit=2, before_id=sent[0])
        assert [each.id for each in before.data] == [sent[2], sent[1]]
        after = await api.messages.batches.list(after_id=sent[1])
        assert [each.id for each in after.data] == [sent[0]]

    with running() as stage:
        asked(stage, listed)


def test_forgets_a_batch_that_is_deleted(stage: Rehearsal) -> None:
    async def deleted(api: AsyncAnthropic) -> None:
        batch = await ended(api, (await created(api, requests("One."))).id)
        gone = await api.messages.batches.delete(batch.id)
        assert (gone.id, gone.type) == (batch.id, "message_batch_deleted")
        with pytest.raises(anthropic.NotFoundError):
            await api.messages.batches.retrieve(batch.id)
        with pytest.raises(anthropic.NotFoundError):
            await api.messages.batches.delete(batch.id)
        with pytest.raises(anthropic.NotFoundError):
            await api.messages.batches.cancel(batch.id)
        assert batch.id not in [each.id async for each in api.messages.batches.list()]

    asked(stage, deleted)


def test_gives_the_results_at_the_host_that_was_asked(stage: Rehearsal) -> None:
    async def told(api: AsyncAnthropic) -> str | None:
        batch = await ended(api, (await created(api, requests("One."))).id)
        seen = await api.messages.batches.retrieve(batch.id, extra_headers={"host": "model.example:8443"})
        return seen.results_url

    url = asked(stage, told)
    assert url is not None
    assert url.startswith("http://model.example:8443/v1/messages/batches/msgbatch_")


def test_wants_a_key(stage: Rehearsal) -> None:
    async def refused() -> int:
        async with httpx2.AsyncClient() as client:
            return (await client.get(f"{stage.url}/v1/messages/batches")).status_code

    assert asyncio.run(refused()) == 401


def test_ends_with_batches_still_in_progress() -> None:
    with running(RehearsalSettings(latency=HOUR)) as stage:
        asked(stage, lambda api: created(api, requests("One.")))


# What goes wrong with a request about batches


@pytest.mark.parametrize(
    ("fault", "error"),
    [("drop", anthropic.APIConnectionError), ("bad-json", json.JSONDecodeError), ("cut", anthropic.APIConnectionError)],
)
def test_keeps_a_batch_whose_creation_was_not_heard_of(endless: Rehearsal, fault: str, error: type[Exception]) -> None:
    async def lost(api: AsyncAnthropic) -> int:
        before = len([each async for each in api.messages.batches.list()])
        with pytest.raises(error):
            await created(api, requests("One."), fault)
        return len([each async for each in api.messages.batches.list()]) - before

    assert asked(endless, lost) == 1


def test_answers_the_batch_whose_creation_was_not_heard_of_as_any_other(stage: Rehearsal) -> None:
    async def found(api: AsyncAnthropic) -> MessageBatch:
        with pytest.raises(json.JSONDecodeError):
            await created(api, requests("One.", "Two."), "bad-json")
        newest = (await api.messages.batches.list(limit=1)).data[0]
        return await ended(api, newest.id)

    assert counts(asked(stage, found)) == {"succeeded": 2}


def test_does_nothing_where_a_status_is_asked_for(endless: Rehearsal) -> None:
    async def failed(api: AsyncAnthropic) -> None:
        batch = await created(api, requests("One."))
        known = [each.id async for each in api.messages.batches.list()]
        fails: Any = {"extra_headers": {"x-rehearsal": "status=500"}}
        with pytest.raises(anthropic.InternalServerError):
            await created(api, requests("Two."), "status=500")
        with pytest.raises(anthropic.InternalServerError):
            await api.messages.batches.cancel(batch.id, **fails)
        with pytest.raises(anthropic.InternalServerError):
            await api.messages.batches.retrieve(batch.id, **fails)
        assert [each.id async for each in api.messages.batches.list()] == known
        assert (await api.messages.batches.retrieve(batch.id)).processing_status == "in_progress"
        await api.messages.batches.cancel(batch.id)
        await ended(api, batch.id)
        with pytest.raises(anthropic.InternalServerError):
            await api.messages.batches.delete(batch.id, **fails)
        assert (await api.messages.batches.retrieve(batch.id)).processing_status == "ended"

    asked(endless, failed)


@pytest.mark.parametrize("many", [1, 2, 7])
@pytest.mark.parametrize("fault", ["cut", "bad-json"])
def test_breaks_the_results_amid_a_line(stage: Rehearsal, fault: str, many: int) -> None:
    async def read(api: AsyncAnthropic) -> tuple[list[str], list[str]]:
        batch = await ended(api, (await created(api, requests(*(f"Letter {i}." for i in range(many))))).id)
        lines = await api.messages.batches.results(batch.id, extra_headers={"x-rehearsal": fault})
        good = [(await anext(lines)).custom_id for _ in range(many // 2)]
        # The SDK lets its transport's own error through here.
        with pytest.raises(json.JSONDecodeError if fault == "bad-json" else httpx2.RemoteProtocolError):
            await anext(lines)
        return good, [each.custom_id for each in await results_of(api, batch.id)]

    good, whole = asked(stage, read)
    assert good == whole[: many // 2]


# Accounts


def test_counts_those_that_were_put_to_the_model() -> None:
    with running() as stage:
        outcomes(stage, requests("One.", "One.", "Two.\n[[expire]]", "Three.\n[[status=500]]"))
        outcomes(stage, [{"custom_id": "wrong", "params": {}}])
        with urllib.request.urlopen(f"{stage.url}/rehearsal/calls") as response:
            told = json.load(response)
        assert told == {
            "messages": 4,
            "batches": 2,
            "by_digest": {
                hashlib.sha256(b"One.").hexdigest(): 2,
                hashlib.sha256(b"Three.\n[[status=500]]").hexdigest(): 1,
            },
        }
        assert [(call.custom_id, call.status) for call in stage.calls] == [
            ("rr-0-1", 200),
            ("rr-1-1", 200),
            ("rr-3-1", 500),
            ("wrong", 400),
        ]
        assert "authorization" not in stage.calls[0].headers


def test_adds_up_what_was_spent_live_and_batched_apart() -> None:
    async def spend(api: AsyncAnthropic) -> list[Any]:
        usages = [(await api.messages.create(**cached(f"Live {i}.", "5m"))).usage for i in range(3)]
        with pytest.raises(anthropic.InternalServerError):
            await api.messages.create(**cached("Live 3.", "5m"), extra_headers={"x-rehearsal": "status=500"})
        with pytest.raises(anthropic.APIConnectionError):
            await api.messages.create(**cached("Live 4.", "5m"), extra_headers={"x-rehearsal": "drop"})
        return usages

    with running() as stage:
        live = asked(stage, spend)
        them = [{"custom_id": f"c{i}", "params": cached(f"Letter {i}.", "1h")} for i in range(4)]
        them += requests("Not charged.\n[[status=500]]", "Nor is this.\n[[expire]]")
        _, results = outcomes(stage, them)
        batched = [each.result.message.usage for each in results.values() if each.result.type == "succeeded"]
        with urllib.request.urlopen(f"{stage.url}/rehearsal/usage") as response:
            told = json.load(response)

    def spent(usages: list[Any]) -> dict[str, int]:
        return {
            "calls": len(usages),
            "input_tokens": sum(usage.input_tokens for usage in usages),
            "cache_creation_5m_input_tokens": sum(usage.cache_creation.ephemeral_5m_input_tokens for usage in usages),
            "cache_creation_1h_input_tokens": sum(usage.cache_creation.ephemeral_1h_input_tokens for usage in usages),
            "cache_read_input_tokens": sum(usage.cache_read_input_tokens for usage in usages),
            "output_tokens": sum(usage.output_tokens for usage in usages),
        }

    assert told == {"live": spent(live), "batched": spent(batched)}
    assert told == asdict(stage.usage())
    assert (stage.usage().live.calls, stage.usage().batched.calls) == (3, 4)
    assert stage.usage().live.cache_read_input_tokens > 0
    assert stage.usage().batched.cache_creation_1h_input_tokens > 0


def test_has_no_limit_a_minute_for_batches() -> None:
    with running(RehearsalSettings(latency=0, limits="requests=1,tokens=1000")) as stage:
        batch, _ = outcomes(stage, requests(*(f"Letter {i}." for i in range(20))))
        assert counts(batch) == {"succeeded": 20}
        asked(stage, lambda api: api.messages.create(**params("The one that may come.")))
        with pytest.raises(anthropic.RateLimitError):
            asked(stage, lambda api: api.messages.create(**params("One too many.")))
