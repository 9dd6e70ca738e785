"""Which of the letters that wait the rehearsal would answer, where it is asked to choose among them."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from workers.rehearsal.faults import OF_A_CHOICE, Fault, Kind, split_letter
from workers.rehearsal.quoting import body_of, json_in

# Each is a line of its own: JSON leaves no line feed in it.
_WAITING = re.compile(r"<(waiting[A-Za-z0-9_-]*)>(.*)</\1>")
_TO_CHOOSE = re.compile(r"<(to_choose[A-Za-z0-9_-]*)>(.*)</\1>")


@dataclass(frozen=True, slots=True)
class Waiting:
    """A letter that is shown under a *number*: its words without the line that asks for a fault."""

    number: int
    words: str
    fault: Fault | None

    @property
    def kind(self) -> Kind | None:
        """What the letter's last line asks for, if it asks for anything."""
        return None if self.fault is None else self.fault.kind


@dataclass(frozen=True, slots=True)
class Choice:
    """The letters that are shown, in their order, and how many of them may be chosen."""

    letters: tuple[Waiting, ...]
    at_most: int

    @property
    def fault(self) -> Fault | None:
        """The first fault that a letter's last line asks of the choice itself; all others act on the letter alone."""
        return next((each.fault for each in self.letters if each.kind in OF_A_CHOICE), None)

    def chosen(self) -> list[int]:
        """Return the numbers of those that would be answered: about two thirds, by digest of each letter's words."""
        wished = [each.number for each in self.letters if each.kind is Kind.CHOOSE]
        others = [each for each in self.letters if each.kind not in (Kind.CHOOSE, Kind.PASS)]
        likely = [each.number for each in others if hashlib.sha256(each.words.encode()).digest()[0] % 3]
        if not wished and not likely:
            # Somebody is answered wherever somebody may be: a rehearsal with a single letter would show nothing else.
            likely = [each.number for each in others[:1]]
        kept = {*wished[: self.at_most], *likely[: max(0, self.at_most - len(wished))]}
        return [each.number for each in self.letters if each.number in kept]

    def oddly(self) -> list[int]:
        """Return numbers that nobody should name: one of them twice, and one that was not shown."""
        numbers = [each.number for each in self.letters]
        return [*numbers[:1], *numbers[:1], max(numbers, default=0) + 1]


def choice_in(texts: Sequence[str]) -> Choice | None:
    """Find the choice that the last of a user's *texts* ask for; None where they ask for none."""
    lines = texts[-1].strip().split("\n") if texts else []
    bound = _TO_CHOOSE.fullmatch(lines[-1]) if lines else None
    told = None if bound is None else json_in(bound[2])
    at_most = None if told is None else told.get("at_most")
    if not isinstance(at_most, int) or isinstance(at_most, bool):
        return None
    letters: list[Waiting] = []
    for at in range(len(texts) - 1, -1, -1):
        found = [_waiting(line) for line in texts[at].strip().split("\n")]
        shown = [each for each in found if each is not None]
        # The letters may be shown in blocks of their own, right before the last.
        if not shown and at < len(texts) - 1:
            break
        letters[:0] = shown
    return Choice(tuple(letters), max(0, at_most))


def _waiting(line: str) -> Waiting | None:
    quoted = _WAITING.fullmatch(line)
    told = None if quoted is None else json_in(quoted[2])
    if told is None:
        return None
    number, body = told.get("number"), body_of(told)
    if body is None or not isinstance(number, int) or isinstance(number, bool):
        return None
    words, fault = split_letter(body)
    return Waiting(number, words, fault)
