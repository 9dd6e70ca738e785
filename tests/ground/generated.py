"""A grammar of hostile words (SECURITY.md's last line): tags, events, quotes, encodings and Markdown, by chance."""

import html as entities
import random
import re
from collections.abc import Iterator
from urllib.parse import quote

from bridge.text import words
from ground.looking import AWAY, RUN

TAGS = re.findall(
    "[^ ]+",
    "script img svg iframe math style a body details video input object base form template xmp noscript title "
    "textarea select embed link meta marquee audio animate set foreignObject mtext annotation-xml plaintext",
)
EVENTS = re.findall(
    "[^ ]+", "onerror onload onfocus ontoggle onmouseover onanimationstart onbegin onpointerover onstart autofocus"
)
QUOTES = ('"', "'", "`", "")
WRAPPERS = (
    "{}", "[x]({})", "![x]({})", "<{}>", "`{}`", "> {}", "- {}", "# {}", "    {}", "**{}**", "[{}](http://a.example)",
    "http://a.example/{}", "![{}](x)", "[x]: {}\n[x]", "```{}\nx\n```", "[x](<{}> '{}')", "{}</p></div></article>",
)  # fmt: skip


def encoded(payload: str, chance: random.Random) -> str:
    """Return a payload in one of the ways in which it may slip through."""
    ways = (
        payload,
        payload.upper(),
        entities.escape(payload),
        "".join(f"&#{ord(each)};" for each in payload),
        "".join(f"&#x{ord(each):x}" for each in payload),
        quote(payload),
        payload.replace("<", "\\u003c").replace(">", "\\u003e"),
        payload.replace("script", "scr\tipt").replace("on", "o\nn"),
        entities.escape(entities.escape(payload)),
        payload.replace("<", "\uff1c").replace(">", "\uff1e"),
    )
    return chance.choice(ways)


def payloads(chance: random.Random) -> Iterator[str]:
    """Yield hostile words without end."""
    while True:
        tag, event, mark = chance.choice(TAGS), chance.choice(EVENTS), chance.choice(QUOTES)
        payload = chance.choice(
            (
                f"<{tag} src=x {event}={mark}{RUN}{mark}>",
                f"<{tag}/{event}={mark}{RUN}{mark}//",
                f"{mark}><{tag} {event}={RUN}>",
                f"</{tag}><script>{RUN}</script>",
                f"<{tag} href=javascript:{RUN}>x</{tag}>",
                f"javascript:{RUN}",
                f"<{tag} style={mark}background:url(http:{AWAY}){mark}>",
                f"<{tag} srcdoc={mark}<script>parent.{RUN}</script>{mark}>",
                f"{mark} {event}={RUN} x={mark}",
                f"<!--{mark}--><{tag} {event}={RUN}>-->",
                f"]]><{tag} {event}={RUN}>",
            )
        )
        yield chance.choice(WRAPPERS).replace("{}", encoded(payload, chance))


def letters(seed: int, number: int) -> list[str]:
    """Return letters full of hostile words, each of which the door takes."""
    chance = random.Random(seed)
    source, found = payloads(chance), []
    while len(found) < number:
        letter: list[str] = []
        for each in source:
            try:
                words.comment_body("\n\n".join([*letter, each]))
            except words.WordsRefused:
                break
            letter.append(each)
        if letter:
            found.append("\n\n".join(letter))
    return found


def name(seed: int) -> str:
    """Return a hostile name that the door takes."""
    for each in payloads(random.Random(seed)):
        try:
            return words.author_name(each[:80], reserved=[])
        except words.WordsRefused:
            continue
    raise AssertionError("There is no end of them.")
