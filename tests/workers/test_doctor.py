import os
import socket
from datetime import date, timedelta
from pathlib import Path

import pytest
from ground.standing_in import as_json, standing_in
from ground.workshop import MODEL, SECRET, Workshop, message, owning

from bridge import settings
from bridge.db import connect
from bridge.keys import Keys
from bridge.letter import erased_before, erasure
from bridge.queues import NoNudges
from bridge.records import Comment
from bridge.site import Site
from bridge.voice import voices
from moderation.base import now
from workers import doctor
from workers.doctor import Finding, examine
from workers.rehearsal import RehearsalSettings, running
from workers.settings import WorkerSettings

KEY = "sk-ant-KEY-CANARY"
VOICE = "voice Test Voice"
OWN_WORDS = ("privacy", "imprint", "contact")
"""What a site that is just set up has none of."""


def examined(database_url: str, tmp_path: Path, **given: object) -> dict[str, Finding]:
    asked = settings.load(WorkerSettings, database_url=database_url, emeritus_data=tmp_path, secret_key=SECRET, **given)
    database = connect(asked.database)
    try:
        found = examine(Site(asked, database, NoNudges(), Keys(SECRET)), asked)
    finally:
        database.dispose()
    assert len({finding.what for finding in found}) == len(found)
    assert not any(secret in str(found) for secret in (KEY, SECRET, "PASSWORD"))
    return {finding.what: finding for finding in found}


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@pytest.mark.usefixtures("workshop")
def test_finds_everything_well(sqlite_url: str, tmp_path: Path, valkey_url: str) -> None:
    with running() as stage:
        found = examined(
            sqlite_url,
            tmp_path,
            redis_url=valkey_url,
            anthropic_api_key=KEY,
            anthropic_base_url=stage.url,
            site_url="https://letters.example.org",
        )
        [call] = stage.calls
    assert set(found) == {"database", "Redis", "mail", *OWN_WORDS, VOICE}
    assert {found.pop(what).state for what in OWN_WORDS} == {"note"}
    mail = found.pop("mail")
    assert mail == Finding(
        "mail", "note", f"No SMTP_URL: each mail becomes a file in {tmp_path / 'mail'}, and nobody is sent one."
    )
    voice = found.pop(VOICE)
    assert {finding.state for finding in found.values()} == {"well"}
    assert found["database"].told.startswith("sqlite, migration ")
    assert found["Redis"].told == "It answers."
    assert voice.state == "note"
    assert voice.told.startswith(f"The rehearsal answers for {MODEL} (")
    assert voice.told.endswith("replies are marked.")
    assert isinstance(call.body, dict)
    assert call.body["max_tokens"] == 1


@pytest.mark.usefixtures("workshop")
def test_says_that_it_rehearses_without_a_key(sqlite_url: str, tmp_path: Path, valkey_url: str) -> None:
    found = examined(sqlite_url, tmp_path, redis_url=valkey_url)
    assert set(found) == {"database", "Redis", "mail", *OWN_WORDS, VOICE}
    assert found[VOICE] == Finding(VOICE, "note", "No key: rehearsal, replies are marked.")


@pytest.mark.usefixtures("workshop")
@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (
            "status=404",
            f"Key accepted, but this organisation cannot use {MODEL}: it is unknown there, or retired; Anthropic gives "
            "access by request (External Researcher Access Program); comments wait.",
        ),
        ("status=401", "Key not accepted."),
        ("status=403", f"This key may not use {MODEL}."),
        ("status=402", "Billing needs attention."),
        ("status=529", "The API is overloaded. HTTP 529 overloaded_error"),
        ("status=429;retry-after=7", "Waiting for the rate limit. HTTP 429 rate_limit_error"),
        ("html", "The answer was unreadable. the body is not JSON"),
        ("other-model", f"{MODEL} answers, but not as it should. Another model answered: "),
    ],
)
def test_says_why_a_model_does_not_answer(
    sqlite_url: str, tmp_path: Path, valkey_url: str, fault: str, told: str
) -> None:
    with running(RehearsalSettings(latency=0, faults=f"{fault}:1")) as stage:
        found = examined(
            sqlite_url, tmp_path, redis_url=valkey_url, anthropic_api_key=KEY, anthropic_base_url=stage.url
        )
    assert found[VOICE].state == "broken"
    assert found[VOICE].told.startswith(told)
    assert ("by request" in found[VOICE].told) == (fault == "status=404")
    assert {found[what].state for what in ("database", "Redis")} == {"well"}


@pytest.mark.usefixtures("workshop")
def test_says_that_the_api_cannot_be_reached(sqlite_url: str, tmp_path: Path, valkey_url: str) -> None:
    nobody = f"http://127.0.0.1:{closed_port()}"
    found = examined(sqlite_url, tmp_path, redis_url=valkey_url, anthropic_api_key=KEY, anthropic_base_url=nobody)
    assert found[VOICE].state == "broken"
    assert found[VOICE].told.startswith("127.0.0.1 cannot be reached.")


@pytest.mark.usefixtures("workshop")
def test_says_that_no_limit_holds(sqlite_url: str, tmp_path: Path, valkey_url: str) -> None:
    assert "limits" not in examined(sqlite_url, tmp_path, redis_url=valkey_url, rate_limits="on")
    found = examined(sqlite_url, tmp_path, redis_url=valkey_url, rate_limits="off")["limits"]
    assert found.state == "note"
    assert "RATE_LIMITS=off" in found.told


@pytest.mark.usefixtures("workshop")
def test_goes_on_where_redis_is_gone(sqlite_url: str, tmp_path: Path) -> None:
    found = examined(sqlite_url, tmp_path, redis_url=f"unix://{tmp_path}/nobody.sock")
    assert found["Redis"].state == "broken"
    assert "nothing is lost" in found["Redis"].told
    assert found["database"].state == "well"


def test_says_that_there_is_no_database_yet(tmp_path: Path, valkey_url: str) -> None:
    found = examined(f"sqlite:///{tmp_path}/nothing.db", tmp_path, redis_url=valkey_url, anthropic_api_key=KEY)
    assert found["database"] == Finding("database", "broken", "There is no database yet. Run `emeritus migrate` first.")
    assert not (tmp_path / "nothing.db").exists()
    assert found["key"].state == "well"
    assert set(found) == {"database", "Redis", "mail", *OWN_WORDS, "key"}


def test_says_that_the_database_cannot_be_reached(tmp_path: Path, valkey_url: str) -> None:
    url = f"postgresql+psycopg://emeritus:PASSWORD@127.0.0.1:{closed_port()}/emeritus"
    found = examined(url, tmp_path, redis_url=valkey_url)
    assert found["database"].state == "broken"
    assert found["database"].told == "It cannot be reached."
    assert found["Redis"].state == "well"


@pytest.mark.usefixtures("workshop")
def test_says_that_a_trigger_is_missing(sqlite_url: str, tmp_path: Path, valkey_url: str) -> None:
    with owning(sqlite_url) as connection:
        name = connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'trigger'").scalars().first()
        connection.exec_driver_sql(f"DROP TRIGGER {name}")
    found = examined(sqlite_url, tmp_path, redis_url=valkey_url)
    assert found["database"].state == "broken"
    assert str(name) in found["database"].told


def test_says_that_one_login_is_no_wall(postgresql_url: str, tmp_path: Path, valkey_url: str) -> None:
    one = examined(postgresql_url, tmp_path, redis_url=valkey_url)
    assert one["database"].state == "well"
    assert one["database logins"].state == "note"
    assert "Only two logins are a wall" in one["database logins"].told
    other = postgresql_url.replace("postgres@", "owner@")
    assert "database logins" not in examined(postgresql_url, tmp_path, redis_url=valkey_url, database_owner_url=other)


@pytest.mark.parametrize(
    ("address", "noted"),
    [
        (None, False),
        ("http://localhost:8000", False),
        ("http://127.0.0.1:8000", False),
        ("https://letters.example.org", False),
        ("http://letters.example.org", True),
        ("http://192.168.0.7:8000", True),
        ("http://localhost.example.org", True),
    ],
)
def test_says_that_an_address_is_not_https(
    sqlite_url: str, tmp_path: Path, valkey_url: str, address: str | None, noted: bool
) -> None:
    found = examined(sqlite_url, tmp_path, redis_url=valkey_url, site_url=address)
    assert ("address" in found) == noted
    if noted:
        assert found["address"].state == "note"
        assert str(address) in found["address"].told


def test_asks_for_each_voice_by_its_own_endpoint(
    workshop: Workshop, sqlite_url: str, tmp_path: Path, valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY_OWN", f"{KEY}-OWN")
    with running() as stage, running() as own:
        with workshop.site.database.sessions.begin() as session:
            for name, model, more in (
                ("Understudy", MODEL, {"base_url": own.url, "key_name": "ANTHROPIC_API_KEY_OWN"}),
                ("Gone", "claude-nobody", {}),
                ("Keyless", MODEL, {"key_name": "ANTHROPIC_API_KEY_LOST"}),
                ("Cloudy", MODEL, {"endpoint": "bedrock"}),
            ):
                row = voices.add(session, voices.NewVoice(name=name, model=model, charter="You rest."))
                row.retired_on = date(2026, 1, 5)
                for column, value in more.items():
                    setattr(row, column, value)
        found = examined(
            sqlite_url, tmp_path, redis_url=valkey_url, anthropic_api_key=KEY, anthropic_base_url=stage.url
        )
        assert (len(stage.calls), len(own.calls)) == (2, 1)
    assert (found[VOICE].state, found["voice Understudy"].state) == ("note", "note")
    assert found["voice Gone"].told == (
        "Key accepted, but this organisation cannot use claude-nobody: retired on 2026-01-05; Anthropic gives access "
        "by request (External Researcher Access Program); comments wait."
    )
    assert found["voice Keyless"] == Finding(
        "voice Keyless", "broken", "No key is set: the worker has no ANTHROPIC_API_KEY_LOST."
    )
    assert found["voice Cloudy"].told.startswith("No region is set: ")


def test_says_what_the_smallest_call_cost(workshop: Workshop, sqlite_url: str, tmp_path: Path, valkey_url: str) -> None:
    with workshop.site.database.sessions.begin() as session:
        voice = voices.everyone(session)[0]
        voice.price_in, voice.price_out = 15.0, 75.0
    with standing_in(lambda _: as_json(message("I", stop="max_tokens"))) as api:
        found = examined(sqlite_url, tmp_path, redis_url=valkey_url, anthropic_api_key=KEY, anthropic_base_url=api.url)
    assert found[VOICE] == Finding(VOICE, "well", f"{MODEL} answers (1010 tokens, $0.01575).")


@pytest.mark.usefixtures("workshop")
def test_says_what_of_the_operators_own_words_is_missing(sqlite_url: str, tmp_path: Path, valkey_url: str) -> None:
    (tmp_path / "imprint.md").write_text("A street, a city.")
    found = examined(
        sqlite_url,
        tmp_path,
        redis_url=valkey_url,
        imprint_text=tmp_path / "imprint.md",
        privacy_text=tmp_path / "nowhere.md",
        contact="desk@letters.example",
    )
    assert found["imprint"].state == "well"
    assert found["privacy"].state == "broken"
    assert "nowhere.md cannot be read" in found["privacy"].told
    assert "contact" not in found


def erased_letter(workshop: Workshop) -> str:
    with workshop.site.database.reading_sessions() as session:
        public_id = session.get_one(Comment, workshop.letter("Erase me.")).public_id
    erasure.erase_comment(workshop.site, public_id)
    return public_id


def test_says_whether_what_was_erased_is_listed(
    any_workshop: Workshop, database_url: str, tmp_path: Path, valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told() -> Finding | None:
        return examined(database_url, tmp_path, redis_url=valkey_url).get("erasures")

    file = tmp_path / "erased.jsonl"
    assert told() is None, "there is nothing to say before the first"
    erased_letter(any_workshop)
    assert told() is None, "the sweep comes every minute"
    later = now() + timedelta(minutes=6)
    monkeypatch.setattr(doctor, "now", lambda: later)
    if database_url.startswith("sqlite"):
        missing = f"1 are not in {file} yet: no sweep was done, or its log says why it could not write there."
        assert told() == Finding("erasures", "broken", missing)
    else:
        elsewhere = f"1 are not in {file}. Well, if the sweep runs on another machine: the whole list is there."
        assert told() == Finding("erasures", "note", elsewhere)
    erased_before.keep(any_workshop.site)
    assert told() == Finding("erasures", "well", f"1 are listed in {file}, and none of them stands here again.")
    whole = file.read_bytes()
    file.write_bytes(whole + b"{}\n")
    found = told()
    assert found is not None
    assert (found.state, found.told[:8]) == ("note", "1 lines ")


@pytest.mark.parametrize("how", ["no file", "not to be written"])
def test_says_that_the_list_of_erasures_cannot_be_kept(
    workshop: Workshop, sqlite_url: str, tmp_path: Path, valkey_url: str, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    erased_letter(workshop)
    if how == "no file":
        (tmp_path / "erased.jsonl").mkdir()
    else:
        erased_before.keep(workshop.site)
        there, access = tmp_path / "erased.jsonl", os.access
        # By name, for nothing is forbidden to root.
        monkeypatch.setattr(os, "access", lambda path, mode: path != there and access(path, mode))
    found = examined(sqlite_url, tmp_path, redis_url=valkey_url)["erasures"]
    assert found.state == "broken"
    assert "erased.jsonl cannot be " in found.told


def test_says_that_a_backup_brought_back_what_was_erased(
    workshop: Workshop, sqlite_url: str, tmp_path: Path, valkey_url: str
) -> None:
    database = Path(sqlite_url.removeprefix("sqlite:///"))
    with workshop.site.database.reading_sessions() as session:
        public_id = session.get_one(Comment, workshop.letter("Erase me.")).public_id
    workshop.site.database.dispose()
    before = database.read_bytes()
    erasure.erase_comment(workshop.site, public_id)
    erased_before.keep(workshop.site)
    workshop.site.database.dispose()
    database.write_bytes(before)
    found = examined(sqlite_url, tmp_path, redis_url=valkey_url)["erasures"]
    assert found.state == "broken"
    assert found.told.startswith("Erased before, and here again: 1 letters, 0 addresses.")
    erased_before.erase_again(workshop.site)
    assert examined(sqlite_url, tmp_path, redis_url=valkey_url)["erasures"].state == "well"
