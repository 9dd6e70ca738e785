"""Which client and which key reach a voice's model, wherever it is served.

What the worker's environment holds goes to the worker's own servers only: Anthropic's, or the one it names. A voice at
another address brings the name of a variable with a key of its own, or is sent a constant that is no secret: whoever
may set a voice's address may not have the worker's key sent to it.
"""

from __future__ import annotations

import re
from importlib.util import find_spec
from typing import Any, Protocol

import httpx2
from anthropic import AsyncAnthropicBedrock, AsyncAnthropicVertex

from bridge.records import Endpoint
from bridge.voice.model import DEADLINE, PassingTrouble, VoiceBlocked
from workers.claude import (
    BY_REQUEST,
    SDK_API_VERSION,
    SILENCE,
    Claude,
    Client,
    http_client,
    origin_of,
    sdk_alone,
)
from workers.rehearsing import RehearsalSilent
from workers.settings import API, WorkerSettings, mended, variable

OPENS_NOTHING = "no-key"
"""What is sent where no key is wanted: a constant, so that the SDK looks for no other."""
OLD_VERSION = "2023-06-01"
"""The only version of the API under which Amazon serves models as old as Opus 3 (MODEL-API, section 9)."""

_ELSEWHERE = "{model} is unknown at {host}, or not open to this key. What waits keeps waiting."
_IN_A_CLOUD = (
    "{model} is unknown at {host}, not open to this account, or retired there, on a date of its own. What waits keeps "
    "waiting."
)
_CLOUDS = {
    Endpoint.BEDROCK: "https://bedrock-runtime.amazonaws.com",
    Endpoint.VERTEX: "https://aiplatform.googleapis.com",
}
"""What is recorded where a call was not made because its region is unknown."""
_KEY_NAME = re.compile(r"ANTHROPIC_API_KEY_[A-Z0-9_]{1,62}")
_PLACE = re.compile(r"[a-z0-9][a-z0-9-]{0,60}")
_PROJECT = re.compile(r"[a-z0-9][a-z0-9.:-]{0,100}")
_OLD_MODEL = re.compile(r"claude-(v2|2|instant|3)\b")


class Reachable(Protocol):
    """What there is to know of a voice to reach its model."""

    @property
    def model(self) -> str:
        """The model's id, as it is called there."""

    @property
    def endpoint(self) -> str:
        """A value of `bridge.records.Endpoint`."""

    @property
    def base_url(self) -> str | None:
        """Its own server; None: the worker's."""

    @property
    def key_name(self) -> str | None:
        """The variable that holds its own key; None: the worker's."""

    @property
    def endpoint_options(self) -> dict[str, Any] | None:
        """`region`, and for Vertex `project`."""


class Unset(Exception):
    """Raised when something is missing without which a voice cannot be asked; says what, in a sentence."""


def reach(
    voice: Reachable,
    settings: WorkerSettings,
    rehearsal_url: str | None,
    *,
    silence: float = SILENCE,
    deadline: float = DEADLINE,
) -> Claude:
    """Return the client that asks a voice's model.

    The rehearsal answers where the worker has no key and the voice has none, nor an address, of its own. Whatever else
    is missing is told at the call, as `VoiceBlocked`: nothing is rehearsed without anybody's knowing. Raises
    `RehearsalSilent` where the rehearsal should answer and there is none.
    """
    if rehearses(voice, settings):
        if rehearsal_url is None:
            raise RehearsalSilent
        return Claude(
            api_key=OPENS_NOTHING,
            base_url=rehearsal_url,
            rehearsed=True,
            silence=silence,
            deadline=deadline,
            model=voice.model,
        )
    endpoint = Endpoint(voice.endpoint)
    where = settings.anthropic_base_url or API if endpoint is Endpoint.ANTHROPIC else _CLOUDS[endpoint]
    try:
        base_url = _address(voice.base_url)
        where = base_url or where
        if endpoint is Endpoint.BEDROCK:
            return _on_bedrock(voice, base_url, silence, deadline)
        if endpoint is Endpoint.VERTEX:
            return _on_vertex(voice, base_url, silence, deadline)
        return _at_anthropic(voice, base_url, settings, silence, deadline)
    except Unset as unset:
        blocked = Claude(api_key=OPENS_NOTHING, base_url=where, rehearsed=False, blocked=str(unset))
        blocked.batches = endpoint is Endpoint.ANTHROPIC
        return blocked


def rehearses(voice: Reachable, settings: WorkerSettings) -> bool:
    """Whether the rehearsal answers for a voice."""
    if not settings.rehearses or voice.endpoint != Endpoint.ANTHROPIC or voice.base_url is not None:
        return False
    # A name that can be no key's is a mistake, which a rehearsal would hide.
    return voice.key_name is None or (bool(_KEY_NAME.fullmatch(voice.key_name)) and variable(voice.key_name) is None)


def _at_anthropic(
    voice: Reachable, base_url: str | None, settings: WorkerSettings, silence: float, deadline: float
) -> Claude:
    own = settings.anthropic_base_url or API
    url = base_url or own
    if voice.key_name is not None:
        key = _own_key(voice.key_name)
    elif not _is_other(url, own) and settings.anthropic_api_key is not None:
        key = _checked("ANTHROPIC_API_KEY", settings.anthropic_api_key)
    elif not _is_other(url, API):
        raise Unset("No key is set: the worker has no ANTHROPIC_API_KEY.")
    else:
        key = OPENS_NOTHING
    return Claude(
        api_key=key,
        base_url=url,
        rehearsed=False,
        silence=silence,
        deadline=deadline,
        model=voice.model,
        unknown=_ELSEWHERE if _is_other(url, own) and _is_other(url, API) else BY_REQUEST,
    )


class InACloud(Claude):
    """A model that Amazon or Google serves: without batches, and with credentials of theirs."""

    batches = False

    def __init__(
        self, client: Client, *, model: str, default_version: str, counts: bool, silence: float, deadline: float
    ) -> None:
        self._default_version = default_version
        self._counts = counts
        self._begin(client, False, silence, deadline, model, _IN_A_CLOUD, None)

    async def count(self, request: dict[str, Any], *, api_version: str | None) -> int | None:
        """Return the tokens of a request's prompt; None where that is not served, as at Amazon."""
        return await super().count(request, api_version=api_version) if self._counts else None

    def _version(self, own: str | None) -> str:
        return own or self._default_version

    def _how(self, api_version: str | None) -> tuple[dict[str, str], dict[str, Any]]:
        # There it stands in the body.
        return {}, {"anthropic_version": self._version(api_version)}

    def _same(self, asked: str, answered: object) -> str:
        return answered if isinstance(answered, str) and _plain(answered) == _plain(asked) else asked

    def _before_sending(self) -> tuple[type[Exception], ...]:
        kinds: list[type[Exception]] = [RuntimeError]  # The SDK's own, where there are no credentials.
        if find_spec("botocore") is not None:
            from botocore.exceptions import BotoCoreError

            kinds.append(BotoCoreError)
        if _has_google():
            from google.auth.exceptions import GoogleAuthError

            kinds.append(GoogleAuthError)
        return tuple(kinds)

    def _without_credentials(self, error: Exception) -> Exception:
        kind = type(error).__name__
        if isinstance(error, RuntimeError) and not str(error).startswith("Could not resolve"):
            return error
        if kind == "TransportError" or getattr(error, "retryable", False):
            return PassingTrouble("Who gives out the credentials cannot be reached.", error=kind)
        if kind == "RefreshError":
            return VoiceBlocked("The key is not accepted.", error=kind)
        return VoiceBlocked(f"No key is set: the worker has no credentials for {self.host}.", error=kind)


def _on_bedrock(voice: Reachable, base_url: str | None, silence: float, deadline: float) -> Claude:
    if find_spec("boto3") is None:
        raise Unset("Bedrock needs an extra: install emeritus[bedrock] where the worker runs.")
    region = _option(voice, "region", _PLACE, "AWS_REGION", "AWS_DEFAULT_REGION")
    own = _address(variable("ANTHROPIC_BEDROCK_BASE_URL"))
    access: dict[str, Any]
    if voice.key_name is not None:
        access = {"api_key": _own_key(voice.key_name)}
    elif base_url is not None and _is_other(base_url, own):
        access = {"api_key": OPENS_NOTHING}
    elif (bearer := variable("AWS_BEARER_TOKEN_BEDROCK")) is not None:
        access = {"api_key": _checked("AWS_BEARER_TOKEN_BEDROCK", bearer)}
    else:
        # Where none of these is set, boto3 looks where it always does: at profiles and the machine's own role.
        access = {
            "aws_access_key": variable("AWS_ACCESS_KEY_ID"),
            "aws_secret_key": variable("AWS_SECRET_ACCESS_KEY"),
            "aws_session_token": variable("AWS_SESSION_TOKEN"),
            "aws_profile": variable("AWS_PROFILE"),
        }
    url = base_url or own or f"https://bedrock-runtime.{region}.amazonaws.com"
    with sdk_alone():
        client = AsyncAnthropicBedrock(
            **access,
            aws_region=region,
            base_url=url,
            max_retries=0,
            timeout=httpx2.Timeout(silence, connect=5),
            http_client=http_client(),
            open_telemetry=False,
        )
    version = OLD_VERSION if _OLD_MODEL.search(voice.model) else SDK_API_VERSION
    return InACloud(
        client, model=voice.model, default_version=version, counts=False, silence=silence, deadline=deadline
    )


def _on_vertex(voice: Reachable, base_url: str | None, silence: float, deadline: float) -> Claude:
    if not _has_google():
        raise Unset("Vertex needs an extra: install emeritus[vertex] where the worker runs.")
    region = _option(voice, "region", _PLACE, "CLOUD_ML_REGION")
    project = _option(voice, "project", _PROJECT, "ANTHROPIC_VERTEX_PROJECT_ID", "GOOGLE_CLOUD_PROJECT")
    own = _address(variable("ANTHROPIC_VERTEX_BASE_URL"))
    token = None
    if voice.key_name is not None:
        token = _own_key(voice.key_name)
    elif base_url is not None and _is_other(base_url, own):
        token = OPENS_NOTHING
    given = base_url or own
    # Unlike the others, this client wants the /v1; for Google's own address, which hangs on the region, it adds it.
    url = f"{given}/v1" if given is not None else None
    with sdk_alone():
        client = AsyncAnthropicVertex(
            region=region,
            project_id=project,
            access_token=token,
            base_url=url,
            max_retries=0,
            timeout=httpx2.Timeout(silence, connect=5),
            http_client=http_client(),
            open_telemetry=False,
        )
    return InACloud(
        client, model=voice.model, default_version=SDK_API_VERSION, counts=True, silence=silence, deadline=deadline
    )


def _address(given: str | None) -> str | None:
    """Return an address as the SDK wants it. Raises `Unset`, without saying it: it may hold a password."""
    if given is None:
        return None
    try:
        url = httpx2.URL(mended(given))
        whole = url.scheme in {"http", "https"} and url.host and not (url.userinfo or url.query or url.fragment)
    except httpx2.InvalidURL:
        whole = False
    if not whole:
        raise Unset("The address of the API must be like https://HOST or http://HOST:PORT, with nothing else in it.")
    return mended(given)


def _is_other(url: str, own: str | None) -> bool:
    return own is None or origin_of(url) != origin_of(own)


def _own_key(name: str) -> str:
    # So that a voice cannot have just any variable of the worker's sent to its address.
    if not _KEY_NAME.fullmatch(name):
        raise Unset("The name of the variable with this voice's key must begin with ANTHROPIC_API_KEY_.")
    key = variable(name)
    if key is None:
        raise Unset(f"No key is set: the worker has no {name}.")
    return _checked(name, key)


def _checked(name: str, key: str) -> str:
    # In a header it would be a lost connection, or a broken character of the letter's.
    if not re.fullmatch(r"[!-~]+", key):
        raise Unset(f"The key in {name} has a character in it that no key has: set it again.")
    return key


def _option(voice: Reachable, name: str, pattern: re.Pattern[str], *variables: str) -> str:
    given = (voice.endpoint_options or {}).get(name) or next(filter(None, map(variable, variables)), None)
    if given is None:
        raise Unset(f"No {name} is set: give one to the voice, or set {variables[0]} where the worker runs.")
    # It becomes part of an address, whose host it must not change.
    if not isinstance(given, str) or not pattern.fullmatch(given):
        raise Unset(f"The {name} of this voice can be none: it has a character that none has.")
    return given


def _plain(model: str) -> str:
    """Return a model's name as it stands at Anthropic's, from what it is called in a cloud."""
    name = re.sub(r"^(?:[a-z-]+\.)?anthropic\.", "", model)
    return re.sub(r"(?<=[0-9])-v[0-9]+(?::[0-9]+)?$", "", name).replace("@", "-")


def _has_google() -> bool:
    return find_spec("google") is not None and find_spec("google.auth") is not None
