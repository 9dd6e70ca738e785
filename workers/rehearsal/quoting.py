"""How our requests quote: one JSON object in a tag, and in it a reader's words as `body`."""

import json
import unicodedata
from collections.abc import Mapping


def json_in(quotation: str) -> Mapping[str, object] | None:
    """Return the object that a quotation holds; None where it holds none."""
    try:
        told = json.loads(quotation)
    except (ValueError, RecursionError):
        return None
    return told if isinstance(told, dict) else None


def body_of(told: Mapping[str, object]) -> str | None:
    """Return the words of a quoted letter in NFC, as they were digested before they were quoted."""
    body = told.get("body")
    return nfc(body) if isinstance(body, str) else None


def nfc(words: str) -> str:
    """Return *words* in NFC; lone surrogates, which cannot be digested, become question marks."""
    return unicodedata.normalize("NFC", words.encode(errors="replace").decode())
