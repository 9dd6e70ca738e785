"""`emeritus replay`: a request from the records again, by the command, with its exit code."""

import json
import zlib
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from ground.called import refuse
from ground.house import SECRET_KEY, House
from sqlalchemy import select

from bridge import cli
from bridge.letter import erasure
from bridge.records import Generation
from bridge.settings import Settings
from bridge.voice.model import PassingTrouble
from moderation import gate


@pytest.fixture(autouse=True)
def set_to_the_house(house: House, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Have the command open the house's database, under its key."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.delenv("EMERITUS_ENV_FILE", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EMERITUS_DATA", str(tmp_path))
    monkeypatch.setenv("SECRET_KEY", SECRET_KEY)


def replay(*arguments: str) -> Result:
    return CliRunner().invoke(cli.OneSentence(commands={"replay": cli.replay_command}), ["replay", *arguments])


def test_prints_the_request_and_that_it_is_equal(house: House) -> None:
    sent = house.post("Do you <b>dream</b>?\N{RIGHT-TO-LEFT MARK}")
    (reply,) = house.answer()
    came = [replay(each) for each in (reply, sent.public_id, "1")]
    assert [each.exit_code for each in came] == [0, 0, 0]
    assert came[0].stdout == came[1].stdout == came[2].stdout
    request, _, sentence = came[0].stdout.rstrip("\n").rpartition("\n")
    assert sentence.startswith("This is equal, to the byte, to what was sent")
    with house.site.database.reading_sessions() as session:
        digest = session.scalars(select(Generation.request_digest)).one()
    read = json.loads(request)
    assert house.site.keys.keyed_digest("request", json.dumps(read, sort_keys=True)) == digest
    assert SECRET_KEY not in came[0].output


def test_tells_a_script_the_same(house: House) -> None:
    sent = house.post()
    refuse(house, PassingTrouble("The API is failing."), wait=-1)
    came = replay(sent.public_id, "--json")
    told = json.loads(came.stdout)
    assert (came.exit_code, told["equal"], told["erased"], told["missing"]) == (0, True, False, [])
    assert (told["generation"], told["purpose"], told["attempt"]) == (1, "reply", 1)
    assert told["request"]["messages"][0]["role"] == "user"


def test_is_content_with_words_that_were_taken_back_or_erased(house: House) -> None:
    sent = house.post("Do you dream?")
    (reply,) = house.answer()
    submission = house.submission(sent.public_id)
    with house.site.database.sessions.begin() as session:
        gate.withdraw(session, submission, by="operator")  # type: ignore[arg-type]
    came = replay(reply)
    assert came.exit_code == 0
    assert f"The words of submission {submission} (taken back) are missing" in came.stdout
    assert "Do you dream?" not in came.output
    told = json.loads(replay(reply, "--json").stdout)
    digest = house.digest(submission)
    assert (told["equal"], told["missing"]) == (
        False,
        [{"submission": submission, "digest": digest, "erased": False}],
    )
    erasure.erase_comment(house.site, sent.public_id)
    gone = replay("1")
    assert (gone.exit_code, gone.stdout) == (0, "The request was erased, with a letter that stood in it.\n")
    assert json.loads(replay("1", "--json").stdout)["erased"] is True


def test_exits_with_1_where_it_is_not_equal_and_nothing_is_missing(house: House) -> None:
    house.post("Do you dream?")
    (reply,) = house.answer()
    with house.site.database.sessions.begin() as session:
        made = session.scalars(select(Generation)).one()
        recipe = json.loads(zlib.decompress(made.request))
        made.request = zlib.compress(json.dumps({**recipe, "max_tokens": 7}).encode())
    came = replay(reply)
    assert came.exit_code == 1
    assert "This is not equal to what was sent" in came.stderr
    assert json.loads(came.stdout)["max_tokens"] == 7
    came = replay(reply, "--json")
    assert (came.exit_code, json.loads(came.stdout)["equal"]) == (1, False)


def test_exits_with_1_under_another_secret_key(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.post("Do you dream?")
    house.answer()
    monkeypatch.setenv("SECRET_KEY", SECRET_KEY[::-1])
    came = replay("1")
    assert came.exit_code == 1
    assert "SECRET_KEY" in came.stderr


def test_says_in_one_sentence_that_there_is_no_such_call(house: House) -> None:
    for nothing in ("1", "nothing", "0" * 32):
        came = replay(nothing)
        assert (came.exit_code, came.stdout) == (1, "")
        assert came.stderr == "Error: There is no call to a model on record here.\n"
