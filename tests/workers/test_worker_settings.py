import os
from pathlib import Path

import pytest

from bridge import settings
from bridge.settings import Settings, SettingsRefused
from workers import serve
from workers.rehearsal import MalformedSetting, RehearsalSettings
from workers.settings import WorkerSettings, variable

KEY = "sk-ant-KEY-CANARY"


def load(monkeypatch: pytest.MonkeyPatch, **environment: str) -> WorkerSettings:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return settings.load(WorkerSettings)


def test_rehearses_for_want_of_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = load(monkeypatch)
    assert asked.rehearses
    assert (asked.anthropic_api_key, asked.anthropic_base_url, asked.calls_at_once) == (None, None, 8)
    assert asked.rehearsal == RehearsalSettings(0.5, "", "")


@pytest.mark.parametrize("key", ["", " ", "\n"])
def test_takes_an_empty_key_for_none(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    assert load(monkeypatch, ANTHROPIC_API_KEY=key).rehearses


@pytest.mark.parametrize("key", [KEY, f"{KEY}\n", f" {KEY}\r\n"])
def test_strips_the_key_of_what_the_sdk_would_stumble_over(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    asked = load(monkeypatch, ANTHROPIC_API_KEY=key)
    assert asked.anthropic_api_key == KEY
    assert not asked.rehearses


def test_shows_the_key_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = load(monkeypatch, ANTHROPIC_API_KEY=KEY)
    assert KEY not in f"{asked!r} {asked}"


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ("", None),
        (" ", None),
        ("http://127.0.0.1:9", "http://127.0.0.1:9"),
        ("https://api.example/\n", "https://api.example"),
        ("https://api.example/v1", "https://api.example"),
        ("https://api.example/v1/", "https://api.example"),
        ("https://api.example/proxy/v1", "https://api.example/proxy"),
    ],
)
def test_mends_the_address_of_the_api(monkeypatch: pytest.MonkeyPatch, given: str, taken: str | None) -> None:
    assert load(monkeypatch, ANTHROPIC_BASE_URL=given).anthropic_base_url == taken


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ANTHROPIC_BASE_URL", "api.SECRET.example"),
        ("ANTHROPIC_BASE_URL", "ftp://SECRET.example"),
        ("CALLS_AT_ONCE", "0"),
        ("CALLS_AT_ONCE", "257"),
        ("CALLS_AT_ONCE", "SECRET"),
        ("REHEARSAL_LATENCY", "-1"),
    ],
)
def test_refuses_by_name_what_makes_no_sense(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    with pytest.raises(SettingsRefused, match=f"^{name}: ") as refused:
        load(monkeypatch, **{name: value})
    assert "SECRET" not in str(refused.value)


def test_hands_the_rehearsal_its_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {"REHEARSAL_LATENCY": "0", "REHEARSAL_FAULTS": "drop:0.5", "REHEARSAL_LIMITS": "requests=5"}
    assert load(monkeypatch, **environment).rehearsal == RehearsalSettings(0, "drop:0.5", "requests=5")
    monkeypatch.setenv("REHEARSAL_FAULTS", "nonsense")
    with pytest.raises(MalformedSetting, match="REHEARSAL_FAULTS"):
        _ = settings.load(WorkerSettings).rehearsal


def test_keeps_what_signs_the_webhook_to_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    found = load(monkeypatch, DESK_WEBHOOK_SECRET="a-secret-of-some-length")
    assert found.desk_webhook_secret == "a-secret-of-some-length"
    assert "a-secret" not in f"{found!r} {found}"
    assert "desk_webhook_secret" not in Settings.model_fields
    with pytest.raises(SettingsRefused, match="DESK_WEBHOOK_SECRET"):
        load(monkeypatch, DESK_WEBHOOK_SECRET="too short")


def test_gives_keys_to_no_part_but_the_worker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    secrets = {
        "ANTHROPIC_API_KEY": KEY,
        "ANTHROPIC_API_KEY_OWN": KEY,
        "ANTHROPIC_AUTH_TOKEN": KEY,
        "ANTHROPIC_CUSTOM_HEADERS": f"x-key: {KEY}",
        "AWS_SECRET_ACCESS_KEY": KEY,
        "AWS_BEARER_TOKEN_BEDROCK": KEY,
        "GOOGLE_APPLICATION_CREDENTIALS": KEY,
        "CLOUD_ML_REGION": "europe-west1",
        "DESK_WEBHOOK_SECRET": "a-secret-of-some-length",
        "SCREENING_SECRET": "a-secret-of-some-length",
    }
    asked = load(monkeypatch, EMERITUS_DATA=str(tmp_path), **secrets)
    parts = {part.name: part.env for part in serve._parts(asked, embedded=True)}
    assert set(parts) == {"valkey", "worker", "post", "cron", "web"}
    assert secrets.items() <= parts.pop("worker").items()
    # What signs is for the one that sends, too; the keys are not.
    signs = {"DESK_WEBHOOK_SECRET", "SCREENING_SECRET"}
    post = parts.pop("post")
    assert {name for name in secrets if name in post} == signs
    assert not any(KEY in value for value in post.values())
    for environment in parts.values():
        assert environment["PATH"] == os.environ["PATH"]
        assert not set(secrets) & set(environment)
        assert not any(KEY in value for value in environment.values())


def test_gives_the_rehearsal_no_other_voices_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = load(monkeypatch, EMERITUS_DATA=str(tmp_path), ANTHROPIC_API_KEY_OWN=KEY)
    parts = {part.name: part.env for part in serve._parts(asked, embedded=True)}
    assert [name for name, environment in parts.items() if KEY in environment.values()] == ["worker"]
    assert "rehearsal" in parts


def test_reads_what_is_no_setting_where_settings_are_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text(f"ANTHROPIC_API_KEY_FILE='{KEY}\n'\nANTHROPIC_API_KEY_BOTH=file\nANTHROPIC_API_KEY_EMPTY=\n")
    monkeypatch.setenv("EMERITUS_ENV_FILE", str(file))
    monkeypatch.setenv("ANTHROPIC_API_KEY_BOTH", " here\n")
    monkeypatch.setenv("DATABASE_URL", "nonsense")
    found = [variable(f"ANTHROPIC_API_KEY_{name}") for name in ("FILE", "BOTH", "EMPTY", "NONE")]
    assert found == [KEY, "here", None, None]
