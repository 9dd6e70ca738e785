"""What a request asks to answer: a comment in its tag, a choice among letters, or a text that someone typed."""

import re
from dataclasses import dataclass

from workers.rehearsal.choices import Choice, choice_in
from workers.rehearsal.faults import Fault, split_letter
from workers.rehearsal.quoting import body_of, json_in, nfc
from workers.rehearsal.validation import MessageRequest

CHOOSE = "choose"
_OPENING = re.compile(r"\s*<(comment_to_answer[A-Za-z0-9_-]*)>")


@dataclass(frozen=True, slots=True)
class Letter:
    """What is to be answered: the `words` of a comment without the line that asks for a `fault`.

    `comment` is the comment as it came, None where the request held none (a ping, a call by hand). Where letters are
    shown to choose from, `choice` holds them, and `words` is all that shows them.
    """

    words: str
    fault: Fault | None
    comment: str | None
    choice: Choice | None = None

    @property
    def about(self) -> str:
        """The words by whose digest calls are counted: the comment as it came, or else the text."""
        return self.words if self.comment is None else self.comment


def letter_in(request: MessageRequest) -> Letter:
    """Find the letter: the body of the last comment to answer, or else the user's last text.

    Letters to choose from are found where they are the last that the user says, and the tool is there to choose with.
    """
    choice = choice_in(request.texts) if CHOOSE in request.tools and request.tool_choice != "none" else None
    if choice is not None:
        return Letter(nfc(request.texts[-1]), choice.fault, None, choice)
    for text in reversed(request.texts):
        body = _comment_in(text)
        if body is not None:
            words, fault = split_letter(body)
            return Letter(words, fault, body)
    words, fault = split_letter(nfc(request.texts[-1]) if request.texts else "")
    return Letter(words, fault, None)


def _comment_in(text: str) -> str | None:
    """Return the body, in NFC, of the comment that a text block carries; None if it carries none."""
    opening = _OPENING.match(text)
    if opening is None:
        return None
    end = text.find(f"</{opening[1]}>", opening.end())
    if end < 0:
        return None
    told = json_in(text[opening.end() : end])
    return None if told is None else body_of(told)
