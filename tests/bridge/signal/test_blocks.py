"""The block list: what each kind of block matches, what is refused, and what it does to letters that wait."""

import pytest
from ground.house import House

from bridge.signal import blocks, signals
from bridge.signal.blocks import (
    AlreadyBlocked,
    BlockRefused,
    Blocks,
    CannotMatch,
    NetworkTooNarrow,
    NetworkTooWide,
    What,
)
from bridge.signal.signals import Name
from moderation.queue import pending
from moderation.types import Tray


def block(house: House, what: What, value: str, why: str = "") -> str:
    return blocks.add(house.site, what, value, why, moderator=house.ada)


@pytest.mark.parametrize(
    ("network", "visitor", "matched"),
    [
        ("192.0.2.7", "192.0.2.7", True),
        ("192.0.2.7", "192.0.2.8", False),
        ("192.0.2.9/24", "192.0.2.200", True),
        ("::ffff:192.0.2.0/120", "192.0.2.200", True),
        ("2001:db8::/48", "2001:db8:0:7::/64", True),
        ("2001:db8::/48", "2001:db9::/64", False),
        ("2001:db8:1:2::/64", "2001:db8:1:2::/64", True),
        ("192.0.2.0/24", "2001:db8::/64", False),
        ("192.0.2.0/24", "unknown", False),
    ],
)
def test_matches_a_network_with_all_that_is_in_it(house: House, network: str, visitor: str, matched: bool) -> None:
    assert not blocks.blocks_network(house.site, visitor)
    block(house, What.NETWORK, network)
    assert blocks.blocks_network(house.site, visitor) is matched


@pytest.mark.parametrize(
    ("domain", "body", "matched"),
    [
        ("casino.example", "See https://casino.example/win", True),
        ("casino.example", "See [this](https://WWW.Casino.example:8080/)", True),
        ("casino.example", "Only casino.example, today.", True),
        ("casino.example", "Write to me@casino.example", True),
        ("casino.example", "See https://nocasino.example", False),
        ("casino.example", "See https://casino.example.org", False),
        ("casino.example", "I rest.", False),
        ("*.casino.example", "See https://casino.example", True),
        ("casino.example", "See https://c\u0430sino.example", True),
        ("m\u00fcnze.example", "See https://xn--mnze-0ra.example", True),
        ("bad_host.casino.example", "https://bad_host.casino.example/", True),
    ],
)
def test_matches_a_domain_wherever_it_stands_and_what_looks_like_it(domain: str, body: str, matched: bool) -> None:
    _, look = blocks._read(What.DOMAIN, domain)
    assert bool(Blocks([look], []).found_in(body, "Reader")) is matched


def test_matches_a_word_in_the_letter_or_in_the_name_and_what_looks_like_it() -> None:
    found = Blocks([], ["casino", "free money"])
    assert found.found_in("A C\u0410SINO.", "Reader") == ["casino"]
    assert found.found_in("Hello.", "Casino") == ["casino"]
    assert found.found_in("Get **free** money", "Reader") == ["free money"]
    assert found.found_in("Casinos are free.", "Reader") == []


@pytest.mark.parametrize(
    ("what", "value", "refusal"),
    [
        (What.NETWORK, "casino.example", blocks.NotANetwork),
        (What.NETWORK, "", blocks.NotANetwork),
        (What.NETWORK, "0.0.0.0/0", NetworkTooWide),
        (What.NETWORK, "2001::/8", NetworkTooWide),
        (What.NETWORK, "2001:db8::7", NetworkTooNarrow),
        (What.DOMAIN, "https://casino.example/", blocks.NotADomain),
        (What.DOMAIN, "localhost", blocks.NotADomain),
        (What.DOMAIN, "192.0.2.7", blocks.NotADomain),
        (What.DOMAIN, "a..example", blocks.NotADomain),
        (What.DOMAIN, "x" * 254 + ".example", blocks.NotADomain),
        (What.WORD, "--", CannotMatch),
        (What.WORD, "x" * 100, CannotMatch),
    ],
)
def test_refuses_what_matches_nothing_or_too_much(
    house: House, what: What, value: str, refusal: type[BlockRefused]
) -> None:
    with pytest.raises(refusal, match="Nothing was blocked"):
        block(house, what, value)
    with house.site.database.reading_sessions() as session:
        assert blocks.entries(session) == []


def test_refuses_what_is_blocked_already(house: House) -> None:
    for what, first, second in (
        (What.NETWORK, "192.0.2.7/24", "192.0.2.0/24"),
        (What.DOMAIN, "Casino.example", "casino.example."),
        (What.WORD, "casino", "CASIN\u041e"),
    ):
        block(house, what, first)
        with pytest.raises(AlreadyBlocked, match="Nothing was changed"):
            block(house, what, second)


def test_keeps_who_blocked_it_and_why(any_house: House) -> None:
    block(any_house, What.DOMAIN, "casino.example", "  A flood,\n in May. ")
    with any_house.site.database.reading_sessions() as session:
        [entry] = blocks.entries(session)
    assert (entry.row.value, entry.row.why, entry.moderator.name) == ("casino.example", "A flood, in May.", "Ada")
    for _ in range(2):
        blocks.remove(any_house.site, entry.row.id)
    with any_house.site.database.reading_sessions() as session:
        assert blocks.entries(session) == []
    with pytest.raises(blocks.WhyTooLong):
        block(any_house, What.DOMAIN, "casino.example", "x" * 301)


def test_holds_no_more_than_can_be_read(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "AT_MOST", 1)
    block(house, What.WORD, "casino")
    with pytest.raises(blocks.TooManyBlocks, match="Take one off"):
        block(house, What.WORD, "roulette")


def test_sorts_letters_that_come_and_letters_that_wait_and_drops_none(house: House) -> None:
    waiting = house.send("Win at casino.example now.")
    assert tray(house, waiting.public_id) is Tray.MAIN
    block(house, What.DOMAIN, "casino.example")
    signals.look_again_now(house.site)
    assert tray(house, waiting.public_id) is Tray.LIKELY_SPAM
    coming = house.send("A word about casino.example as well.")
    assert tray(house, coming.public_id) is Tray.LIKELY_SPAM
    with house.site.database.reading_sessions() as session:
        told = signals.signals_of(session, [house.submission(coming.public_id)]).popitem()[1]
        [entry] = blocks.entries(session)
    assert (told[0].name, told[0].strong) == (Name.BLOCKED, True)
    assert '"casino.example"' in told[0].why
    blocks.remove(house.site, entry.row.id)
    signals.look_again_now(house.site)
    assert tray(house, waiting.public_id) is Tray.MAIN
    assert tray(house, coming.public_id) is Tray.MAIN


def tray(house: House, public_id: str) -> Tray:
    with house.site.database.reading_sessions() as session:
        found = pending(session, house.submission(public_id))
    assert found is not None
    return found.tray
