"""What is derived from the secret key: one purpose never opens what another made."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.keys import Keys, fingerprint, new_secret

KEYS = Keys("Zk7-Vq2_hR9wXe4-Ty8_mNb3LpGd6JsFa1CuHi5oKx0QrMzW")
OTHER = Keys("another key that nobody has ever used before")


def test_derives_a_key_for_each_purpose_and_the_same_one_again() -> None:
    made = {KEYS.derived("sessions"), KEYS.derived("links"), OTHER.derived("sessions")}
    assert len(made) == 3
    assert KEYS.derived("sessions") in made
    assert all(len(key) == 32 for key in made)


@given(st.text(st.characters(codec="ascii", exclude_categories=["Cc"])))
def test_opens_what_it_signed_for_that_purpose_alone(value: str) -> None:
    token = KEYS.signed("one", value)
    assert KEYS.opened("one", token) == value
    assert KEYS.opened("two", token) is None
    assert OTHER.opened("one", token) is None


@pytest.mark.parametrize("token", ["", ".", "x", "x.", "x.y", "é.é", "\udce9.x", "a" * 5000])
def test_opens_nothing_that_it_never_signed(token: str) -> None:
    assert KEYS.opened("one", token) is None


def test_ties_equal_words_together_for_one_purpose() -> None:
    assert KEYS.keyed_digest("p", "words") == KEYS.keyed_digest("p", "words")
    digests = [KEYS.keyed_digest("q", "words"), KEYS.keyed_digest("p", "word"), OTHER.keyed_digest("p", "words")]
    assert KEYS.keyed_digest("p", "words") not in digests


def test_hides_text_differently_each_time() -> None:
    assert KEYS.encrypted("reader@letters.example.org") != KEYS.encrypted("reader@letters.example.org")


def test_makes_secrets_of_256_bits_and_keeps_them_as_their_sha_256() -> None:
    made = {new_secret() for _ in range(100)}
    assert len(made) == 100
    assert all(len(secret) == 43 for secret in made)
    assert fingerprint("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
