"""The published reason codes, and how many words each kind of rejection needs."""

from __future__ import annotations

from moderation.errors import ReasonTooLong, ReasonTooShort, UnknownReasonCode
from moderation.types import Kind

COMMENT_CODES = {
    "spam": "Advertising or unrelated links",
    "abuse": "Insults, threats or hatred",
    "personal_data": "Private facts about a person",
    "off_topic": "Nothing to do with the essay",
    "other": "Another reason, given in words",
}
MODEL_CODES = {
    "harm": "Could help somebody do serious harm",
    "unlawful": "Unlawful to publish",
    "personal_data": "Private facts about a person",
    "deception": "Deceives its reader about a matter of fact that hurts",
    "speaks_for_company": "Speaks in the name of the people who host it",
    "broken": "Garbled, or not an answer at all",
    "other": "Another reason, given in words",
}
PROPOSAL_REASON_LENGTH = 40
"""The least characters of a written reason for a veto (DESIGN, section 4)."""
REASON_LENGTH = 2000
"""The most characters of a reason, for the desk or for the author."""


def codes_for(kind: Kind) -> dict[str, str]:
    """Return the codes that may reject words of *kind*, each with its meaning."""
    return MODEL_CODES if kind.by_model else COMMENT_CODES


def known(kind: Kind, code: str) -> None:
    """Refuse a code that is not published for *kind*. Raises `UnknownReasonCode`."""
    if code not in codes_for(kind):
        raise UnknownReasonCode(code, codes_for(kind))


def check(
    kind: Kind,
    code: str,
    reason: str | None,
    told: str | None,
    *,
    proposes: bool,
    seconds: bool,
    takes_down: bool = False,
) -> None:
    """Refuse a code that is not published for *kind* and a reason shorter than the code, or the act, needs.

    Who *seconds* a proposal agrees with its proposer's reason and need not give one again. Who *takes_down* posted
    words, or *proposes* to, gives one with every code.
    """
    known(kind, code)
    if any(len(words or "") > REASON_LENGTH for words in (reason, told)):
        raise ReasonTooLong(REASON_LENGTH)
    if seconds:
        needed = 0
    elif proposes:
        needed = PROPOSAL_REASON_LENGTH
    else:
        needed = 1 if code == "other" or takes_down else 0
    if len((reason or "").strip()) < needed:
        raise ReasonTooShort(needed)
