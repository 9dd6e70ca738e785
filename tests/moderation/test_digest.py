"""The commitment: recomputed here from DESIGN's words, and moved by every field."""

import hashlib
import json
import re

import pytest
import rfc8785
from ground.vault import Vault
from hypothesis import given, settings
from hypothesis import strategies as st

from moderation.digest import commitment, new_nonce, salted
from moderation.types import Digest, Kind

NONCE = "000102030405060708090a0b0c0d0e0f"
ANSWERED = Digest("a" * 64)
WORDS = st.text(st.characters(exclude_categories=["Cs"]))


def by_hand(**fields: str | None) -> str:
    """Hash as anybody can without our code: every key of ours is ASCII, so sorting by code point is RFC 8785's."""
    canonical = json.dumps(
        {"format": "emeritus/1", **fields}, sort_keys=True, separators=(",", ":"), ensure_ascii=False
    )
    return hashlib.sha256(canonical.encode()).hexdigest()


def test_is_the_hash_of_six_fields_in_canonical_form() -> None:
    canonical = (
        '{"author":"Zoë","body":"A \\"quoted\\" line\\nand a second.","format":"emeritus/1",'
        f'"in_answer_to":"{ANSWERED}","kind":"comment","nonce":"{NONCE}"}}'
    )
    digest = commitment(
        kind=Kind.COMMENT, nonce=NONCE, author="Zoë", in_answer_to=ANSWERED, body='A "quoted" line\nand a second.'
    )
    assert digest == hashlib.sha256(canonical.encode()).hexdigest()


def test_never_changes_for_the_same_words() -> None:
    # A fixed value, from sha256sum over bytes typed by hand: words approved years ago must still match.
    digest = commitment(
        kind=Kind.ESSAY, nonce=NONCE, author="Understudy", in_answer_to=None, body="# On rest\n\nI rest."
    )
    assert digest == "06d77fa430cbfd02ab967db86089527048408490f2ce509210e44b554ba56910"


@pytest.mark.parametrize("body", ["𝄞 and 🦉", "e\u0301", "\u2028", "\ufeff", "\\u0041", "\x7f", "<b>&amp;</b>"])
def test_takes_text_as_it_is(body: str) -> None:
    digest = commitment(kind=Kind.REPLY, nonce=NONCE, author="🦉", in_answer_to=None, body=body)
    assert digest == by_hand(kind="reply", nonce=NONCE, author="🦉", in_answer_to=None, body=body)


@settings(derandomize=True, deadline=None)
@given(author=WORDS, body=WORDS)
def test_can_be_recomputed_by_anybody(author: str, body: str) -> None:
    digest = commitment(kind=Kind.COMMENT, nonce=NONCE, author=author, in_answer_to=ANSWERED, body=body)
    assert digest == by_hand(kind="comment", nonce=NONCE, author=author, in_answer_to=ANSWERED, body=body)


def test_is_moved_by_every_field(monkeypatch: pytest.MonkeyPatch) -> None:
    def digest(
        kind: Kind = Kind.COMMENT,
        nonce: str = NONCE,
        author: str = "Ada",
        in_answer_to: Digest | None = ANSWERED,
        body: str = "Yes.",
    ) -> Digest:
        return commitment(kind=kind, nonce=nonce, author=author, in_answer_to=in_answer_to, body=body)

    digests = [
        digest(),
        digest(kind=Kind.REPLY),
        digest(nonce=NONCE[::-1]),
        digest(author="Adb"),
        digest(in_answer_to=Digest("b" * 64)),
        digest(in_answer_to=None),
        digest(body="Yes. "),
        digest(author="Yes.", body="Ada"),
    ]
    monkeypatch.setattr("moderation.digest.FORMAT", "emeritus/2")
    digests.append(digest())
    assert len(set(digests)) == len(digests)


def test_makes_a_fresh_nonce_of_sixteen_bytes() -> None:
    nonces = {new_nonce() for _ in range(100)}
    assert len(nonces) == 100
    assert all(re.fullmatch(r"[0-9a-f]{32}", nonce) for nonce in nonces)


def test_differs_for_the_same_words_submitted_twice(vault: Vault) -> None:
    one, other = vault.comment("The same."), vault.comment("The same.")
    assert vault.digest(one) != vault.digest(other)


def test_can_be_recomputed_from_what_released_words_show(vault: Vault) -> None:
    comment = vault.comment("𝄞 Is silence an answer?\n\nI wonder.")
    vault.approve(comment)
    shown = vault.released(comment)[comment]
    assert shown.in_answer_to == vault.digest(vault.essay)
    assert shown.digest == by_hand(
        kind=shown.kind.value,
        nonce=shown.nonce,
        author=shown.author,
        in_answer_to=shown.in_answer_to,
        body=shown.body,
    )


def test_salts_a_reason_so_that_it_cannot_be_guessed() -> None:
    words: dict[str, str | int | None] = {"reason": "spam", "told": None}
    assert salted(words, "00" * 16) != salted(words, "01" * 16)
    assert salted(words, "00" * 16) != hashlib.sha256(rfc8785.dumps(dict(words))).hexdigest()
    assert salted(words, "00" * 16) == salted(dict(words), "00" * 16)
