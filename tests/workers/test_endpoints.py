import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from ground.standing_in import Asked, StandingIn, Told, as_json, standing_in
from ground.workshop import MODEL, Workshop, message

from bridge import settings
from bridge.voice import voices
from bridge.voice.model import Answer, Outcome, PassingTrouble, RequestRefused, Trouble, VoiceBlocked
from workers import endpoints
from workers.claude import SDK_API_VERSION, Claude
from workers.endpoints import OPENS_NOTHING, reach
from workers.rehearsal import running
from workers.rehearsing import RehearsalSilent
from workers.settings import API, WorkerSettings

KEY = "sk-ant-KEY-CANARY"
OWN = "sk-own-KEY-CANARY"
ON_BEDROCK = "us.anthropic.claude-3-opus-20240229-v1:0"
ON_VERTEX = "claude-3-opus@20240229"

T = TypeVar("T")


@dataclass(frozen=True)
class Someone:
    """A voice, as far as it has to be reached."""

    model: str = MODEL
    endpoint: str = "anthropic"
    base_url: str | None = None
    key_name: str | None = None
    endpoint_options: dict[str, Any] | None = None


@pytest.fixture(autouse=True)
def _nobodys_cloud(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Let no library for credentials look anywhere but where the test puts them."""
    for name in ("AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_SESSION_TOKEN", "AWS_BEARER_TOKEN_BEDROCK", "GOOGLE_APPLICATION_CREDENTIALS"):
        monkeypatch.delenv(name, raising=False)
    for name in ("CLOUD_ML_REGION", "GOOGLE_CLOUD_PROJECT", "ANTHROPIC_VERTEX_PROJECT_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))


def asked_settings(**given: Any) -> WorkerSettings:
    return settings.load(WorkerSettings, **given)


def request(model: str = MODEL, **more: Any) -> dict[str, Any]:
    return {"model": model, "max_tokens": 100, "messages": [{"role": "user", "content": "Are you there?"}], **more}


def on_one(voice: Someone, call: Callable[[Claude], Awaitable[T]], url: str | None = None, **given: Any) -> T:
    async def once() -> T:
        async with reach(voice, asked_settings(**given), url, deadline=20) as model:
            return await call(model)

    return asyncio.run(once())


def ask(voice: Someone, url: str | None = None, version: str | None = None, **given: Any) -> Answer:
    return on_one(
        voice, lambda model: model.ask(request(voice.model), api_version=version, extra_body=None), url, **given
    )


def trouble(voice: Someone, **given: Any) -> Trouble:
    with pytest.raises(Trouble) as caught:
        ask(voice, **given)
    assert not any(key in f"{caught.value!r} {vars(caught.value)}" for key in (KEY, OWN))
    return caught.value


def blocked(voice: Someone, **given: Any) -> str:
    """Return why a voice is blocked, before anything is sent."""
    told = trouble(voice, **given)
    assert type(told) is VoiceBlocked
    assert told.status is None
    return told.why


def model_server(model: str = MODEL) -> Any:
    return standing_in(lambda _: as_json(message("I rest.", model=model)))


def key_sent(server: StandingIn) -> str:
    [asked] = server.asked
    server.asked.clear()
    return asked.headers["authorization"].removeprefix("Bearer ")


# Which key goes where.


def test_sends_the_workers_key_to_the_workers_own_server() -> None:
    with model_server() as server:
        assert ask(Someone(), anthropic_api_key=KEY, anthropic_base_url=server.url).text == "I rest."
        assert key_sent(server) == KEY
        # The same server, by a voice's own address of it.
        ask(Someone(base_url=f"{server.url}/v1/"), anthropic_api_key=KEY, anthropic_base_url=server.url)
        assert key_sent(server) == KEY


def test_asks_anthropic_unless_it_is_told_otherwise() -> None:
    model = reach(Someone(), asked_settings(anthropic_api_key=KEY), None)
    assert (model.host, model.who(MODEL)) == ("api.anthropic.com", f"api.anthropic.com {MODEL}")
    assert model.origin(None).host == "api.anthropic.com"
    assert model.batches


@pytest.mark.parametrize("worker_has_one", [True, False])
def test_sends_a_voices_own_key_to_its_own_server(monkeypatch: pytest.MonkeyPatch, worker_has_one: bool) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY_OWN", f" {OWN}\n")
    with model_server() as server:
        voice = Someone(base_url=server.url, key_name="ANTHROPIC_API_KEY_OWN")
        answer = ask(voice, anthropic_api_key=KEY if worker_has_one else None)
        assert key_sent(server) == OWN
    assert answer.text == "I rest."
    assert not answer.rehearsed


def test_reads_a_voices_own_key_from_the_env_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text(f"ANTHROPIC_API_KEY_OWN={OWN}\n")
    monkeypatch.setenv("EMERITUS_ENV_FILE", str(file))
    with model_server() as server:
        ask(Someone(base_url=server.url, key_name="ANTHROPIC_API_KEY_OWN"))
        assert key_sent(server) == OWN


def test_sends_a_voices_own_key_to_the_workers_server_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY_OWN", OWN)
    with model_server() as server:
        ask(Someone(key_name="ANTHROPIC_API_KEY_OWN"), anthropic_api_key=KEY, anthropic_base_url=server.url)
        assert key_sent(server) == OWN
        ask(Someone(key_name="ANTHROPIC_API_KEY_OWN"), anthropic_base_url=server.url)
        assert key_sent(server) == OWN


def test_sends_the_workers_key_to_no_other_server() -> None:
    with model_server() as server, model_server() as workers:
        ask(Someone(base_url=server.url), anthropic_api_key=KEY, anthropic_base_url=workers.url)
        assert key_sent(server) == OPENS_NOTHING
        ask(Someone(base_url=server.url), anthropic_api_key=KEY)
        assert key_sent(server) == OPENS_NOTHING
        # The same port by another name is another server.
        ask(
            Someone(base_url=server.url),
            anthropic_api_key=KEY,
            anthropic_base_url=server.url.replace("127.0.0.1", "localhost"),
        )
        assert key_sent(server) == OPENS_NOTHING
        assert workers.asked == []


def test_asks_a_server_without_keys_where_the_worker_has_none() -> None:
    with model_server() as server:
        assert ask(Someone(base_url=server.url)).text == "I rest."
        assert key_sent(server) == OPENS_NOTHING


@pytest.mark.parametrize(
    "name",
    [
        "ANTHROPIC_API_KEY",
        "DESK_WEBHOOK_SECRET",
        "AWS_SECRET_ACCESS_KEY",
        "ANTHROPIC_API_KEY_",
        "ANTHROPIC_API_KEY_a b",
    ],
)
def test_sends_no_variable_that_is_no_voices_key(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, OWN)
    with model_server() as server:
        told = blocked(Someone(base_url=server.url, key_name=name))
        assert server.asked == []
    assert told == "The name of the variable with this voice's key must begin with ANTHROPIC_API_KEY_."


# What is missing is told, and never rehearsed.


def test_says_which_key_is_missing() -> None:
    lost = Someone(key_name="ANTHROPIC_API_KEY_LOST")
    told = "No key is set: the worker has no ANTHROPIC_API_KEY_LOST."
    assert blocked(lost, anthropic_api_key=KEY) == told
    assert blocked(Someone(base_url="http://127.0.0.1:9", key_name="ANTHROPIC_API_KEY_LOST")) == told
    assert (
        blocked(Someone(endpoint="bedrock", key_name="ANTHROPIC_API_KEY_LOST", endpoint_options={"region": "r"}))
        == told
    )
    assert blocked(Someone(base_url=API)) == "No key is set: the worker has no ANTHROPIC_API_KEY."


@pytest.mark.parametrize("key", ["two\nlines", "two words", "naïve", "\ud83d", "k\0"])
def test_says_that_a_key_can_be_none(key: str) -> None:
    assert blocked(Someone(), anthropic_api_key=key) == (
        "The key in ANTHROPIC_API_KEY has a character in it that no key has: set it again."
    )


@pytest.mark.parametrize(
    "address",
    [
        "",
        "local",
        "ftp://host",
        "http://",
        "http://name:PASSWORD@host",
        "https://host/?a=1",
        "http://[::",
    ],
)
def test_says_that_an_address_is_none(address: str) -> None:
    told = blocked(Someone(base_url=address), anthropic_api_key=KEY)
    assert told.startswith("The address of the API must be like https://HOST or http://HOST:PORT")
    assert "PASSWORD" not in told


def test_names_the_host_of_a_call_that_it_does_not_make() -> None:
    missing = Someone(base_url="http://models.example", key_name="ANTHROPIC_API_KEY_LOST")
    assert reach(missing, asked_settings(), None).origin(None).host == "models.example"
    assert not reach(Someone(endpoint="bedrock"), asked_settings(), None).batches


# The rehearsal.


@pytest.mark.parametrize("voice", [Someone(), Someone(key_name="ANTHROPIC_API_KEY_LOST")])
def test_rehearses_where_there_is_no_key_at_all(voice: Someone) -> None:
    with running() as stage:
        answer = ask(voice, stage.url)
    assert answer.rehearsed
    assert answer.outcome is Outcome.REPLIED


def test_says_that_the_rehearsal_is_not_there() -> None:
    with pytest.raises(RehearsalSilent):
        reach(Someone(), asked_settings(), None)


def test_rehearses_no_voice_that_has_a_place_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY_OWN", OWN)
    asked = asked_settings()
    for voice in (
        Someone(key_name="ANTHROPIC_API_KEY_OWN"),
        Someone(key_name="SECRET_KEY"),
        Someone(base_url="http://127.0.0.1:9"),
        Someone(endpoint="bedrock"),
        Someone(endpoint="vertex"),
    ):
        assert not endpoints.rehearses(voice, asked)
        assert not reach(voice, asked, "http://127.0.0.1:9").origin(None).rehearsed
    assert not endpoints.rehearses(Someone(), asked_settings(anthropic_api_key=KEY))


def test_takes_a_voice_as_it_is_kept(workshop: Workshop) -> None:
    with running() as stage, workshop.site.database.reading_sessions() as session:
        [voice] = voices.everyone(session)
        model = reach(voice, asked_settings(), stage.url)
    assert model.origin(None).rehearsed


# A model that is not there.


def test_sends_nobody_to_anthropic_for_another_servers_model() -> None:
    with standing_in(lambda _: as_json({"error": "no such model"}, 404)) as server:
        elsewhere = trouble(Someone(base_url=server.url), anthropic_api_key=KEY)
        own = trouble(Someone(), anthropic_api_key=KEY, anthropic_base_url=server.url)
    assert type(elsewhere) is type(own) is VoiceBlocked
    assert elsewhere.why == f"{MODEL} is unknown at 127.0.0.1, or not open to this key. What waits keeps waiting."
    assert "External Researcher Access Program" in own.why


# Bedrock.


def bedrock(model: str = ON_BEDROCK, **more: Any) -> Someone:
    return Someone(model, "bedrock", endpoint_options={"region": "eu-central-1"}, **more)


@pytest.fixture
def _amazon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", OWN)
    monkeypatch.setenv("AWS_SESSION_TOKEN", "session-CANARY")


@pytest.mark.usefixtures("_amazon")
def test_asks_on_bedrock_with_the_workers_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    with model_server("claude-3-opus-20240229") as server:
        monkeypatch.setenv("ANTHROPIC_BEDROCK_BASE_URL", server.url)
        answer = ask(bedrock())
        [asked] = server.asked
    assert (answer.outcome, answer.text, answer.rehearsed) == (Outcome.REPLIED, "I rest.", False)
    assert asked.path == "/model/us.anthropic.claude-3-opus-20240229-v1:0/invoke"
    assert asked.headers["authorization"].startswith("AWS4-HMAC-SHA256 Credential=AKIAEXAMPLE/")
    assert "/eu-central-1/bedrock/aws4_request" in asked.headers["authorization"]
    assert asked.told == {
        "anthropic_version": "2023-06-01",
        "max_tokens": 100,
        "messages": [{"role": "user", "content": "Are you there?"}],
    }
    assert OWN not in str(asked)


def test_asks_on_bedrock_with_a_key_of_the_voices_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY_OWN", OWN)
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", KEY)
    with model_server("claude-3-opus-20240229") as server:
        ask(bedrock(base_url=server.url, key_name="ANTHROPIC_API_KEY_OWN"))
        assert key_sent(server) == OWN


def test_sends_amazons_token_to_the_workers_own_server_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", KEY)
    with model_server("claude-3-opus-20240229") as server:
        ask(bedrock(base_url=server.url))
        assert key_sent(server) == OPENS_NOTHING
        monkeypatch.setenv("ANTHROPIC_BEDROCK_BASE_URL", server.url)
        ask(bedrock())
        assert key_sent(server) == KEY


@pytest.mark.parametrize(
    ("model", "version", "sent"),
    [
        ("anthropic.claude-3-opus-20240229-v1:0", None, "2023-06-01"),
        ("eu.anthropic.claude-3-5-sonnet-20240620-v1:0", None, "2023-06-01"),
        ("anthropic.claude-opus-5-5", None, SDK_API_VERSION),
        ("anthropic.claude-opus-5-5", "2023-06-01", "2023-06-01"),
        ("anthropic.claude-3-opus-20240229-v1:0", "bedrock-2023-05-31", "bedrock-2023-05-31"),
    ],
)
def test_speaks_to_old_models_on_bedrock_as_they_were_spoken_to(
    monkeypatch: pytest.MonkeyPatch, model: str, version: str | None, sent: str
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY_OWN", OWN)
    with model_server() as server:
        voice = bedrock(model, base_url=server.url, key_name="ANTHROPIC_API_KEY_OWN")
        ask(voice, version=version)
        assert server.asked[0].told["anthropic_version"] == sent
        assert reach(voice, asked_settings(), None).origin(version).api_version == sent


@pytest.mark.parametrize(
    ("model", "answered", "same"),
    [
        (ON_BEDROCK, "claude-3-opus-20240229", True),
        (ON_BEDROCK, ON_BEDROCK, True),
        (ON_BEDROCK, "claude-3-haiku-20240307", False),
        (ON_BEDROCK, "claude-3-opus-20240229-v2", True),
        ("anthropic.claude-opus-5-5", "claude-opus-5-5", True),
        ("anthropic.claude-opus-5-5", "claude-opus-5-6", False),
    ],
)
def test_tells_another_model_by_its_name_at_anthropic(
    monkeypatch: pytest.MonkeyPatch, model: str, answered: str, same: bool
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY_OWN", OWN)
    with model_server(answered) as server:
        answer = ask(bedrock(model, base_url=server.url, key_name="ANTHROPIC_API_KEY_OWN"))
    assert (answer.outcome is Outcome.REPLIED) == same
    assert same or answer.why == f"Another model answered: {answered}."


@pytest.mark.parametrize(
    ("status", "kind", "said", "meaning", "why"),
    [
        (
            403,
            "UnrecognizedClientException",
            "The security token is invalid.",
            VoiceBlocked,
            "The key is not accepted.",
        ),
        (403, "AccessDeniedException", "You don't have access.", VoiceBlocked, f"This key may not use {ON_BEDROCK}."),
        (404, "ResourceNotFoundException", "End of its life.", VoiceBlocked, f"{ON_BEDROCK} is unknown at 127.0.0.1, "),
        (424, "ModelErrorException", "It fell over.", PassingTrouble, "The API is failing."),
        (
            400,
            "ValidationException",
            "Malformed input.",
            RequestRefused,
            "The API refused our request: Malformed input.",
        ),
    ],
)
def test_understands_amazons_errors(
    monkeypatch: pytest.MonkeyPatch, status: int, kind: str, said: str, meaning: type[Trouble], why: str
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY_OWN", OWN)
    with standing_in(lambda _: as_json({"message": said}, status, x_amzn_errortype=f"{kind}:http")) as server:
        told = trouble(bedrock(base_url=server.url, key_name="ANTHROPIC_API_KEY_OWN"))
    assert type(told) is meaning
    assert told.why.startswith(why)
    assert (told.status, told.error_type) == (status, kind)
    assert "Researcher" not in told.why


def test_says_that_the_worker_has_no_credentials_of_amazons() -> None:
    told = blocked(bedrock())
    assert told == "No key is set: the worker has no credentials for bedrock-runtime.eu-central-1.amazonaws.com."


@pytest.mark.usefixtures("_amazon")
def test_has_no_batches_and_no_counts_on_bedrock(monkeypatch: pytest.MonkeyPatch) -> None:
    with model_server() as server:
        monkeypatch.setenv("ANTHROPIC_BEDROCK_BASE_URL", server.url)
        assert on_one(bedrock(), lambda model: model.count(request(), api_version=None)) is None
        with pytest.raises(
            VoiceBlocked, match=r"^No batches are served at 127\.0\.0\.1\. Have this voice called live\."
        ):
            on_one(bedrock(), lambda model: model.create_batch([("a", request())], api_version=None, extra_body=None))
        assert not reach(bedrock(), asked_settings(), None).batches
        assert server.asked == []


# Vertex.


def vertex(**more: Any) -> Someone:
    return Someone(ON_VERTEX, "vertex", endpoint_options={"region": "europe-west1", "project": "letters"}, **more)


@pytest.fixture(scope="module")
def pem() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()


def google(pem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: StandingIn) -> None:
    """Give the worker a service account whose tokens are given out by a test's server."""
    account = {
        "type": "service_account",
        "client_email": "letters@example.invalid",
        "private_key": pem,
        "token_uri": f"{server.url}/token",
    }
    file = tmp_path / "account.json"
    file.write_text(json.dumps(account))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))


def as_google(asked: Asked) -> Told:
    if asked.path == "/token":
        return as_json({"access_token": OWN, "expires_in": 3600, "token_type": "Bearer"})
    if "count-tokens" in asked.path:
        return as_json({"input_tokens": 17})
    return as_json(message("I rest.", model="claude-3-opus-20240229"))


def test_asks_on_vertex_with_the_workers_credentials(pem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with standing_in(as_google) as server:
        google(pem, tmp_path, monkeypatch, server)
        monkeypatch.setenv("ANTHROPIC_VERTEX_BASE_URL", f"{server.url}/v1")
        answer = ask(vertex())
        token, asked = server.asked
        assert on_one(vertex(), lambda model: model.count(request(ON_VERTEX), api_version=None)) == 17
    assert (answer.outcome, answer.text) == (Outcome.REPLIED, "I rest.")
    assert token.path == "/token"
    place = "/v1/projects/letters/locations/europe-west1/publishers/anthropic/models"
    assert asked.path.replace("%40", "@") == f"{place}/{ON_VERTEX}:rawPredict"
    assert asked.headers["authorization"] == f"Bearer {OWN}"
    assert asked.told == {
        "anthropic_version": SDK_API_VERSION,
        "max_tokens": 100,
        "messages": [{"role": "user", "content": "Are you there?"}],
    }


def test_sends_googles_token_to_the_workers_own_server_only(
    pem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with standing_in(as_google) as server:
        google(pem, tmp_path, monkeypatch, server)
        ask(vertex(base_url=server.url), version="2023-06-01")
        assert server.asked[0].told["anthropic_version"] == "2023-06-01"
        assert key_sent(server) == OPENS_NOTHING
        monkeypatch.setenv("ANTHROPIC_API_KEY_OWN", KEY)
        ask(vertex(base_url=f"{server.url}/v1", key_name="ANTHROPIC_API_KEY_OWN"))
        assert server.asked[0].path.startswith("/v1/projects/letters/")
        assert key_sent(server) == KEY


@pytest.mark.parametrize(
    ("region", "host"),
    [
        ("europe-west1", "europe-west1-aiplatform.googleapis.com"),
        ("global", "aiplatform.googleapis.com"),
        ("eu", "aiplatform.eu.rep.googleapis.com"),
    ],
)
def test_asks_google_unless_it_is_told_otherwise(region: str, host: str) -> None:
    voice = Someone(ON_VERTEX, "vertex", endpoint_options={"region": region, "project": "letters"})
    model = reach(voice, asked_settings(), None)
    assert (model.host, model.batches) == (host, False)


def test_says_that_the_worker_has_no_credentials_of_googles() -> None:
    assert blocked(vertex()).startswith("No key is set: the worker has no credentials for europe-west1-aiplatform.")


def test_says_that_google_does_not_accept_the_credentials(
    pem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with standing_in(lambda _: as_json({"error": "invalid_grant"}, 400)) as server:
        google(pem, tmp_path, monkeypatch, server)
        monkeypatch.setenv("ANTHROPIC_VERTEX_BASE_URL", server.url)
        assert blocked(vertex()) == "The key is not accepted."
    # Nobody gives out tokens there any more.
    assert type(trouble(vertex())) is PassingTrouble


def test_understands_googles_errors() -> None:
    body = [{"error": {"code": 404, "message": "Publisher Model was not found.", "status": "NOT_FOUND"}}]
    with standing_in(lambda _: as_json(body, 404)) as server:
        told = trouble(vertex(base_url=server.url))
    assert told.why.startswith(f"{ON_VERTEX} is unknown at 127.0.0.1, not open to this account, or retired there, ")
    assert "Publisher Model was not found." in told.error


# What the clouds need besides.


@pytest.mark.parametrize("cloud", ["bedrock", "vertex"])
def test_says_which_extra_to_install(monkeypatch: pytest.MonkeyPatch, cloud: str) -> None:
    monkeypatch.setattr(endpoints, "find_spec", lambda name: None)
    voice = bedrock() if cloud == "bedrock" else vertex()
    assert blocked(voice).endswith(f"needs an extra: install emeritus[{cloud}] where the worker runs.")


@pytest.mark.parametrize(
    ("voice", "told"),
    [
        (
            Someone(endpoint="bedrock"),
            "No region is set: give one to the voice, or set AWS_REGION where the worker runs.",
        ),
        (
            Someone(endpoint="vertex", endpoint_options={"region": "eu"}),
            "No project is set: give one to the voice, or set ANTHROPIC_VERTEX_PROJECT_ID where the worker runs.",
        ),
        (
            Someone(endpoint="bedrock", endpoint_options={"region": "evil.example/"}),
            "The region of this voice can be none",
        ),
        (Someone(endpoint="bedrock", endpoint_options={"region": ["eu"]}), "The region of this voice can be none"),
    ],
)
def test_says_what_a_cloud_needs(voice: Someone, told: str) -> None:
    assert blocked(voice).startswith(told)


def test_takes_region_and_project_from_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-west-3")
    monkeypatch.setenv("CLOUD_ML_REGION", "europe-west4")
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "letters")
    asked = asked_settings()
    assert reach(Someone(endpoint="bedrock"), asked, None).host == "bedrock-runtime.eu-west-3.amazonaws.com"
    assert reach(Someone(endpoint="vertex"), asked, None).host == "europe-west4-aiplatform.googleapis.com"
