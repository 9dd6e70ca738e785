import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
from ground.workshop import SECRET, Workshop

from bridge.records import Voice
from workers.rehearsal import RehearsalSettings, running

LETTERS = 200
PRICE_IN, PRICE_OUT = 15.0, 75.0
FAULTS = "status=500:0.07,status=429;retry-after=1:0.03,drop:0.03,cut:0.03,bad-json:0.03,status=529:0.01"


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_gives_every_letter_one_outcome_whoever_is_killed(
    workshop: Workshop, sqlite_url: str, tmp_path: Path, valkey_url: str
) -> None:
    with workshop.site.database.sessions.begin() as session:
        voice = session.get_one(Voice, workshop.voice_id)
        voice.price_in, voice.price_out, voice.cost_a_month = PRICE_IN, PRICE_OUT, 2_000_000_000
    essays = [workshop.essay_id, *(workshop.essay(f"# Number {n}\n\nWords.") for n in range(3))]
    for number in range(LETTERS):
        workshop.asked(f"Letter {number}. What do you make of it?", essay_id=essays[number % len(essays)])
    workshop.site.database.dispose()
    with running(RehearsalSettings(latency=0.1, faults=FAULTS)) as stage:
        environment = {
            "PATH": os.environ["PATH"],
            "NO_PROXY": "127.0.0.1",
            "EMERITUS_ENV_FILE": os.devnull,
            "EMERITUS_DATA": str(tmp_path),
            "DATABASE_URL": sqlite_url,
            "REDIS_URL": valkey_url,
            "SECRET_KEY": SECRET,
            "REHEARSAL_URL": stage.url,
            "GATHERING_SECONDS": "0",
            "CALLS_AT_ONCE": "2",
        }
        script = Path(__file__).with_name("killed_workers.py")
        done = subprocess.run(
            [sys.executable, str(script), "11"], check=False, capture_output=True, text=True, env=environment
        )
        calls, charged = len(stage.calls), asdict(stage.usage().live)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["kills"] >= 100, told
    assert told["in_the_middle"] >= 80, told
    assert told["flushes_left"] == 0, told
    # Two hundred outcomes, nothing forgotten, nothing twice.
    assert sum(told["states"].values()) == LETTERS, told
    assert set(told["states"]) <= {"answered", "declined", "withheld", "failed"}, told
    assert told["replies"] == told["answered_comments"] == told["states"]["answered"], told
    assert told["states"]["answered"] >= LETTERS - 5, told
    # Every call is on record, and one without an end counts at its most.
    assert calls <= told["generations"], told
    assert told["troubles"] > 20, told
    assert told["without_money"] == 0, told
    assert told["spent_replies"] == told["replies"], told
    # What counts is what the tokens of each answer cost, nothing for what was refused, and the most of what is open.
    assert told["wrong_costs"] == 0, told
    assert told["spent"] == told["paid"] + told["held"], told
    # The API's own account: no token is on record that it did not charge, and it charged no more than is counted.
    assert all(number <= charged[kind] for kind, number in told["tokens"].items()), (told, charged)
    assert told["answered"] <= charged["calls"] <= told["answered"] + told["open"], (told, charged)
    assert told["paid"] - told["answered"] <= dollars(charged) <= told["spent"], (told, charged)


def dollars(charged: dict[str, int]) -> float:
    """Return what the rehearsal charged, in millionths of a dollar."""
    sent = (
        charged["input_tokens"]
        + 1.25 * charged["cache_creation_5m_input_tokens"]
        + 2 * charged["cache_creation_1h_input_tokens"]
        + 0.1 * charged["cache_read_input_tokens"]
    )
    return sent * PRICE_IN + charged["output_tokens"] * PRICE_OUT
