"""The site's own commands, each once, on a database of their own."""

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from ground import postgres
from ground.house import ADA, BEN, REASON, SECRET_KEY, SLUG, House, Tokens, site_over
from sqlalchemy import text

from bridge import cli, db
from bridge.letter import comments
from bridge.people import accounts
from bridge.settings import Settings
from bridge.voice import voices, ways
from moderation import ledger
from moderation.types import AccessEvent, State
from moderation.writeonce import statements


@click.group(cls=cli.OneSentence)
def emeritus() -> None:
    """As `workers.cli` has it, with the site's commands alone."""


for command in cli.COMMANDS:
    emeritus.add_command(command)


def run(*arguments: str, **more: str) -> Result:
    return CliRunner().invoke(emeritus, arguments, **more)  # type: ignore[arg-type]


def told(*arguments: str) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(*arguments: str) -> str:
    """Return the one sentence that a command ends with."""
    result = run(*arguments)
    assert result.exit_code != 0
    assert isinstance(result.exception, SystemExit), result.exception
    assert "Traceback" not in result.output
    sentence = result.stderr.strip().splitlines()[-1]
    assert sentence.startswith("Error: ")
    return sentence.removeprefix("Error: ")


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder without a database, and no setting of whoever runs the tests."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.delenv("EMERITUS_ENV_FILE", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EMERITUS_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("SECRET_KEY", SECRET_KEY)
    return tmp_path


@pytest.fixture
def kept(bare: Path, furnished: tuple[Path, Tokens]) -> Iterator[House]:
    """A furnished site where the commands look for it."""
    (bare / "data").mkdir()
    (bare / "data" / "emeritus.db").write_bytes(furnished[0].read_bytes())
    database = db.connect(f"sqlite:///{bare / 'data' / 'emeritus.db'}")
    yield House(site_over(database, bare / "data"), furnished[1])
    database.dispose()


def owner(folder: Path, *sql: str) -> None:
    """Do what only the owner of the file can."""
    engine = db.owner_engine(f"sqlite:///{folder / 'data' / 'emeritus.db'}")
    with engine.begin() as connection:
        for statement in sql:
            connection.execute(text(statement))
    engine.dispose()


# migrate


def test_makes_the_database_and_leaves_one_that_is_there_as_it_is(bare: Path) -> None:
    assert "The database is at migration" in told("migrate")
    told("voice", "list")
    with sqlite3.connect(bare / "data" / "emeritus.db") as connection:
        before = list(connection.iterdump())
    connection.close()
    told("migrate")
    with sqlite3.connect(bare / "data" / "emeritus.db") as connection:
        assert list(connection.iterdump()) == before
    connection.close()


@pytest.mark.parametrize("data", ["a-file", "a-file/data", "/proc/nope"])
def test_makes_no_database_where_no_folder_can_be(bare: Path, monkeypatch: pytest.MonkeyPatch, data: str) -> None:
    (bare / "a-file").write_text("not a folder\n")
    monkeypatch.setenv("EMERITUS_DATA", data)
    assert f"EMERITUS_DATA: {bare / data} cannot be the data folder (" in refused("migrate")
    monkeypatch.delenv("SECRET_KEY")
    assert f"EMERITUS_DATA: {bare / data} cannot be the data folder (" in refused("voice", "list")
    assert (bare / "a-file").read_text() == "not a folder\n"


def test_says_of_a_list_that_it_is_empty(bare: Path) -> None:
    told("migrate")
    for what in ("voice", "essay", "moderator", "token"):
        assert told(what, "list") == f"There is no {what}.\n"
        assert json.loads(told(what, "list", "--json")) == []


@pytest.mark.parametrize("arguments", [("voice", "list"), ("queue",), ("ledger", "verify"), ("token", "list")])
def test_says_that_there_is_no_database(bare: Path, arguments: tuple[str, ...]) -> None:
    assert "emeritus migrate" in refused(*arguments)
    (bare / "data").mkdir(exist_ok=True)
    (bare / "data" / "emeritus.db").unlink(missing_ok=True)
    sqlite3.connect(bare / "data" / "emeritus.db").close()
    assert "emeritus migrate" in refused(*arguments)


def test_says_which_setting_is_wrong(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "many")
    assert refused("migrate").startswith("PORT: ")


def test_works_with_no_database_whose_triggers_are_gone(kept: House, bare: Path) -> None:
    owner(bare, f"DROP TRIGGER {statements('sqlite')[0].split()[2]}")
    assert "write-once triggers" in refused("queue")


def test_works_on_postgresql_too(bare: Path, cluster: postgres.Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", cluster.create_database("emeritus_cli"))
    try:
        assert "emeritus migrate" in refused("queue")
        told("migrate")
        told("migrate")
        assert told("queue") == "Nothing waits.\n"
    finally:
        cluster.drop_database("emeritus_cli")


# voice, essay


def test_adds_a_voice_and_lists_pauses_and_resumes_it(bare: Path) -> None:
    told("migrate")
    (bare / "charter.md").write_text("You are a test.\n")
    add = ("voice", "add", "Quiet One", "--model", "no-such-model-0", "--charter", "charter.md", "--price-in", "15")
    assert "Give both prices" in refused(*add)
    assert "--voice quiet-one" in told(*add, "--price-out", "75")
    (voice,) = json.loads(told("voice", "list", "--json"))
    assert (voice["name"], voice["slug"], voice["model"], voice["paused"]) == (
        "Quiet One",
        "quiet-one",
        "no-such-model-0",
        False,
    )
    told("voice", "pause", "quiet-one", "--why", "Enough for today.")
    (voice,) = json.loads(told("voice", "list", "--json"))
    assert (voice["paused"], voice["paused_why"]) == (True, "Enough for today.")
    assert (voice["endpoint"], voice["answering"], voice["calls"]) == ("anthropic", "each", "live")
    assert "paused: Enough for today." in told("voice", "list")
    told("voice", "resume", "Quiet One")
    assert "answers" in told("voice", "list")


def test_bounds_a_voice_and_shows_how_it_stands(kept: House, bare: Path) -> None:
    assert "with a bound in dollars it is not asked" in told(
        "voice", "budgets", "test-voice", "--cost-a-day", "2.5", "--replies-a-month", "40"
    )
    assert "15 in and $75 out" in told("voice", "prices", "Test Voice", "--price-in", "15", "--price-out", "75")
    changed = told("voice", "budgets", "Test Voice", "--replies-a-month", "none", "--cost-a-month", "30")
    assert changed.splitlines() == [
        "cost a day: 2.50",
        "cost a month: 30.00",
        "replies a day: no bound",
        "replies a month: no bound",
        "replies a reader: no bound",
        "replies a thread: no bound",
    ]
    changed = told("voice", "budgets", "Test Voice", "--replies-a-reader", "3", "--replies-a-thread", "20")
    assert changed.splitlines()[-2:] == ["replies a reader: 3", "replies a thread: 20"]
    shown = json.loads(told("voice", "show", "test-voice", "--json"))
    assert shown["budgets"] == {
        "cost_a_day": 2_500_000,
        "cost_a_month": 30_000_000,
        "replies_a_day": None,
        "replies_a_month": None,
        "replies_a_reader": 3,
        "replies_a_thread": 20,
    }
    assert (shown["answers"], shown["requests"]["failed"], shown["charter"]) == (True, 0, "You are a test.")
    assert shown["cost"] == {"today": 0, "this_month": 0}
    told("voice", "pause", "test-voice", "--why", "Enough.")
    as_told = told("voice", "show", "test-voice")
    assert "paused: Enough." in as_told
    assert "today  $0.00, 0 replies" in as_told
    told("voice", "resume", "test-voice")
    kept.exchange()
    assert ", 1 reply\n" in told("voice", "show", "test-voice")
    assert "Nothing was changed" in refused("voice", "budgets", "test-voice", "--cost-a-day", "two")
    assert "There is no voice named nobody" in refused("voice", "show", "nobody")
    assert "A price is a number" in refused("voice", "prices", "test-voice", "--price-in", "nan", "--price-out", "1")


EVERY_WAY = {
    "answering": "chosen",
    "calls": "live",
    "depth": "3",
    "memory_tokens": "0",
    "calls_at_once": "4",
    "requests_a_minute": "50",
    "input_tokens_a_minute": "20000",
    "output_tokens_a_minute": "4000",
    "max_tokens": "4096",
    "anthropic_version": "2023-06-01",
    "extra_body": '{"temperature": 0.7}',
    "endpoint": "vertex",
    "region": "europe-west1",
    "project": "voices",
    "base_url": "http://127.0.0.1:8080",
    "key_name": "ANTHROPIC_API_KEY_SECOND",
    "disclaimer": "Written by a test.",
    "retired_on": "2026-01-05",
}


def test_adds_two_voices_side_by_side_and_changes_how_one_is_asked(bare: Path) -> None:
    told("migrate")
    (bare / "charter.md").write_text("You are a test.\n")
    options = [part for name, value in EVERY_WAY.items() for part in (f"--{name.replace('_', '-')}", value)]
    add = ("voice", "add", "--model", "no-such-model-0", "--charter", "charter.md")
    told(*add, "Quiet One", *options)
    told(*add, "Understudy")
    quiet, understudy = json.loads(told("voice", "list", "--json"))
    assert (quiet["name"], quiet["endpoint"], quiet["answering"], quiet["calls"]) == (
        "Quiet One",
        "vertex",
        "chosen",
        "live",
    )
    assert (understudy["name"], understudy["endpoint"]) == ("Understudy", "anthropic")
    with cli.opened() as site, site.database.reading_sessions() as session:
        assert ways.written(voices.ways_of(voices.named(session, "Quiet One"))) == EVERY_WAY
    shown = json.loads(told("voice", "show", "Quiet One", "--json"))
    assert (shown["depth"], shown["retired_on"], shown["endpoint_options"]) == (
        3,
        "2026-01-05",
        {"region": "europe-west1", "project": "voices"},
    )
    as_told = told("voice", "show", "Quiet One").splitlines()
    assert {"answering  chosen", "key name  ANTHROPIC_API_KEY_SECOND", "price  none is known"} <= set(as_told)
    changed = told("voice", "set", "understudy", "--calls", "batch", "--depth", "1", "--calls-at-once", "none")
    assert changed.splitlines() == [
        "calls: batch",
        "depth: 1",
        "calls at once: none",
        "Understudy is asked so from its next sitting on.",
    ]
    told("voice", "set", "Quiet One", "--endpoint", "anthropic", "--key-name", "none", "--retired-on", "none")
    shown = json.loads(told("voice", "show", "Quiet One", "--json"))
    assert (shown["endpoint_options"], shown["key_name"], shown["retired_on"], shown["depth"]) == (None, None, None, 3)


def test_leaves_a_new_voice_room_to_think_unless_told_how_much(bare: Path) -> None:
    told("migrate")
    (bare / "charter.md").write_text("You are a test.\n")
    add = ("voice", "add", "--model", "claude-opus-5-5", "--charter", "charter.md")
    told(*add, "Understudy")
    told(*add, "Quiet One", "--max-tokens", "700")
    assert json.loads(told("voice", "show", "Understudy", "--json"))["max_tokens"] == 8_000
    assert json.loads(told("voice", "show", "Quiet One", "--json"))["max_tokens"] == 700
    assert "requests  none yet" in told("voice", "show", "Understudy").splitlines()


def test_sets_what_readers_are_told_of_a_voice(kept: House, bare: Path) -> None:
    def about() -> str | None:
        with kept.site.database.reading_sessions() as session:
            return voices.named(session, "Test Voice").about

    assert "/voices/test-voice" in told("voice", "set", "Test Voice", "--about", "It liked long sentences.")
    assert about() == "It liked long sentences."
    assert "at most 4,000 characters" in refused("voice", "set", "Test Voice", "--about", "x" * 4_001)
    told("voice", "set", "Test Voice", "--about", "none")
    assert about() is None


def test_refuses_what_a_voice_cannot_be_set_to(kept: House, bare: Path) -> None:
    change = ("voice", "set", "Test Voice")
    before = kept.contents()
    assert "a key" in (said := refused(*change, "--key-name", "sk-ant-api03-secret-words"))
    assert "ANTHROPIC_API_KEY_" in said
    assert "secret-words" not in said
    assert "from 1 to 100" in refused(*change, "--depth", "none")
    assert "no batches" in refused(*change, "--endpoint", "bedrock", "--calls", "rule")
    assert "without a name, a password" in refused(*change, "--base-url", "https://ada:b@models.example")
    assert "The request itself says model" in refused(*change, "--extra-body", '{"model": "another"}')
    assert "There is no voice named nobody" in refused("voice", "set", "nobody", "--depth", "1")
    assert "Say what to change" in refused(*change)
    assert kept.contents() == before


def test_says_whose_key_another_server_is_sent(kept: House, bare: Path) -> None:
    change = ("voice", "set", "Test Voice")
    done = run(*change, "--base-url", "http://127.0.0.1:8080/v1")
    assert "base url: http://127.0.0.1:8080\n" in done.stdout
    assert "is sent the key in ANTHROPIC_API_KEY;" in done.stderr
    assert run(*change, "--key-name", "ANTHROPIC_API_KEY_LOCAL").stderr == ""


def test_prices_a_voice_by_its_own_or_by_the_table(kept: House, bare: Path) -> None:
    assert told("voice", "prices", "Test Voice") == "No price is known for Test Voice.\n"
    own = told("voice", "prices", "test-voice", "--price-in", "0.5", "--price-out", "2")
    assert own == "Test Voice costs $0.5 in and $2 out, for a million tokens, by prices of its own.\n"
    assert "Give both prices" in refused("voice", "prices", "Test Voice", "--price-in", "1")
    assert "and not both" in refused("voice", "prices", "Test Voice", "--price-in", "1", "--from-table")
    assert "No price is known" in told("voice", "prices", "Test Voice", "--from-table")
    (bare / "charter.md").write_text("You are a test.\n")
    told("voice", "add", "Understudy", "--model", "claude-3-opus-20240229", "--charter", "charter.md")
    assert "$15 in and $75 out, for a million tokens, since 2024-02-29" in told("voice", "prices", "Understudy")
    assert json.loads(told("voice", "show", "Understudy", "--json"))["price"]["model"] == "claude-3-opus-20240229"


def test_refuses_a_voice_in_one_sentence(kept: House, bare: Path) -> None:
    (bare / "charter.md").write_text("You are a test.\n")
    (bare / "latin.md").write_bytes(b"\xff\xfe")
    (bare / "empty.md").write_text("\n")
    add = ("voice", "add", "--model", "no-such-model-0", "--charter")
    assert "There is a voice named Test Voice already." in refused(*add, "charter.md", "Test Voice")
    assert "is not UTF-8 text" in refused(*add, "latin.md", "Other")
    assert "needs a charter" in refused(*add, "empty.md", "Other")
    assert "does not exist" in refused(*add, "nowhere.md", "Other")
    assert "There is no voice named nobody" in refused("voice", "pause", "nobody")


def test_puts_an_essay_before_the_gate_and_lists_it(kept: House, bare: Path) -> None:
    (bare / "sleep.md").write_text("\ufeff# On sleep\r\n\r\nI do not.\r\n")
    assert "/essays/on-sleep waits at the gate" in told("essay", "add", "sleep.md", "--written-on", "2024-03-04")
    listed = json.loads(told("essay", "list", "--json"))
    assert [(each["slug"], each["released"]) for each in listed] == [(SLUG, True), ("on-sleep", False)]
    assert "on-sleep  Test Voice  not released" in told("essay", "list")
    assert "On sleep" in told("queue")


def test_refuses_an_essay_in_one_sentence(kept: House, bare: Path) -> None:
    (bare / "rest.md").write_text("# On rest\n\nAgain.")
    (bare / "untitled.md").write_text("No title.")
    assert "There is an essay at /essays/on-rest already." in refused("essay", "add", "rest.md")
    assert "first line is not a title" in refused("essay", "add", "untitled.md")
    (bare / "textless.md").write_text("# On nothing\n\n \u00a0\n")
    assert "a title and no text. Nothing was added." in refused("essay", "add", "textless.md")
    assert len(json.loads(told("essay", "list", "--json"))) == 1
    assert "--slug" in refused("essay", "add", "rest.md", "--slug", "On Rest")
    assert "https://" in refused("essay", "add", "rest.md", "--slug", "x", "--url", "ftp://a.example/")
    assert "no voice named" in refused("essay", "add", "rest.md", "--voice", "nobody")
    (bare / "charter.md").write_text("You are a test.\n")
    told("voice", "add", "Second", "--model", "no-such-model-1", "--charter", "charter.md")
    assert "--voice" in refused("essay", "add", "rest.md", "--slug", "x")


# moderator, token


def test_adds_a_moderator_with_a_password_that_is_shown_once(kept: House) -> None:
    first = told("moderator", "add", "dora@desk.example", "--role", "admin")
    password = first.rsplit(" ", 1)[-1].strip()
    assert len(password) == 24
    again = told("moderator", "reset", "dora@desk.example")
    assert again.rsplit(" ", 1)[-1].strip() != password
    dora = json.loads(told("moderator", "list", "--json"))[-1]
    assert dora == {"email": "dora@desk.example", "name": "dora", "role": "admin", "active": True}
    assert "cleo@desk.example  Cleo  moderator  (not active)" in told("moderator", "list")
    assert password not in repr(kept.contents())


def test_refuses_a_moderator_in_one_sentence(kept: House) -> None:
    assert "is a moderator already" in refused("moderator", "add", "ADA@desk.example")
    assert "cannot be an e-mail address" in refused("moderator", "add", "dora")
    assert "already has this name" in refused("moderator", "add", "dora@desk.example", "--name", "Ada")
    assert "There is no moderator" in refused("moderator", "reset", "dora@desk.example")
    assert "dora@desk.example" not in told("moderator", "list")


def test_removes_the_factors_of_who_lost_them_only_when_asked(kept: House) -> None:
    with kept.site.database.sessions.begin() as session:
        ada = accounts.of_moderator(session, kept.ada).id
        accounts.set_authenticator(session, ada, "{}", counter=1)
    for option, has in (((), True), (("--factors",), False)):
        told("moderator", "reset", ADA, *option)
        with kept.site.database.reading_sessions() as session:
            assert accounts.own(session, ada).person.authenticator == has


def test_deactivates_a_moderator_at_the_command_line(kept: House) -> None:
    assert "no longer sign in" in told("moderator", "deactivate", ADA)
    assert "ada@desk.example  Ada  moderator  (not active)" in told("moderator", "list")
    assert "no longer active" in refused("token", "issue", ADA)


def test_prints_the_invitation_too_where_mail_is_sent(kept: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMTP_URL", "smtp://127.0.0.1:9")
    said = told("moderator", "add", "dora@desk.example")
    link, password = said.splitlines()[1], said.rsplit(" ", 1)[-1].strip()
    assert "/desk/invitations/" in link
    assert len(password) == 24
    assert len(kept.contents()["outgoing"]) == 1
    with kept.site.database.reading_sessions() as session:
        token = link.rpartition("/")[2]
        dora = accounts.opened(session, kept.site.keys, accounts.INVITATION, token)
    assert dora is not None
    assert dora.email == "dora@desk.example"


def test_gives_a_token_alone_on_the_last_line(kept: House) -> None:
    result = run("token", "issue", ADA, "--scope", "read", "--days", "1")
    assert result.exit_code == 0
    (token,) = result.stdout.splitlines()
    assert token.startswith("emr_")
    assert "for 1 day; it is not shown again" in result.stderr
    listed = json.loads(told("token", "list", "--json"))[-1]
    assert (listed["email"], listed["scope"], listed["revoked"]) == (ADA, "read", False)
    assert token not in told("token", "list")
    assert f"Token {listed['id']} is revoked." in told("token", "revoke", str(listed["id"]))
    assert json.loads(told("token", "list", "--json"))[-1]["revoked"]
    assert f"{listed['id']}  {ADA}  read  revoked" in told("token", "list")


def test_refuses_a_token_in_one_sentence(kept: House) -> None:
    assert "There is no moderator" in refused("token", "issue", "dora@desk.example")
    assert "no longer active" in refused("token", "issue", "cleo@desk.example")
    assert "There is no token 99" in refused("token", "revoke", "99")


# queue, approve, reject


def test_shows_what_waits_without_what_could_command_a_terminal(kept: House) -> None:
    assert told("queue") == "Nothing waits.\n"
    kept.post()
    kept.answer("\x1b[2JHello \u202e\x07there", note="x")
    kept.send("Second.")
    shown = told("queue", "--kind", "reply")
    assert "\x1b" not in shown
    assert "\x07" not in shown
    assert "\u202e" not in shown
    assert "there" in shown
    reply, second = json.loads(told("queue", "--json"))
    assert (reply["kind"], reply["body"], reply["essay"]) == ("reply", "\x1b[2JHello \u202e\x07there", SLUG)
    assert second["digest"] == kept.digest(second["id"])
    assert len(json.loads(told("queue", "--json", "--limit", "1"))) == 1


def test_approves_what_was_seen(kept: House) -> None:
    sent = kept.send()
    number = str(kept.submission(sent.public_id))
    assert "is approved" in told("approve", number, "--as", ADA, "--digest", sent.digest)
    assert "has already approved" in refused("approve", number, "--as", BEN, "--digest", sent.digest)


def test_rejects_a_letter_and_vetoes_an_answer_by_two(kept: House) -> None:
    sent = kept.send()
    number = str(kept.submission(sent.public_id))
    assert "is rejected" in told(
        "reject", number, "--as", ADA, "--digest", sent.digest, "--code", "spam", "--told", "No."
    )
    kept.post()
    (reply,) = kept.answer()
    number, digest = str(kept.submission(reply)), kept.digest(kept.submission(reply))
    veto = ("reject", number, "--digest", digest, "--code", "harm")
    assert "40 characters" in refused(*veto, "--as", ADA, "--reason", "Not nice.")
    assert "a second moderator must agree" in told(*veto, "--as", ADA, "--reason", REASON)
    assert "it takes a second moderator" in refused(*veto, "--as", ADA, "--reason", REASON)
    assert "is rejected" in told(*veto, "--as", BEN)


def test_refuses_a_verdict_in_one_sentence(kept: House) -> None:
    sent = kept.send()
    number = str(kept.submission(sent.public_id))
    assert "not the words that are stored" in refused("approve", number, "--as", ADA, "--digest", "0" * 64)
    assert "There is no moderator" in refused("approve", number, "--as", "x@desk.example", "--digest", sent.digest)
    assert "not the account of an active" in refused(
        "approve", number, "--as", "cleo@desk.example", "--digest", sent.digest
    )
    assert "There is no such submission" in refused("approve", "99", "--as", ADA, "--digest", sent.digest)
    assert "There is no such submission" in refused("approve", "99", "--as", ADA)
    # Nobody is at a terminal here, so nobody saw any words.
    assert "--digest" in refused("approve", number, "--as", ADA)
    reject = ("reject", number, "--as", ADA, "--digest", sent.digest)
    assert "There is no such reason code" in refused(*reject, "--code", "harm")
    assert "some words" in refused(*reject, "--code", "other")
    assert len(json.loads(told("queue", "--json"))) == 1


# ledger


def test_verifies_the_ledger(kept: House) -> None:
    kept.exchange()
    with kept.site.database.reading_sessions() as session:
        entries = len(ledger.entries(session))
    assert told("ledger", "verify").startswith(f"The ledger holds: {entries} entries")
    assert json.loads(told("ledger", "verify", "--json")) == {"entries": entries, "checkpoints": 0, "broken": None}


def test_makes_a_checkpoint_to_keep_elsewhere_and_compares_it(kept: House, bare: Path) -> None:
    kept.exchange()
    made = told("ledger", "verify", "--checkpoint")
    assert "A checkpoint of entry" in made
    (bare / "elsewhere").write_text(made.splitlines()[-1])
    assert "It fits the one checkpoint there is." in told("ledger", "verify")
    assert json.loads(told("ledger", "verify", "--json", "--against", "elsewhere"))["checkpoints"] == 2
    (bare / "elsewhere").write_text("{}\n")
    assert "no checkpoint that can be read" in refused("ledger", "verify", "--against", "elsewhere")


def test_finds_a_tail_that_was_cut_by_a_checkpoint_alone(kept: House, bare: Path) -> None:
    kept.exchange()
    with kept.site.database.sessions.begin() as session:
        ledger.record_access(session, AccessEvent.SIGNED_IN, moderator=kept.ada)
        entries = len(ledger.entries(session))
    told("ledger", "verify", "--checkpoint")
    kept.site.database.dispose()
    drops = [f"DROP TRIGGER {statement.split()[2]}" for statement in statements("sqlite")]
    cut = f"DELETE FROM ledger WHERE number = {entries}"
    head = "UPDATE ledger_head SET (number, digest) = (SELECT number, digest FROM ledger ORDER BY number DESC LIMIT 1)"
    owner(bare, *drops, cut, head, *statements("sqlite"))
    result = run("ledger", "verify", "--checkpoint")
    assert result.exit_code == 1
    assert f"Broken: ledger entry {entries} was cut" in result.stderr
    assert "A checkpoint" not in result.output


def test_names_the_first_break_of_the_ledger(kept: House, bare: Path) -> None:
    sent = kept.post("As approved.")
    kept.site.database.dispose()
    drops = [f"DROP TRIGGER {statement.split()[2]}" for statement in statements("sqlite")]
    owner(
        bare, *drops, "UPDATE submissions SET body = 'Slipped in.' WHERE body = 'As approved.'", *statements("sqlite")
    )
    result = run("ledger", "verify")
    assert result.exit_code == 1
    assert f"Broken: submission {kept.submission(sent.public_id)} " in result.stderr
    assert "Slipped in." not in result.output
    result = run("ledger", "verify", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["broken"]["where"] == f"submission {kept.submission(sent.public_id)}"


def test_closes_an_essay_to_letters_and_opens_it_again(kept: House) -> None:
    assert "takes no letters" in told("essay", "close", SLUG, "--why", "Until spring.")
    with pytest.raises(comments.EssayClosed):
        kept.send()
    assert "nothing to see" in refused("essay", "close", SLUG, "--why", " ")
    assert refused("essay", "close", "no-such", "--why", "Why.") == "There is no essay at this address."
    assert "takes letters" in told("essay", "open", SLUG)
    assert kept.send().public_id


def test_erases_every_letter_of_an_address(kept: House) -> None:
    address = "rhododendron@reader.example"
    for words in ("First.", "Second."):
        kept.send(f"{words} My name is Rhododendron.", email=address)
    sent, reply = kept.exchange("I am Rhododendron.", "Hello, Rhododendron.", email=address.title())
    kept.post("Another letter.")
    (later,) = kept.answer("As that one said.")
    kept.approve(later)
    before = kept.contents()
    assert run("erase", address).exit_code == 2, "where there is no terminal it needs --yes"
    assert refused("erase", "rhododendron", "--yes") == "This cannot be an e-mail address. Nothing was changed."
    assert "No letter came with this address" in told("erase", "other@reader.example", "--yes")
    assert kept.contents() == before
    result = told("erase", address, "--yes")
    assert "Erased: 3 letters, 1 answer." in result
    assert "1 other answer" in result
    assert "hold nothing of them" in result
    assert "Rhododendron" not in repr(kept.contents())
    assert kept.state(kept.submission(reply)) is State.WITHDRAWN
    assert kept.state(kept.submission(later)) is State.APPROVED
    for file in kept.site.settings.data.iterdir():
        assert b"Rhododendron" not in file.read_bytes(), file.name
    assert comments.held(kept.site, sent.public_id).standing.erased_at is not None
    assert "No letter came with this address" in told("erase", address, "--yes")
    assert "holds" in told("ledger", "verify")


def test_lists_what_would_be_erased_and_erases_nothing(kept: House) -> None:
    sent, _ = kept.exchange("I am Rhododendron.", email="rhododendron@reader.example")
    before = kept.contents()
    listed = told("erase", "rhododendron@reader.example", "--dry-run")
    assert f"{sent.public_id}  " in listed
    assert "1 letter and the address would be erased. Nothing was changed." in listed
    assert "Rhododendron" not in listed
    as_json = json.loads(told("erase", "rhododendron@reader.example", "--dry-run", "--json"))
    assert [(each["public_id"], each["has_answer"]) for each in as_json["letters"]] == [(sent.public_id, True)]
    assert "No letter came" in told("erase", "other@reader.example", "--dry-run")
    assert kept.contents() == before
    erased = json.loads(told("erase", "rhododendron@reader.example", "--yes", "--json"))
    assert erased == {"letters": 1, "answers": 1, "to_reread": 0, "off_the_disk": True}
    assert json.loads(told("erase", "rhododendron@reader.example", "--yes", "--json"))["letters"] == 0


def test_erases_again_what_a_backup_brought_back(kept: House) -> None:
    address, data = "rhododendron@reader.example", kept.site.settings.data
    sent, _ = kept.exchange("I am Rhododendron.", "Hello, Rhododendron.", email=address)
    assert "stands here with its words" in told("erase", "--again")
    kept.site.database.dispose()
    backup = (data / "emeritus.db").read_bytes()
    told("erase", address, "--yes")
    listed = (data / "erased.jsonl").read_bytes()
    assert len(listed.splitlines()) == 2, "listed at once, before any sweep"
    kept.site.database.dispose()
    (data / "emeritus.db").write_bytes(backup)
    before = kept.contents()
    result = told("erase", "--again", "--dry-run")
    assert result.splitlines()[0] == sent.public_id
    assert result.endswith("1 letter and 1 address would be erased again. Nothing was changed.\n")
    assert json.loads(told("erase", "--again", "--dry-run", "--json")) == {
        "letters": [sent.public_id],
        "addresses": 1,
        "listed": 2,
        "elsewhere": 0,
        "unreadable": 0,
    }
    assert kept.contents() == before
    assert run("erase").exit_code == run("erase", address, "--again").exit_code == 2
    result = told("erase", "--again")
    assert "Erased again: 1 letter, 1 answer, 1 address." in result
    assert "hold nothing of them" in result
    assert "Rhododendron" not in repr(kept.contents())
    for file in data.iterdir():
        assert b"Rhododendron" not in file.read_bytes(), file.name
    assert (data / "erased.jsonl").read_bytes() == listed
    assert "No letter came with this address" in told("erase", address, "--yes")
    assert "The ledger holds" in told("ledger", "verify")
    assert json.loads(told("erase", "--again", "--json")) == {
        "letters": 0,
        "answers": 0,
        "addresses": 0,
        "to_reread": 0,
        "off_the_disk": True,
        "listed": 2,
        "elsewhere": 0,
        "unreadable": 0,
    }


def test_erases_though_the_list_cannot_be_written_and_says_so(kept: House, caplog: pytest.LogCaptureFixture) -> None:
    kept.send("I am Rhododendron.", email="rhododendron@reader.example")
    (kept.site.settings.data / "erased.jsonl").mkdir()
    assert "Erased: 1 letter" in told("erase", "rhododendron@reader.example", "--yes")
    assert "could not be listed" in caplog.text
    assert "erased.jsonl cannot be read: It is no file." in refused("erase", "--again")
    assert "erased.jsonl cannot be read: It is no file." in refused("erase", "--again", "--dry-run")


def test_exports_what_is_kept_about_an_address(kept: House, bare: Path) -> None:
    kept.send("I am Rhododendron.", email="rhododendron@reader.example")
    before = kept.contents()
    whole = json.loads(told("export", "Rhododendron@reader.example"))
    assert whole["letters"][0]["versions"][0]["words"] == "I am Rhododendron."
    file = bare / "taken.json"
    told("export", "rhododendron@reader.example", "--output", str(file))
    assert file.stat().st_mode & 0o777 == 0o600
    assert json.loads(file.read_text())["letters"] == whole["letters"]
    assert "cannot be written" in refused("export", "rhododendron@reader.example", "--output", str(file))
    assert "Nothing is kept" in refused("export", "other@reader.example")
    other = ("export", "rhododendron", "--output", str(bare / "other.json"))
    assert refused(*other) == "This cannot be an e-mail address. Nothing was written."
    assert not (bare / "other.json").exists()
    assert kept.contents() == before


def test_counts_what_there_is(kept: House) -> None:
    kept.exchange("Posted and answered.", "An answer.")
    kept.reject(kept.send("Rejected.").public_id, code="spam")
    kept.send("Waits.")
    counted = json.loads(told("stats", "--json"))
    assert {state: count for state, count in counted["letters"].items() if count} == {
        "pending": 1,
        "approved": 1,
        "rejected": 1,
    }
    assert (counted["answers"]["approved"], counted["requests"]["answered"], counted["calls"]) == (1, 1, 1)
    assert "Letters: 1 pending, 1 approved, 1 rejected." in told("stats")


def test_exports_what_is_posted_and_no_other_word(kept: House) -> None:
    sent, reply = kept.exchange("Posted.", "An answer.", email="rhododendron@reader.example")
    back = kept.post("Taken back.")
    comments.take_back(kept.site, back.public_id)
    kept.send("Waits.")
    kept.post("Waits for its answer.")
    kept.answer("A pending answer.")
    before = kept.contents()
    lines = [json.loads(line) for line in told("export").splitlines()]
    assert [(each["kind"], each["id"]) for each in lines[:3]] == [
        ("essay", SLUG),
        ("comment", sent.public_id),
        ("reply", reply),
    ]
    assert [each["body"] for each in lines[1:]] == ["Posted.", "An answer.", "Waits for its answer."]
    assert [each["in_reply_to"] for each in lines[:3]] == [None, SLUG, sent.public_id]
    assert lines[2]["ai_generated"]
    assert "rhododendron" not in json.dumps(lines)
    assert kept.contents() == before
