"""The Messages API through its SDK, as `voice.model.Model`: the only module that knows the SDK's errors.

It asks once and never tries again: the sitting is the one layer that does (MODEL-API, section 4).
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import os
import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib.metadata import version
from types import TracebackType
from typing import Any, TypeVar

import anthropic
import httpx2
from anthropic import AsyncAnthropic, AsyncAnthropicBedrock, AsyncAnthropicVertex, RequestOptions

from bridge.voice.model import (
    DEADLINE,
    REFUSED,
    Allowance,
    Answer,
    BatchStanding,
    Body,
    ModelBusy,
    Origin,
    PassingTrouble,
    RateLimits,
    RequestRefused,
    Trouble,
    Unreadable,
    VoiceBlocked,
    read,
    storable,
)
from moderation.base import now
from workers.rehearsal import REHEARSAL_HEADER

SDK_VERSION = version("anthropic")
SDK_API_VERSION = "2026-10-21"
"""What the installed SDK sends as anthropic-version unless a voice has its own."""
SILENCE = 120
"""Seconds without a byte after which a call is given up."""
LONGEST_RATE_WAIT = 3600.0
MOST_PAGES = 50
"""Of a hundred batches each, that are looked through for recent ones."""
MOST_KEPT = 64 * 1024
"""Bytes of an answer that nobody can read, for the record."""

BY_REQUEST = (
    "{model} is unknown here, or retired and not open to this key. A retired model is served by request only: "
    "ask Anthropic, through the External Researcher Access Program. What waits keeps waiting."
)
"""What is said of a model that is not served, at Anthropic's."""

_COUNTED = ("model", "system", "tools", "tool_choice", "messages")
_LIMITS = ("requests", "tokens", "input-tokens", "output-tokens")
_SDK_VARIABLES = ("ANTHROPIC_", "AWS_BEARER_TOKEN_BEDROCK")
_NOT_AT_ONCE = {"x-stainless-raw-response": "stream"}
"""The SDK's own sign that a body is read as it comes: a hundred thousand results are never in memory at once."""
_CUSTOM_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_BATCH_ID = re.compile(r"[a-zA-Z0-9_-]{1,120}")
_AFTER_WAITING = frozenset({408, 504})
"""Statuses that somebody on the way gives whose own wait is over: what was asked may still be answered, and billed."""
_NEVER_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)
_WITHOUT_ACCESS = ("UnrecognizedClient", "InvalidSignature", "IncompleteSignature", "ExpiredToken", "MissingAuthent")
"""How the errors begin with which Amazon answers 403 to credentials that are not good."""

Client = AsyncAnthropic | AsyncAnthropicBedrock | AsyncAnthropicVertex
T = TypeVar("T", bound=Trouble)

# At DEBUG, which ANTHROPIC_LOG sets, the SDK logs whole requests, readers' words included. A level can be set again.
logging.getLogger("anthropic").setLevel(logging.WARNING)
for _name in [each for each in logging.root.manager.loggerDict if each.partition(".")[0] == "anthropic"]:
    logging.getLogger(_name).addFilter(lambda record: record.levelno >= logging.WARNING)


class Claude(AbstractAsyncContextManager["Claude"]):
    """One client for one sitting; to be used inside the event loop that made it.

    *model* is the one that is asked: another that answers in a batch is then told from it. *blocked* is why nobody is
    to be asked at all: every call then raises it as `VoiceBlocked`, and nothing is sent.
    """

    batches = True

    def __init__(
        self,
        *,
        api_key: str,
        base_url: str,
        rehearsed: bool,
        silence: float = SILENCE,
        deadline: float = DEADLINE,
        model: str | None = None,
        unknown: str = BY_REQUEST,
        blocked: str | None = None,
    ) -> None:
        # Key and address are always given: without them the SDK would look for profiles and other variables.
        with sdk_alone():
            client = AsyncAnthropic(
                api_key=api_key,
                base_url=base_url,
                max_retries=0,
                timeout=httpx2.Timeout(silence, connect=5),
                http_client=http_client(),
                open_telemetry=False,
            )
        self._begin(client, rehearsed, silence, deadline, model, unknown, blocked)

    def _begin(
        self,
        client: Client,
        rehearsed: bool,
        silence: float,
        deadline: float,
        model: str | None,
        unknown: str,
        blocked: str | None,
    ) -> None:
        self._client = client
        self._rehearsed = rehearsed
        self._silence = silence
        self._deadline = deadline
        self._model = model
        self._unknown = unknown
        self._blocked = blocked
        self._url = client.base_url

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the client while its loop still runs; later would leak its sockets."""
        await self._client.close()

    @property
    def gives_by_request(self) -> bool:
        """Whether a retired model is to be asked for there."""
        return self._unknown == BY_REQUEST

    @property
    def host(self) -> str:
        """The host that is asked."""
        return self._url.host

    def who(self, model: str) -> str:
        """Name host and model, whose limits are one voice's and another's alike; holds no secret."""
        return f"{self._url.netloc.decode('ascii')} {model}"

    def origin(self, api_version: str | None) -> Origin:
        """Return where the answers come from, for the record."""
        return Origin(self.host, SDK_VERSION, self._version(api_version), self._rehearsed)

    def _version(self, own: str | None) -> str:
        return own or SDK_API_VERSION

    def _how(self, api_version: str | None) -> tuple[dict[str, str], dict[str, Any]]:
        """Return the headers and the further body by which the API's version is asked for."""
        return ({"anthropic-version": api_version} if api_version else {}), {}

    def _same(self, asked: str, answered: object) -> str:
        """Return *asked* as the model calls itself there."""
        return asked

    async def ask(
        self, request: dict[str, Any], *, api_version: str | None, extra_body: dict[str, Any] | None
    ) -> Answer:
        """Ask once. Raises `Trouble`: what happened, in words for moderators, and so what to do about it."""
        headers, further = self._how(api_version)
        async with self._calling(str(request.get("model"))):
            raw = await self._client.messages.with_raw_response.create(
                **request, extra_headers=headers, extra_body={**further, **(extra_body or {})} or None
            )
            body = await raw.read()
        # As it came, not in the SDK's own types: they lose what they do not know, and warn of it with the words.
        message = _object(raw.headers, body, "a message")
        request_id = raw.headers.get("request-id")
        rehearsed = self._rehearsed or raw.headers.get(REHEARSAL_HEADER) is not None
        asked = self._same(str(request["model"]), message.get("model"))
        try:
            answer = read(message, asked=asked, request_id=request_id, rehearsed=rehearsed)
        except Unreadable as trouble:
            trouble.body = _bounded(message)
            raise _marked(trouble, raw.headers, 200) from None
        return replace(answer, limits=rate_limits(raw.headers))

    async def count(self, request: dict[str, Any], *, api_version: str | None) -> int | None:
        """Return the tokens of a request's prompt, which is free; None where that is not served, or not now."""
        headers, _ = self._how(api_version)
        counted = {name: request[name] for name in _COUNTED if name in request}
        try:
            async with self._calling(str(request["model"])), asyncio.timeout(min(5, self._deadline)):
                raw = await self._client.messages.with_raw_response.count_tokens(
                    **counted, extra_headers=headers, timeout=httpx2.Timeout(5, connect=5)
                )
                body = await raw.read()
            told = _object(raw.headers, body, "a count")
        except Trouble:
            return None
        tokens = told.get("input_tokens")
        return tokens if type(tokens) is int and tokens > 0 else None

    async def try_out(self, model: str, *, api_version: str | None) -> Answer:
        """Try whether *model* may be used, by the smallest call there is. Raises `Trouble`.

        A list of models does not tell: it hides retired ones, and one that is listed may not be open to this key.
        """
        least = {"model": model, "max_tokens": 1, "messages": [{"role": "user", "content": "Are you there?"}]}
        return await self.ask(least, api_version=api_version, extra_body=None)

    async def create_batch(
        self,
        entries: Sequence[tuple[str, dict[str, Any]]],
        *,
        api_version: str | None,
        extra_body: dict[str, Any] | None,
    ) -> str:
        """Send requests, each with its name in the batch; return what the API calls the batch. Raises `Trouble`.

        Not to be done again after a `PassingTrouble`: there is no way to tell the API that it is the same batch.
        """
        names = [name for name, _ in entries]
        # The SDK sends what it is given, and the API tells only at the end, if at all.
        if not names or len(set(names)) < len(names) or not all(map(_CUSTOM_ID.fullmatch, names)):
            raise RequestRefused("The requests of this batch have names that the API does not take. Nothing was sent.")
        requests = [{"custom_id": name, "params": {**request, **(extra_body or {})}} for name, request in entries]
        headers, _ = self._how(api_version)
        try:
            response = await self._batch_call("", {"requests": requests}, headers)
        except RequestRefused as refused:
            # Not these requests are at fault, where there is nobody to take them.
            raise (self._no_batches(refused.error) if refused.status == 404 else refused) from None
        return _standing(response).remote_id

    async def batch(self, remote_id: str) -> BatchStanding:
        """Return how a batch stands. Raises `Trouble`, with status 404 if there is none, or none any more."""
        return _standing(await self._batch_call(_path(remote_id)))

    async def cancel_batch(self, remote_id: str) -> None:
        """Have a batch end as soon as it can; what was answered already is paid for. Raises `Trouble`."""
        await self._batch_call(f"{_path(remote_id)}/cancel", {})

    async def delete_batch(self, remote_id: str) -> None:
        """Have the API keep nothing more of a batch that has ended: its requests and its results. Raises `Trouble`."""
        await self._batch_call(_path(remote_id), deletes=True)

    async def recent_batches(self, since: datetime) -> Sequence[BatchStanding]:
        """Return the batches that were created at *since* or later, by the API's clock, the newest first.

        Raises `Trouble`.
        """
        found: list[BatchStanding] = []
        after: dict[str, str] = {}
        for _ in range(MOST_PAGES):
            response = await self._batch_call("", params={"limit": "100", **after})
            told = _object(response.headers, response.content, "a list of batches")
            page = told.get("data")
            if not isinstance(page, list):
                raise _unreadable(response.headers, "the list of batches has holes")
            standings = [_standing_of(each, response.headers) for each in page]
            found += [standing for standing in standings if standing.created_at >= since]
            if not standings or told.get("has_more") is not True or standings[-1].created_at < since:
                break
            after = {"after_id": standings[-1].remote_id}
        return found

    async def batch_results(self, remote_id: str) -> AsyncIterator[tuple[str, Answer | Trouble]]:
        """Yield the results of a batch that has ended, in any order, each with its request's name.

        Raises `Trouble`; where the file is cut off, or has a line that nobody can read, after the good ones.
        """
        response = await self._batch_call(_path(remote_id))
        told = _object(response.headers, response.content, "a batch")
        if not _standing_of(told, response.headers).ended:
            raise _marked(PassingTrouble("The batch has not ended yet."), response.headers, 200)
        where = told.get("results_url")
        if not isinstance(where, str):
            raise _marked(RequestRefused("The API has the results of this batch no more."), response.headers, 404)
        if not self._is_ours(where):
            # The SDK would send it our key.
            raise _marked(
                PassingTrouble("The API says that the results of the batch are on another host. They were not read."),
                response.headers,
                200,
            )
        bad = 0
        async with aclosing(self._lines(where)) as lines:
            async for line, rehearsed in lines:
                result = self._result(line, rehearsed)
                if result is None:
                    bad += 1
                else:
                    yield result
        if bad:
            raise PassingTrouble("The results of the batch were cut off, or unreadable in part.", error=f"{bad} lines")

    def _is_ours(self, where: str) -> bool:
        try:
            return origin_of(where) == origin_of(str(self._url))
        except httpx2.InvalidURL:
            return False

    async def _lines(self, where: str) -> AsyncGenerator[tuple[str, bool], None]:
        """Yield the lines of the results, and whether they are the rehearsal's."""
        async with self._calling(None):
            response = await self._client.get(
                where, cast_to=httpx2.Response, options={"headers": {"accept": "application/binary", **_NOT_AT_ONCE}}
            )
        rehearsed = self._rehearsed or response.headers.get(REHEARSAL_HEADER) is not None
        try:
            lines = response.aiter_lines()
            while True:
                # One deadline for each line: a whole file may take longer, and whoever reads it as well.
                async with self._calling(None):
                    line = await anext(lines, None)
                if line is None:
                    return
                if line.strip():
                    yield line, rehearsed
        finally:
            await response.aclose()

    def _result(self, line: str, rehearsed: bool) -> tuple[str, Answer | Trouble] | None:
        """Read one line of the results; None if it does not even say whose it is."""
        try:
            told = json.loads(line)
        except (ValueError, RecursionError):
            return None
        result = told.get("result") if isinstance(told, dict) else None
        name = told.get("custom_id") if isinstance(told, dict) else None
        if not isinstance(result, dict) or not isinstance(name, str):
            return None
        kind = result.get("type")
        if kind == "succeeded":
            message = result.get("message")
            if not isinstance(message, dict):
                return name, Unreadable("the result has no message")
            asked = self._model or str(message.get("model"))
            try:
                return name, read(message, asked=asked, request_id=None, rehearsed=rehearsed)
            except Unreadable as trouble:
                trouble.body = _bounded(message)
                return name, trouble
        if kind == "errored":
            return name, _errored(result.get("error"))
        if kind == "expired":
            return name, PassingTrouble("The batch ended before its turn came.", error="expired")
        if kind == "canceled":
            return name, PassingTrouble("The batch was cancelled before its turn came.", error="canceled")
        return name, PassingTrouble("The batch gave it no result that we know.", error=str(kind)[:80])

    async def _batch_call(
        self,
        path: str,
        body: dict[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
        *,
        deletes: bool = False,
    ) -> httpx2.Response:
        if not self.batches:
            raise self._no_batches()
        path = f"/v1/messages/batches{path}"
        how: RequestOptions = {"headers": dict(headers or {}), "params": dict(params or {})}
        async with self._calling(None):
            if deletes:
                return await self._client.delete(path, cast_to=httpx2.Response, options=how)
            if body is None:
                return await self._client.get(path, cast_to=httpx2.Response, options=how)
            return await self._client.post(path, cast_to=httpx2.Response, body=body, options=how)

    def _no_batches(self, error: str = "") -> VoiceBlocked:
        return VoiceBlocked(f"No batches are served at {self.host}. Have this voice called live.", error=error)

    @asynccontextmanager
    async def _calling(self, model: str | None) -> AsyncIterator[None]:
        """Have what goes wrong with a call told as `Trouble`; *model* is the one asked, None in matters of a batch."""
        if self._blocked is not None:
            raise VoiceBlocked(self._blocked)
        try:
            async with asyncio.timeout(self._deadline):
                yield
        except anthropic.APIStatusError as error:
            raise self._refused(error, model) from None
        except (anthropic.APITimeoutError, httpx2.TimeoutException) as error:
            trouble = PassingTrouble(f"No answer within {self._silence:g} s.", tries=2)
            trouble.may_be_billed = not isinstance(error.__cause__ or error, _NEVER_SENT)
            raise trouble from None
        except TimeoutError:
            raise PassingTrouble(f"No answer within {self._deadline:g} s.", tries=2) from None
        except (anthropic.APIConnectionError, httpx2.RequestError) as error:
            cause = error.__cause__ or error
            trouble = PassingTrouble("The API cannot be reached, or cut its answer off.", error=type(cause).__name__)
            trouble.may_be_billed = not isinstance(cause, _NEVER_SENT)
            raise trouble from None
        except UnicodeEncodeError:
            raise RequestRefused("The request has broken characters.", alone=True) from None
        except self._before_sending() as error:
            raise self._without_credentials(error) from None

    def _before_sending(self) -> tuple[type[Exception], ...]:
        """Return what a library for credentials may raise before anything is sent."""
        return ()

    def _without_credentials(self, error: Exception) -> Exception:
        """Say what that means; an error that is not about credentials comes back as it is."""
        return error

    def _refused(self, error: anthropic.APIStatusError, model: str | None) -> Trouble:
        """Say what a refusal of the API means for us.

        The error itself holds the key in its request: it goes no further.
        """
        status, kind, code = error.status_code, _text(error.type), _text(getattr(error, "error_code", None))
        said, headers = _said(error.body), error.response.headers
        kind = kind or _text(headers.get("x-amzn-errortype", "").partition(":")[0])
        on_record = f"HTTP {status} {kind} {code} {error.request_id or ''} {said}".strip()
        trouble = _marked(self._meaning(error, model, kind, said, on_record), headers, status)
        trouble.error_type, trouble.error_code = kind or None, code or None
        trouble.body = _bounded(error.body)
        return trouble

    def _meaning(
        self, error: anthropic.APIStatusError, model: str | None, kind: str, said: str, on_record: str
    ) -> Trouble:
        status = error.status_code
        if status == 401 or (status == 403 and kind.startswith(_WITHOUT_ACCESS)):
            return VoiceBlocked("The key is not accepted.", error=on_record)
        if status == 402:
            return VoiceBlocked("Billing needs attention.", error=on_record)
        if status == 403:
            return VoiceBlocked(f"This key may not use {model or 'batches'}.", error=on_record)
        if status == 404 and model is None:
            return RequestRefused("The API has no such batch.", error=on_record)
        if status == 404:
            return VoiceBlocked(self._unknown.format(model=model, host=self.host), error=on_record)
        if status < 400:
            return VoiceBlocked(
                f"{self.host} sends us elsewhere, and nothing was sent there: correct the address of the API.",
                error=on_record,
            )
        if isinstance(error, anthropic.OrganizationOnHoldError):
            return VoiceBlocked("Anthropic has suspended this organisation.", error=on_record)
        if isinstance(error, anthropic.EnforcedSpendLimitReachedError | anthropic.ContractSpendLimitReachedError):
            return VoiceBlocked("The organisation's monthly limit is reached.", error=on_record)
        if status == 429:
            return ModelBusy("Waiting for the rate limit.", seconds=_retry_after(error), error=on_record)
        if status == 400 and "specified API usage limits" in said:
            return VoiceBlocked("Our spending limit is reached.", error=on_record)
        if status == 413 or (status == 400 and ("prompt is too long" in said or "Input is too long" in said)):
            return RequestRefused("The thread is too long to send.", error=on_record, too_long=True)
        if status == 529:
            return PassingTrouble("The API is overloaded.", error=on_record, first_wait=5, longest_wait=60)
        if status in {408, 409, 424} or status >= 500:
            return PassingTrouble("The API is failing.", error=on_record)
        return RequestRefused(f"{REFUSED}: {said}", error=on_record)


def http_client() -> httpx2.AsyncClient:
    """Return what the SDK sends with: words and key go where they are sent, and nowhere else that a server names.

    Nor to a proxy, if they are for this machine: proxy variables are obeyed for it too.
    """
    here = dict.fromkeys(("all://127.0.0.1", "all://localhost", "all://[::1]"))
    return anthropic.DefaultAsyncHttpxClient(follow_redirects=False, mounts=here)


@contextmanager
def sdk_alone() -> Iterator[None]:
    """Hide the SDK's variables from it while a client is made: each client is given what it needs, and no more.

    ANTHROPIC_CUSTOM_HEADERS would send one server's headers, a secret maybe, to every other; an empty address is "".
    """
    hidden = {name: value for name, value in os.environ.items() if name.startswith(_SDK_VARIABLES)}
    for name in hidden:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(hidden)


def origin_of(url: str) -> tuple[str, str, int | None]:
    """Return scheme, host and port of an address, by which one server is told from another.

    Raises `httpx2.InvalidURL`.
    """
    found = httpx2.URL(url)
    return found.scheme, found.host, found.port or {"http": 80, "https": 443}.get(found.scheme)


def rate_limits(headers: Mapping[str, str]) -> RateLimits:
    """Return what the API's headers say of its limits; what they do not say, or say wrongly, is left out."""
    clock = _clock(headers)
    told: dict[str, Allowance] = {}
    for name in _LIMITS:
        given = [headers.get(f"anthropic-ratelimit-{name}-{what}", "") for what in ("limit", "remaining", "reset")]
        if not all(re.fullmatch(r"[0-9]{1,12}", number) for number in given[:2]):
            continue
        try:
            seconds = (datetime.fromisoformat(given[2]) - clock).total_seconds()
        except (ValueError, TypeError):  # No date, or one without a zone.
            continue
        limit, remaining = int(given[0]), int(given[1])
        if limit > 0 and remaining <= limit and seconds <= 24 * 3600:
            told[name] = Allowance(limit, remaining, max(seconds, 0.0))
    return told


def _clock(headers: Mapping[str, str]) -> datetime:
    """Return the time of a response by the clock of who sent it, else by ours."""
    try:
        told = parsedate_to_datetime(headers.get("date", ""))
    except ValueError:
        return now()
    return told if told.tzinfo is not None else told.replace(tzinfo=UTC)


def _retry_after(error: anthropic.APIStatusError) -> float:
    """Return the seconds the API asks us to wait, within reason; it may give seconds or a date."""
    given = error.response.headers.get("retry-after", "")
    try:
        seconds = float(given)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(given) - _clock(error.response.headers)).total_seconds()
        except (ValueError, TypeError):  # No date, or one without a zone.
            seconds = 10.0
    if math.isnan(seconds):
        seconds = 10.0
    return min(max(seconds, 0.5), LONGEST_RATE_WAIT)


def _said(body: object) -> str:
    """Return what an error's body says, in any of the shapes in which the servers that speak this protocol say it."""
    if isinstance(body, list) and body:
        body = body[0]
    if not isinstance(body, dict):
        return ""
    told = body.get("error")
    message = told.get("message") if isinstance(told, dict) else told or body.get("message") or body.get("Message")
    return storable(message)[:500] if isinstance(message, str) else ""


def _text(given: object) -> str:
    return storable(given)[:80] if isinstance(given, str) else ""


def _marked(trouble: T, headers: Mapping[str, str], status: int) -> T:
    """Note on a trouble what the response said besides."""
    trouble.status = status
    if status >= 400 and status not in _AFTER_WAITING:
        trouble.may_be_billed = False
    trouble.request_id = storable(headers.get("request-id") or headers.get("x-amzn-requestid") or "")[:120] or None
    trouble.limits = rate_limits(headers)
    return trouble


def _unreadable(headers: Mapping[str, str], what: str, body: bytes = b"") -> Unreadable:
    trouble = _marked(Unreadable(what), headers, 200)
    trouble.body = Body(body[:MOST_KEPT].decode(errors="replace")) if body else None
    return trouble


def _bounded(body: object) -> Body | None:
    """Return the body of an error for the record, as text where it is too long to be kept whole."""
    if body is None:
        return None
    written = body if isinstance(body, str) else json.dumps(body)
    return Body(body if len(written) <= MOST_KEPT else written[:MOST_KEPT])


def _object(headers: Mapping[str, str], body: bytes, what: str) -> dict[str, Any]:
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        raise _unreadable(headers, "the body is not JSON", body) from None
    if not isinstance(told, dict):
        raise _unreadable(headers, f"the body is not {what}", body)
    return told


def _path(remote_id: str) -> str:
    if not _BATCH_ID.fullmatch(remote_id):
        raise _marked(RequestRefused("The API has no such batch."), {}, 404)
    return f"/{remote_id}"


def _standing(response: httpx2.Response) -> BatchStanding:
    return _standing_of(_object(response.headers, response.content, "a batch"), response.headers)


def _standing_of(told: object, headers: Mapping[str, str]) -> BatchStanding:
    if not isinstance(told, dict):
        raise _unreadable(headers, "the batch has holes")
    remote_id, status, counts = told.get("id"), told.get("processing_status"), told.get("request_counts")
    try:
        created_at = datetime.fromisoformat(str(told.get("created_at")))
    except ValueError:
        raise _unreadable(headers, "the batch has holes") from None
    whole = isinstance(remote_id, str) and _BATCH_ID.fullmatch(remote_id) and isinstance(counts, dict)
    if not whole or created_at.tzinfo is None or not isinstance(status, str):
        raise _unreadable(headers, "the batch has holes")
    assert isinstance(remote_id, str)
    assert isinstance(counts, dict)
    requests = sum(number for number in counts.values() if type(number) is int)
    return BatchStanding(remote_id, status == "ended", created_at.astimezone(UTC), requests)


def _errored(error: object) -> Trouble:
    """Say what came of one of a batch that ended in an error; `error` is the body that a call would have got."""
    told = error.get("error") if isinstance(error, dict) else None
    kind = _text(told.get("type")) if isinstance(told, dict) else ""
    said = _said(error)
    trouble: Trouble
    if kind == "invalid_request_error" and "prompt is too long" in said:
        trouble = RequestRefused("The thread is too long to send.", error=f"{kind} {said}", too_long=True)
    elif kind == "invalid_request_error":
        trouble = RequestRefused(f"{REFUSED}: {said}", error=f"{kind} {said}")
    else:
        trouble = PassingTrouble("The API is failing.", error=f"{kind} {said}".strip())
    trouble.error_type = kind or None
    trouble.body = _bounded(error)
    return trouble
