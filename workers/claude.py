"""The Messages API through its SDK, as `bridge.model.Model`: the only module that knows the SDK's errors.

It asks once and never tries again: the sitting is the one layer that does (MODEL-API, section 4).
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
from contextlib import AbstractAsyncContextManager
from email.utils import parsedate_to_datetime
from importlib.metadata import version
from types import TracebackType
from typing import Any

import anthropic
import httpx2
from anthropic import AsyncAnthropic

from bridge.model import (
    Answer,
    ModelBusy,
    Origin,
    PassingTrouble,
    RequestRefused,
    Trouble,
    Unreadable,
    VoiceBlocked,
    read,
)
from moderation.base import now
from workers.rehearsal import REHEARSAL_HEADER

SDK_API_VERSION = "2026-10-21"
"""What the installed SDK sends as anthropic-version unless a voice has its own."""
SILENCE = 120
"""Seconds without a byte after which a call is given up."""
DEADLINE = 300
"""Seconds after which a call is given up, bytes or not: the SDK's timeout bounds only silence."""
LONGEST_RATE_WAIT = 3600.0

# ANTHROPIC_LOG=debug would have the SDK log whole requests, readers' words included.
logging.getLogger("anthropic").setLevel(logging.WARNING)


class Claude(AbstractAsyncContextManager["Claude"]):
    """One client for one sitting; to be used inside the event loop that made it."""

    def __init__(
        self, *, api_key: str, base_url: str, rehearsed: bool, silence: float = SILENCE, deadline: float = DEADLINE
    ) -> None:
        self._rehearsed = rehearsed
        self._silence = silence
        self._deadline = deadline
        self._host = httpx2.URL(base_url).host
        # Key and address are always given: without them the SDK would look for profiles and other variables.
        self._client = AsyncAnthropic(
            api_key=api_key,
            base_url=base_url,
            max_retries=0,
            timeout=httpx2.Timeout(silence, connect=5),
            open_telemetry=False,
        )

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the client while its loop still runs; later would leak its sockets."""
        await self._client.close()

    def origin(self, api_version: str | None) -> Origin:
        """Return where the answers come from, for the record."""
        return Origin(self._host, version("anthropic"), api_version or SDK_API_VERSION, self._rehearsed)

    async def ask(
        self, request: dict[str, Any], *, api_version: str | None, extra_body: dict[str, Any] | None
    ) -> Answer:
        """Ask once. Raises `Trouble`: what happened, in words for moderators, and so what to do about it."""
        headers = {"anthropic-version": api_version} if api_version else {}
        try:
            async with asyncio.timeout(self._deadline):
                raw = await self._client.messages.with_raw_response.create(
                    **request, extra_headers=headers, extra_body=extra_body or None
                )
                body = await raw.read()
        except anthropic.APIStatusError as error:
            raise _refused(error, str(request.get("model"))) from None
        except anthropic.APITimeoutError:
            raise PassingTrouble(f"No answer within {self._silence:g} s.", tries=2) from None
        except TimeoutError:
            raise PassingTrouble(f"No answer within {self._deadline:g} s.", tries=2) from None
        except anthropic.APIConnectionError as error:
            cause = type(error.__cause__).__name__
            raise PassingTrouble("The API cannot be reached, or cut its answer off.", error=cause) from None
        except UnicodeEncodeError:
            raise RequestRefused("The request has broken characters.") from None
        # As it came, not in the SDK's own types: they lose what they do not know, and warn of it with the words.
        try:
            message = json.loads(body)
        except (ValueError, RecursionError):
            raise Unreadable("the body is not JSON") from None
        if not isinstance(message, dict):
            raise Unreadable("the body is not a message")
        rehearsed = self._rehearsed or raw.headers.get(REHEARSAL_HEADER) is not None
        return read(
            message,
            asked=str(request["model"]),
            request_id=raw.headers.get("request-id"),
            rehearsed=rehearsed,
        )

    async def count(self, request: dict[str, Any], *, api_version: str | None) -> int | None:
        """Return the tokens of a request's prompt, which is free; None where that is not served, or not now."""
        headers = {"anthropic-version": api_version} if api_version else {}
        counted = {name: request[name] for name in ("model", "system", "tools", "tool_choice", "messages")}
        try:
            raw = await self._client.messages.with_raw_response.count_tokens(
                **counted, extra_headers=headers, timeout=httpx2.Timeout(5, connect=5)
            )
            told = json.loads(await raw.read())
        except (anthropic.APIError, ValueError):
            return None
        tokens = told.get("input_tokens") if isinstance(told, dict) else None
        return tokens if isinstance(tokens, int) and tokens > 0 else None

    async def serves(self, model: str) -> tuple[bool, str]:
        """Try whether this key may use *model*, by the smallest call there is; say so in a sentence (`doctor`).

        A list of models does not tell: it hides retired ones, and one that is listed may not be open to this key.
        """
        least = {"model": model, "max_tokens": 1, "messages": [{"role": "user", "content": "Are you there?"}]}
        try:
            answer = await self.ask(least, api_version=None, extra_body=None)
        except VoiceBlocked as trouble:
            return False, trouble.why
        except Trouble as trouble:
            return False, f"{trouble.why} {trouble.error}".strip()
        spent = answer.usage.fresh + answer.usage.output if answer.usage else 0
        if answer.rehearsed:
            return True, f"The rehearsal answers for {model} ({spent} tokens); its replies are marked."
        return True, f"{model} answers ({spent} tokens)."


def _refused(error: anthropic.APIStatusError, model: str) -> Trouble:
    """Say what a refusal of the API means for us. The error itself holds the key in its request: it goes no further."""
    status, kind, code = error.status_code, error.type or "", getattr(error, "error_code", None) or ""
    said = _message(error)
    on_record = f"HTTP {status} {kind} {code} {error.request_id or ''} {said}".strip()
    if status == 401:
        return VoiceBlocked("The key is not accepted.", error=on_record)
    if status == 402:
        return VoiceBlocked("Billing needs attention.", error=on_record)
    if status == 403:
        return VoiceBlocked(f"This key may not use {model}.", error=on_record)
    if status == 404:
        return VoiceBlocked(
            f"{model} is unknown here, or retired and not open to this key. A retired model is served by request only: "
            "ask Anthropic, through the External Researcher Access Program. What waits keeps waiting.",
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
    if status == 413 or (status == 400 and "prompt is too long" in said):
        return RequestRefused("The thread is too long to send.", error=on_record, too_long=True)
    if status == 529:
        return PassingTrouble("The API is overloaded.", error=on_record, first_wait=5, longest_wait=60)
    if status in {408, 409} or status >= 500:
        return PassingTrouble("The API is failing.", error=on_record)
    return RequestRefused(f"The API refused our request: {said}", error=on_record)


def _message(error: anthropic.APIStatusError) -> str:
    body = error.body
    told = body.get("error") if isinstance(body, dict) else None
    message = told.get("message") if isinstance(told, dict) else None
    return str(message)[:500] if message else ""


def _retry_after(error: anthropic.APIStatusError) -> float:
    """Return the seconds the API asks us to wait, within reason; it may give seconds or a date."""
    given = error.response.headers.get("retry-after", "")
    try:
        seconds = float(given)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(given) - now()).total_seconds()
        except (ValueError, TypeError):  # No date, or one without a zone.
            seconds = 10.0
    if math.isnan(seconds):
        seconds = 10.0
    return min(max(seconds, 0.5), LONGEST_RATE_WAIT)
