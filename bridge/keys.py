"""What the secret key is used for, one derived key for each purpose."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass

from cryptography.fernet import Fernet, InvalidToken
from itsdangerous import BadSignature, Signer

AUTHOR_LINK = "author's page"
"""The purpose of the link to a letter's author's page. It does not expire: it is the key to the letter."""


@dataclass(frozen=True)
class Keys:
    """Signs, ties and hides things under keys derived from the site's secret key."""

    secret: str

    def derived(self, purpose: str) -> bytes:
        """Return 32 bytes that only this secret key and *purpose* give."""
        return hmac.new(self.secret.encode(), purpose.encode(), hashlib.sha256).digest()

    def keyed_digest(self, purpose: str, words: str) -> str:
        """Return an HMAC-SHA-256 in hex: equal for equal words, and no use to anybody without the key."""
        return hmac.new(self.derived(purpose), words.encode(), hashlib.sha256).hexdigest()

    def signed(self, purpose: str, value: str) -> str:
        """Return *value* with a signature that is good for *purpose* alone."""
        return self._signer(purpose).sign(value).decode()

    def opened(self, purpose: str, token: str) -> str | None:
        """Return the value that was signed for *purpose*, or None."""
        try:
            return self._signer(purpose).unsign(token).decode()
        except (BadSignature, UnicodeError):
            return None

    def encrypted(self, text: str) -> bytes:
        """Return *text* encrypted; two encryptions of one text differ."""
        return Fernet(base64.urlsafe_b64encode(self.derived("e-mail"))).encrypt(text.encode())

    def decrypted(self, sealed: bytes) -> str | None:
        """Return the text that `encrypted` hid, or None if that was under another key."""
        try:
            return Fernet(base64.urlsafe_b64encode(self.derived("e-mail"))).decrypt(sealed).decode()
        except InvalidToken:
            return None

    def sealed(self, purpose: str, text: str) -> bytes:
        """Return *text* encrypted under a key of *purpose*'s own; `unsealed` opens it."""
        return self._box(purpose).encrypt(text.encode())

    def unsealed(self, purpose: str, sealed: bytes) -> str | None:
        """Return the text that was sealed for *purpose*, or None if another key or purpose sealed it."""
        try:
            return self._box(purpose).decrypt(sealed).decode()
        except InvalidToken:
            return None

    def _box(self, purpose: str) -> Fernet:
        return Fernet(base64.urlsafe_b64encode(self.derived(f"sealed: {purpose}")))

    def _signer(self, purpose: str) -> Signer:
        return Signer(self.derived("links"), salt=purpose, digest_method=hashlib.sha256)


def new_secret() -> str:
    """Return 256 random bits as URL-safe text."""
    return secrets.token_urlsafe(32)


def fingerprint(secret: str) -> str:
    """Return the SHA-256, in hex, under which a high-entropy secret is kept and found."""
    return hashlib.sha256(secret.encode()).hexdigest()
