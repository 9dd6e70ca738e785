"""The faults that can be asked of the rehearsal, in one vocabulary for its three ways to ask.

A request's own header `x-rehearsal`, a comment's last line in `[[...]]`, and the setting REHEARSAL_FAULTS.
"""

import hashlib
import math
import random
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

FAULT_HEADER = "x-rehearsal"

# The longest wait that may be asked for, in seconds; a longer one is a slip of the pen.
LONGEST_WAIT = 3600.0

_WORD = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_LAST_LINE = re.compile(r"(?:\A|\n)[ \t]*\[\[([^\n\[\]]+)\]\][ \t]*\Z")


class UnknownFault(ValueError):
    """Raised when the words that ask for a fault are not in the vocabulary, or contradict each other."""

    def __init__(self, asked: str, fact: str) -> None:
        super().__init__(f"{asked!r} asks for no fault: {fact}")


class Kind(StrEnum):
    """What goes wrong, or what unusual answer is given."""

    STATUS = "status"
    DROP = "drop"
    CUT = "cut"
    HANG = "hang"
    HTML = "html"
    BAD_JSON = "bad-json"
    HOLES = "holes"
    REFUSAL = "refusal"
    MAX_TOKENS = "max-tokens"
    OTHER_MODEL = "other-model"
    DECLINE = "decline"
    NOTE_ONLY = "note-only"
    SILENCE = "silence"
    EMPTY = "empty"
    STOP = "stop"
    BLOCK = "block"
    EXPIRE = "expire"  # Of batches; a single message is answered as usual.
    # Where a voice is to choose among letters; elsewhere these are answered as usual.
    CHOOSE = "choose"
    PASS = "pass"  # noqa: S105 - it is a letter that is passed over.
    CHOOSE_NONE = "choose-none"
    CHOOSE_ODDLY = "choose-oddly"
    CHOOSE_SILENCE = "choose-silence"


OF_A_CHOICE = frozenset({Kind.CHOOSE_NONE, Kind.CHOOSE_ODDLY, Kind.CHOOSE_SILENCE})
"""What a letter's last line can do to the call that shows it among others."""

_OF_THE_CONNECTION = frozenset(
    {Kind.STATUS, Kind.DROP, Kind.CUT, Kind.HANG, Kind.HTML, Kind.BAD_JSON, Kind.HOLES, None}
)
_WITHOUT_MEANING_ALONE = OF_A_CHOICE | {Kind.CHOOSE, Kind.PASS}
_WITH_WORD = frozenset({Kind.STOP, Kind.BLOCK})


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault as asked for: `kind` is None where only the pace is disturbed (`slow`, `drip`).

    `word` is what `stop=` or `block=` named; `code` an `error_code` to send along with `status`; `times` how many
    requests of the same `key` it is for (None: all).
    """

    kind: Kind | None = None
    status: int = 0
    word: str = ""
    code: str = ""
    retry_after: str | None = None
    slow: float = 0.0
    drip: float = 0.0
    times: int | None = None
    key: str = ""

    @property
    def of_the_answer(self) -> bool:
        """Whether it is the voice that says something unusual, and not the connection or the API that fails."""
        return self.kind not in _OF_THE_CONNECTION


NO_FAULT = Fault()


def parse_fault(asked: str) -> Fault:
    """Read one fault: words joined by `;`, some with `=VALUE`.

    Raises `UnknownFault`.
    """
    kind: Kind | None = None
    word = ""
    status = 0
    pairs: dict[str, str] = {}
    for part in (p.strip() for p in asked.split(";")):
        if not part:
            continue
        name, has_value, value = (s.strip() for s in part.partition("="))
        if name in {"retry-after", "slow", "drip", "times", "key", "code"}:
            if name in pairs:
                raise UnknownFault(asked, f"{name} is there twice")
            pairs[name] = value
            continue
        if name not in set(Kind):
            raise UnknownFault(asked, f"{name!r} is not a word of the rehearsal")
        if kind is not None:
            raise UnknownFault(asked, f"{kind} and {name} exclude each other")
        kind = Kind(name)
        if kind is Kind.STATUS:
            status = _status(asked, value)
        elif kind in _WITH_WORD:
            word = _word(asked, name, value)
        elif has_value:
            raise UnknownFault(asked, f"{name} takes no value")
    slow = _seconds(asked, "slow", pairs)
    drip = _seconds(asked, "drip", pairs)
    if kind is None and not slow and not drip:
        raise UnknownFault(asked, "nothing is to go wrong")
    if kind is not Kind.STATUS and ("retry-after" in pairs or "code" in pairs):
        raise UnknownFault(asked, "retry-after and code go with status")
    retry_after = pairs.get("retry-after")
    if retry_after is not None:
        _seconds(asked, "retry-after", pairs)
    return Fault(
        kind=kind,
        status=status,
        word=word,
        code=_word(asked, "code", pairs["code"]) if "code" in pairs else "",
        retry_after=retry_after,
        slow=slow,
        drip=drip,
        times=_times(asked, pairs["times"]) if "times" in pairs else None,
        key=_word(asked, "key", pairs["key"]) if "key" in pairs else "",
    )


def parse_shares(asked: str) -> tuple[tuple[Fault, float], ...]:
    """Read `FAULT:SHARE,FAULT:SHARE`, in which the shares of all attempts add up to at most 1; empty for nothing.

    Raises `UnknownFault`.
    """
    shares: list[tuple[Fault, float]] = []
    for part in asked.split(",") if asked.strip() else []:
        words, colon, share = part.rpartition(":")
        try:
            number = float(share)
        except ValueError:
            number = math.nan
        if not colon or not 0 <= number <= 1:
            raise UnknownFault(part.strip(), "a share between 0 and 1 has to follow the last colon")
        shares.append((parse_fault(words), number))
    if sum(share for _, share in shares) > 1 + 1e-9:
        raise UnknownFault(asked, "the shares add up to more than 1")
    return tuple(shares)


def split_letter(letter: str) -> tuple[str, Fault | None]:
    """Part a letter from the fault that its last line asks for, if it does.

    A last line in double brackets that is not in the vocabulary is a reader's own and stays in the letter.
    """
    found = _LAST_LINE.search(letter)
    if found is None:
        return letter, None
    try:
        fault = parse_fault(found[1])
    except UnknownFault:
        return letter, None
    return letter[: found.start()].rstrip(), fault


class Faults:
    """Chooses the fault, if any, for each request, and counts those that are for a number of times only."""

    def __init__(self, shares: tuple[tuple[Fault, float], ...], chance: random.Random) -> None:
        self._shares = shares
        self._chance = chance
        self._spent: Counter[str] = Counter()

    def by_header(self, headers: Mapping[str, str], *, of_the_answer: bool | None = None) -> Fault | None:
        """Return the fault that the request's own header asks for, where it is *of_the_answer* or not, as wanted.

        Raises `UnknownFault` when the header is there and not in the vocabulary.
        """
        asked = headers.get(FAULT_HEADER)
        if asked is None:
            return None
        fault = parse_fault(asked)
        if of_the_answer not in (None, fault.of_the_answer):
            return None
        return self._unless_spent(fault, default_key=f"header {asked}")

    def by_letter(self, fault: Fault | None, letter: str, *, continued: bool, choosing: bool = False) -> Fault | None:
        """Return the *fault* that a letter's last line asks for, if it still applies."""
        if fault is None or (fault.kind in _WITHOUT_MEANING_ALONE and not choosing):
            return None
        # Asked once and for all, a note alone would come back for ever: the turn that answers the note has to end.
        if continued and fault.kind is Kind.NOTE_ONLY and fault.times is None:
            return None
        return self._unless_spent(fault, default_key=f"letter {hashlib.sha256(letter.encode()).hexdigest()}")

    def by_chance(self) -> Fault | None:
        """Draw once from the shares of REHEARSAL_FAULTS."""
        if not self._shares:
            return None
        drawn = self._chance.random()
        for fault, share in self._shares:
            if drawn < share:
                return self._unless_spent(fault, default_key=f"share {fault}")
            drawn -= share
        return None

    def _unless_spent(self, fault: Fault, *, default_key: str) -> Fault | None:
        if fault.times is None:
            return fault
        key = f"key {fault.key}" if fault.key else default_key
        if self._spent[key] >= fault.times:
            return None
        self._spent[key] += 1
        return fault


def _status(asked: str, value: str) -> int:
    if not re.fullmatch(r"[45][0-9]{2}", value):
        raise UnknownFault(asked, "status is a number from 400 to 599")
    return int(value)


def _word(asked: str, name: str, value: str) -> str:
    if not _WORD.fullmatch(value):
        raise UnknownFault(asked, f"{name} needs a word of letters, digits, '_', '.' or '-'")
    return value


def _seconds(asked: str, name: str, pairs: Mapping[str, str]) -> float:
    if name not in pairs:
        return 0.0
    try:
        number = float(pairs[name])
    except ValueError:
        number = math.nan
    if not 0 <= number <= LONGEST_WAIT:
        raise UnknownFault(asked, f"{name} needs a number of seconds up to {LONGEST_WAIT:.0f}")
    return number


def _times(asked: str, value: str) -> int:
    if not re.fullmatch(r"[1-9][0-9]{0,5}", value):
        raise UnknownFault(asked, "times needs a number from 1")
    return int(value)
