"""Settings: where they come from, what is refused in which words, and the key that is made when none is set."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import make_url

from bridge import settings
from bridge.settings import Settings, SettingsRefused
from moderation import appeals

KEY = "Zk7-Vq2_hR9wXe4-Ty8_mNb3LpGd6JsFa1CuHi5oKx0QrMzW"


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting of whoever runs the tests, and no `.env` file."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.delenv("EMERITUS_ENV_FILE", raising=False)
    monkeypatch.chdir(tmp_path)


def refusal(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> str:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsRefused) as refused:
        settings.load(Settings)
    return str(refused.value)


def test_needs_none_to_be_set(tmp_path: Path) -> None:
    found = settings.load(Settings)
    assert found.database == f"sqlite:///{tmp_path / 'data' / 'emeritus.db'}"
    assert found.database_owner == found.database
    assert found.address == "http://localhost:8000"
    assert found.redis == f"unix://{tmp_path / 'data' / 'valkey.sock'}"


def test_takes_the_environment_before_the_file_and_the_file_before_defaults(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text("PORT=8001\nVETO_LAPSE=3\nSOMETHING_ELSE=1\n")
    monkeypatch.setenv("PORT", "8002")
    found = settings.load(Settings)
    assert (found.port, found.veto_lapse, found.veto_quorum) == (8002, 3, 2)
    assert found.address == "http://localhost:8002"


def test_reads_another_file_where_one_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("PORT=8001\n")
    (tmp_path / "other.env").write_text("PORT=8003\n")
    monkeypatch.setenv("EMERITUS_ENV_FILE", str(tmp_path / "other.env"))
    assert settings.load(Settings).port == 8003


@pytest.mark.parametrize("named", ["nope", ".", "x" * 300])
def test_refuses_a_file_of_settings_that_is_not_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, named: str
) -> None:
    (tmp_path / ".env").write_text("PORT=8001\n")
    told = refusal(monkeypatch, "EMERITUS_ENV_FILE", named)
    assert told == f"EMERITUS_ENV_FILE: there is no file {named} that can be read."


def test_takes_a_file_without_settings_or_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert settings.load(Settings).port == 8000
    (tmp_path / ".env").write_text("PORT=8001\n")
    monkeypatch.setenv("EMERITUS_ENV_FILE", os.devnull)
    assert settings.load(Settings).port == 8000


def test_takes_an_empty_variable_for_one_that_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SITE_URL", "")
    monkeypatch.setenv("SECRET_KEY", "")
    assert settings.load(Settings).site_url is None


@pytest.mark.parametrize(
    ("given", "backend"),
    [
        ("postgresql://app@db/emeritus", "postgresql"),
        ("postgres://app@db/emeritus", "postgresql"),
        ("postgresql+psycopg://app@db/emeritus", "postgresql"),
        ("sqlite:////var/lib/emeritus.db", "sqlite"),
    ],
)
def test_knows_two_databases_by_their_usual_addresses(
    monkeypatch: pytest.MonkeyPatch, given: str, backend: str
) -> None:
    monkeypatch.setenv("DATABASE_URL", given)
    url = make_url(settings.load(Settings).database)
    assert url.get_backend_name() == backend
    assert url.get_driver_name() == {"postgresql": "psycopg", "sqlite": "pysqlite"}[backend]


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("DATABASE_URL", "mysql://localhost/x", "sqlite:/// or postgresql://"),
        ("DATABASE_OWNER_URL", "emeritus.db", "sqlite:/// or postgresql://"),
        ("PORT", "0", "greater than or equal to 1"),
        ("PORT", "many", "valid integer"),
        ("SITE_URL", "letters.example.org", "a scheme and a host"),
        ("SITE_URL", "ftp://letters.example.org", "a scheme and a host"),
        ("SITE_URL", "https://", "a scheme and a host"),
        ("SITE_URL", "https://letters.example.org/below", "a scheme and a host"),
        ("SITE_URL", "https://letters.example.org?x", "a scheme and a host"),
        ("SITE_URL", "https://me:pass@letters.example.org", "a scheme and a host"),
        ("TRUSTED_PROXIES", "-1", "greater than or equal to 0"),
        ("VETO_QUORUM", "0", "1 or 2"),
        ("VETO_LAPSE", "0", "greater than or equal to 1"),
        ("KEEP_REJECTED", "-1", "greater than or equal to 0"),
        ("KEEP_REJECTED", "1", "must be 0, for never, or 20 and more"),
        ("KEEP_REJECTED", "19", "must be 0, for never, or 20 and more"),
        ("SECRET_KEY", KEY[:31], "too short or a sample"),
        ("SECRET_KEY", "changeme-changeme-changeme-changeme", "too short or a sample"),
        ("SECRET_KEY", "please-change-this-before-you-serve", "too short or a sample"),
        ("SECRET_KEY", "this-is-my-very-Secret-key-1234567890", "too short or a sample"),
        ("SECRET_KEY", "0123456789abcdef0123456789abcdef", "too short or a sample"),
        ("SECRET_KEY", "abcdabcd" * 8, "too short or a sample"),
    ],
)
def test_refuses_in_one_sentence_that_names_the_setting_and_not_its_value(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, told: str
) -> None:
    sentence = refusal(monkeypatch, name, value)
    assert sentence.startswith(f"{name}: ")
    assert told in sentence
    assert sentence.count("\n") == 0
    assert value not in sentence.removesuffix("such as https://letters.example.org.").split()


def test_keeps_rejected_letters_for_ever_or_as_long_as_their_authors_may_appeal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for days in (0, appeals.WITHIN.days):
        monkeypatch.setenv("KEEP_REJECTED", str(days))
        assert settings.load(Settings).keep_rejected == days
    assert f"0, for never, or {appeals.WITHIN.days} and" in refusal(
        monkeypatch, "KEEP_REJECTED", str(appeals.WITHIN.days - 1)
    )


def test_drops_a_slash_behind_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SITE_URL", "https://letters.example.org/")
    assert settings.load(Settings).address == "https://letters.example.org"


def test_takes_the_key_that_is_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SECRET_KEY", KEY)
    assert settings.load(Settings).key == KEY
    assert not (tmp_path / "data").exists()


def test_makes_a_key_that_only_its_owner_reads_and_keeps_it(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        key = settings.load(Settings).key
    finally:
        os.umask(before)
    kept = tmp_path / "data" / "secret.key"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert len(key) == 64
    assert settings.load(Settings).key == key
    assert [each.name for each in kept.parent.iterdir()] == ["secret.key"]


@pytest.mark.parametrize("held", ["", "\n", "short\n"])
def test_serves_with_no_key_that_is_not_one(tmp_path: Path, held: str) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "secret.key").write_text(held)
    with pytest.raises(SettingsRefused, match="holds no key"):
        _ = settings.load(Settings).key


@pytest.mark.parametrize("data", ["a-file", "a-file/data", "/proc/nope", "x" * 300])
def test_says_which_folder_cannot_be_the_data_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, data: str
) -> None:
    (tmp_path / "a-file").touch()
    monkeypatch.setenv("EMERITUS_DATA", data)
    told = rf"^EMERITUS_DATA: {tmp_path / data} cannot be the data folder \([^()]+\); set it to another\.$"
    for needed in (lambda given: given.key, Settings.make_data):
        with pytest.raises(SettingsRefused, match=told) as refused:
            needed(settings.load(Settings))
        assert "File exists" not in str(refused.value)


@pytest.mark.parametrize(("data", "why"), [("a-file", "Not a directory"), ("x" * 300, "File name too long")])
def test_looks_for_valkey_in_no_folder_that_cannot_be(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, data: str, why: str
) -> None:
    (tmp_path / "a-file").touch()
    monkeypatch.setenv("EMERITUS_DATA", data)
    with pytest.raises(SettingsRefused, match=rf"cannot be the data folder \({why}\)"):
        _ = settings.load(Settings).redis


def test_gives_processes_that_start_at_once_one_key(tmp_path: Path) -> None:
    told = "from bridge import settings; print(flush=True); input(); print(settings.load(settings.Settings).key)"
    started = [
        subprocess.Popen([sys.executable, "-c", told], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    for process in started:
        assert process.stdout is not None
        process.stdout.readline()
    for process in started:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    keys = {process.communicate()[0] for process in started}
    assert len(keys) == 1
    assert keys == {(tmp_path / "data" / "secret.key").read_text()}


def test_finds_the_embedded_valkey_where_it_said_it_is(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "valkey.url").write_text("unix:///run/elsewhere.sock\n")
    assert settings.load(Settings).redis == "unix:///run/elsewhere.sock"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SMTP_URL", "mail.SECRET.example"),
        ("SMTP_URL", "http://mail.SECRET.example"),
        ("SMTP_URL", "smtp://"),
        ("SMTP_URL", "smtp://user:SECRET@:25"),
        ("SMTP_URL", "smtp://mail.SECRET.example:0"),
        ("SMTP_URL", "smtp://mail.SECRET.example:99999"),
        ("SMTP_URL", "smtp://user:p/SECRET@mail.example"),
        ("SMTP_URL", "smtp://mail.example/?SECRET=1"),
        ("MAIL_FROM", "SECRET"),
        ("MAIL_FROM", "SECRET <a@one.example>"),
        ("MAIL_FROM", "a@one.example, SECRET@two.example"),
        ("MAIL_FROM", "=?utf-8?q?SECRET?=@one.example"),
        ("DESK_WEBHOOK_URL", "ftp://SECRET.example"),
        ("DESK_WEBHOOK_URL", "https://user:SECRET@hooks.example/"),
        ("DESK_WEBHOOK_URL", "hooks.SECRET.example"),
    ],
)
def test_refuses_an_address_that_nothing_can_go_to(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    told = refusal(monkeypatch, name, value)
    assert told.startswith(f"{name}: must be ")
    assert "SECRET" not in told


def test_shows_no_password_and_no_address_that_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMTP_URL", "smtps://house:SECRET@mail.example:465")
    monkeypatch.setenv("DESK_WEBHOOK_URL", "https://hooks.example/services/SECRET")
    found = settings.load(Settings)
    assert "SECRET" not in f"{found!r} {found}"
    assert (found.smtp_url, found.sender) == ("smtps://house:SECRET@mail.example:465", "emeritus@localhost")


def test_sends_mail_from_the_host_that_readers_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SITE_URL", "https://letters.example.org")
    assert settings.load(Settings).sender == "emeritus@letters.example.org"
    monkeypatch.setenv("MAIL_FROM", "house@other.example")
    assert settings.load(Settings).sender == "house@other.example"
