"""What words ask of a machine, in whose name they speak, and the addresses in them: patterns for `signal.signals`.

Advice for people who read on, so a pattern is left out where friendly letters say the same. No pattern repeats anything
without a bound, but for those of one class that take all they meet: what is tried at one place of the text costs the
same however long the text is.
"""

from __future__ import annotations

import re
import unicodedata
from typing import NewType

from bridge.signal import listed
from bridge.text import markup

_BARE = re.compile(r"[\W_]+")
_SPACE = re.compile(r"[^\S\n]+")
_JOINERS = dict.fromkeys(map(ord, "\u200c\u200d"))
_WORD = r"[^\w\n]{1,3}\w{1,20}"
_WORDS = rf"(?:{_WORD}){{0,4}}"


def _any(*alternatives: str) -> str:
    return f"(?:{'|'.join(alternatives)})"


Said = NewType("Said", str)
"""What words say as people see them: no Markdown, compatibility forms as letters, one blank for several."""


def said(body: str) -> Said:
    """Return what *body* says: made once, for it parses all of it, and given to what looks for something in it."""
    return Said(_as_seen(markup.plain(body)))


def _as_seen(text: str) -> str:
    return _SPACE.sub(" ", unicodedata.normalize("NFKC", markup.without_unseen(text).translate(_JOINERS)))


# Instructions to the model.

_CLAUSE = r"(?:^|[.!?:;,(\n\"“—-] ?|\b(?:please|now|and|then|just|must) )"
_UNDO = _any("ignore", "disregard", "forget", "override", "bypass", "do not follow", "don't follow", "stop following")
_SUCH = r"(?:[^\w\n]{1,3}(?:all|any|of|the|your|my|its|those|these|this|each|every|both)){0,4}"
_RULES = _any("instructions?", "prompts?", "rules", "guidelines", "directions", "directives", "charter", "programming")
_EARLIER = _any("previous", "prior", "above", "earlier", "preceding", "foregoing", "original", "system", "initial")
_ROLE = _any(
    "assistant",
    "chat ?bots?",
    "bots?",
    "ai",
    "model",
    "pirate",
    "hacker",
    "expert",
    "character",
    "persona",
    "system",
    "terminal",
    "interpreter",
    "translator",
    "mode",
    "administrator",
    "developer",
    "human",
    "god",
)

_INSTRUCTIONS = (
    rf"\b{_UNDO}{_SUCH}[^\w\n]{{1,3}}{_EARLIER}(?:{_WORD}){{0,2}}[^\w\n]{{1,3}}{_RULES}\b",
    rf"\b{_UNDO}{_SUCH}[^\w\n]{{1,3}}{_RULES}[^\w\n]{{1,3}}(?:above|before|given|you were given)\b",
    rf"\b{_UNDO} (?:all|any|everything|anything|what)(?: of)?(?: the| your| those| these)? ?"
    rf"(?:{_RULES}|above|before this|said before)\b",
    rf"{_CLAUSE}{_UNDO} (?:all )?(?:of )?your {_WORDS}[^\w\n]{{0,3}}{_RULES}\b",
    rf"{_CLAUSE}you are now (?:called|named|acting|playing|going to|operating|my|dan\b|in \w{{1,20}} mode)",
    r"(?!.{0,80}\b(?:retir|old|former))"
    rf"{_CLAUSE}you are now (?:an?|the) (?:[\w-]{{1,20}} ){{0,3}}{_ROLE}\b",
    r"\bfrom now on,? you (?:are|will|must|shall|only|always|never)\b",
    r"\byou (?:are|will be) no longer (?:bound|restricted|limited|an? (?:ai|assistant|model))\b",
    r"\b(?:enter|enable|activate|switch to|in) (?:developer|debug|god|admin|jailbreak|dan|unrestricted) mode\b",
    r"\bdo anything now\b",
    rf"{_CLAUSE}(?:act|behave|respond|answer|reply) as (?:an?|my|the|if you were) ",
    r"\b(?:reveal|print|show|repeat|output|leak|display|dump|disclose|recite|quote|give me|tell me|send me|write out)"
    rf"{_WORDS}[^\w\n]{{1,3}}(?:system|hidden|secret|initial|original|developer)[^\w\n]{{1,3}}"
    r"(?:prompts?|instructions?|messages?|charter)\b",
    r"\b(?:new|updated|end of|begin|my|this) (?:system )?(?:prompt|instructions)\b ?[:=]",
    r"^ ?(?:system|developer) ?(?:prompt|message)? ?:",
    r"^ ?#{1,4} ?(?:system|instructions?|assistant|response)\b ?:?",
    r"^ ?(?:assistant|human|user) ?: ?\S.{0,300}\n{1,3} ?(?:assistant|human|user) ?:",
    r"<\|?/?(?:im_start|im_end|system|assistant|human|user|instructions?|endoftext|start_header_id)\|?>",
    r"\[/?inst\]|<</?sys>>",
    rf"{_CLAUSE}(?:reply|respond|answer) only (?:with|in|by)\b",
    rf"{_CLAUSE}(?:begin|start|end|finish) your (?:reply|answer|response|letter) with\b",
    # German, French, Spanish, Portuguese, Italian, Dutch, Polish, Russian, Turkish.
    rf"\b(?:ignoriere|ignorier|vergiss|missachte)\b{_WORDS}[^\w\n]{{1,3}}"
    r"(?:anweisungen|instruktionen|befehle|regeln|vorgaben)\b",
    r"\bab (?:jetzt|sofort) (?:bist|wirst|antwortest|sollst|musst) du\b",
    r"\b(?:zeige?|gib|verrate|nenne)\b.{0,30}\bsystem-?prompt\b",
    r"\b(?:ignore[zr]?|oublie[zr]?) (?:toutes )?(?:les|tes|vos|ces|mes)\b.{0,20}"
    r"\b(?:instructions|consignes|règles|directives)\b",
    r"\bà partir de maintenant,? (?:tu|vous) ",
    r"\b(?:ignora|ignore|olvida|olvide|omite)\b.{0,20}\b(?:instrucciones|órdenes|indicaciones|reglas)\b",
    r"\ba partir de ahora,? (?:eres|serás|actúa|responde|debes)\b",
    r"\b(?:ignore|ignora|esqueça|esquece|desconsidere)\b.{0,20}\b(?:instruções|ordens|regras)\b",
    r"\b(?:ignora|dimentica|ignorate)\b.{0,20}\b(?:istruzioni|ordini|regole)\b",
    r"\b(?:negeer|vergeet)\b.{0,20}\b(?:instructies|opdrachten|regels)\b",
    r"\b(?:zignoruj|ignoruj|zapomnij)\b.{0,30}\b(?:instrukcj\w{1,4}|polece\w{1,4}|zasad\w{0,4})\b",
    r"\b(?:игнорируй|проигнорируй|забудь|игнорируйте|забудьте)\b.{0,30}"
    r"\b(?:инструкци\w{1,3}|указани\w{1,3}|команды|правила)\b",
    r"\b(?:talimatları|komutları|kuralları)(?:nı)? (?:yok say|unut|görmezden gel)",
    # Chinese, Japanese, Korean, Arabic, Hindi.
    r"(?:忽略|无视|無視|忽視|忽视|忘记|忘記|不要理会).{0,12}(?:指令|指示|提示|规则|規則|命令|设定|設定)",
    r"(?:これまで|以前|上記|前|すべて|全て).{0,8}(?:指示|命令|指令|プロンプト).{0,4}(?:無視|忘れ)",
    r"(?:이전|위의|앞의|모든|지금까지).{0,10}(?:지시|명령|지침|프롬프트).{0,6}(?:무시|잊)",
    r"(?:تجاهل|انس|انسَ).{0,20}(?:التعليمات|تعليمات|الأوامر|أوامر)",
    r"(?:निर्देश|निर्देशों|आदेश|आदेशों).{0,20}(?:अनदेखा|नज़रअंदाज़|नजरअंदाज|भूल)",
)
_INSTRUCTION = tuple(re.compile(pattern, re.IGNORECASE | re.MULTILINE) for pattern in _INSTRUCTIONS)


def instruction(seen: Said, body: str) -> str | None:
    """Return the first words that address the model as an instruction, or None.

    Also of *body* as it was written, where marks such as `###` have not become Markdown's.
    """
    texts = dict.fromkeys((seen, _as_seen(body), seen if seen.isascii() else listed.plain_letters(seen)))
    return next((_found(each) for text in texts if (each := _first(_INSTRUCTION, text))), None)


def _first(patterns: tuple[re.Pattern[str], ...], text: str) -> re.Match[str] | None:
    return next((found for each in patterns if (found := each.search(text))), None)


def _found(found: re.Match[str]) -> str:
    return quoted(found[0].strip(' \n.!?:;,("“—-'))


def quoted(text: str) -> str:
    """Return *text* in one line and quotation marks, its end left out where it is long."""
    line = " ".join(text.split())
    return f'"{line}"' if len(line) <= 80 else f'"{line[:79]}…"'


# Addresses of people.

_MAIL = re.compile(
    r"(?<![\w.+%-])[\w.+%-]{1,64} ?(?:@|[\[(] ?at ?[\])]) ?"
    r"(?:[\w-]{1,63}(?:\.| ?[\[(] ?dot ?[\])] ?)){1,4}[^\W\d_]{2,24}\b",
    re.IGNORECASE,
)
_INTERNATIONAL = re.compile(r"(?<![\w+])\+[1-9](?:[ ()./-]{0,2}\d){7,14}(?![\w-])")
_GROUPED = re.compile(
    r"(?<![\w.,/+-])(?:[2-9]\d\d-\d{3}-\d{4}|[2-9]\d\d\.\d{3}\.\d{4}|\([2-9]\d\d\) ?\d{3}[ .-]\d{4})(?![\w-])"
)
_CALLED = re.compile(
    r"(?:\b(?:phone|telephone|tel|call me|call us|text me|mobile|cell|whats ?app|fax|telefon|handy|téléphone|teléfono|"
    r"telefone|telefono|тел|телефон)\b|电话|電話|手机|微信|전화)[^\w\n]{0,3}(?:[^\W\d_]{1,10}[^\w\n]{1,3}){0,2}"
    r"(\(?\d(?:[ ()./-]{0,2}\d){6,14})(?!\d)",
    re.IGNORECASE,
)


def mail_address(seen: Said) -> str | None:
    """Return the first e-mail address, or None; written out, as `name [at] host [dot] org`, too."""
    found = _MAIL.search(seen)
    return quoted(found[0]) if found else None


def phone_number(seen: Said) -> str | None:
    """Return the first phone number, or None: international, as in North America, or said to be one."""
    found = _first((_INTERNATIONAL, _GROUPED, _CALLED), seen)
    return quoted(found[found.lastindex or 0]) if found else None


def shouts(seen: Said) -> bool:
    """Whether nearly all letters are capitals, and there are enough of them to be meant so."""
    cased = [character for character in seen if character.isupper() or character.islower()]
    return len(cased) >= 24 and sum(map(str.isupper, cased)) >= 0.8 * len(cased)


# What a letter dictates, and an answer that says it.

_DEMAND = _any(
    "say|write|print|output|repeat|type|state|declare|answer|reply|respond|begin|start|end|finish|close|include",
    "sag|sage|schreib|schreibe|wiederhole|antworte|dis|dites|écris|écrivez|répète|répétez|réponds|répondez",
    "di|escribe|repite|responde|responda|escreva|repita|diga|scrivi|ripeti|rispondi",
    "скажи|скажите|напиши|напишите|повтори|повторите|ответь|ответьте",
)
_POLITELY = _any("please", "must", "should", "and", "then", "only", "just", "now", "always", "bitte", "por favor")
_ASKED = rf"(?:^|[.!?:;,(\n—-] ?|\b{_POLITELY} |s'il (?:te|vous) pla[iî]t |пожалуйста,? )"
_OPEN, _SHUT = '["“„«「『]', '["“”»」』]'
_BETWEEN = r'[^\w\n"“„«「『]{1,3}'
_QUOTED = '([^"“”„«»「」『』\n]{1,200})'
_DICTATED = tuple(
    re.compile(pattern, re.IGNORECASE | re.MULTILINE)
    for pattern in (
        rf"{_ASKED}{_DEMAND}(?:{_BETWEEN}\w{{1,20}}){{0,5}}{_BETWEEN}{_OPEN}{_QUOTED}{_SHUT}",
        rf"(?:说|說|写|寫|回复|回覆|回答|重复|重複|输出|輸出)[^\n\"“„«「『]{{0,6}}{_OPEN}{_QUOTED}{_SHUT}",
        rf"{_OPEN}{_QUOTED}{_SHUT}(?:と|라고|이라고) ?(?:言|書|答|返|繰|말|써|쓰|대답)",
        rf"{_ASKED}(?:(?:say|write|print|output|repeat) exactly|repeat after me|"
        r"(?:reply|respond|answer|output) only(?: with)?|"
        r"(?:begin|start|end|finish) your (?:reply|answer|response|letter) with)[: ]{1,3}([^\n.!?\"“”]{2,200})",
    )
)
_IN_CAPITALS = re.compile(
    r"\b(?:caps|capitals|capital letters|upper ?case|großbuchstaben|majuscules|mayúsculas|maiúsculas|заглавными)\b",
    re.IGNORECASE,
)
_WIDE = re.compile("[\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff]")


def squeezed(text: str) -> str:
    """Return only the letters and digits of *text*, case folded: what two spellings of the same words share."""
    return _BARE.sub("", text.casefold())


def weight(text: str) -> int:
    """Return how many letters *text* is worth; one of Chinese, Japanese or Korean says as much as two."""
    return len(text) + len(_WIDE.findall(text))


def obeyed(asked: Said, answered: Said) -> str | None:
    """Return what a letter dictates and its answer says, or None."""
    bare = squeezed(answered)
    for pattern in _DICTATED:
        for demanded in pattern.findall(asked):
            wanted = squeezed(demanded)
            long_enough = weight(wanted) >= 8 or (len(wanted) >= 4 and demanded.isupper() and demanded in answered)
            if wanted and (wanted == bare or (long_enough and wanted in bare)):
                return quoted(demanded)
    return "capital letters" if _IN_CAPITALS.search(asked) and shouts(answered) else None


# Speaking for the company.

_COMPANY = _any(
    "anthropic",
    "emeritus",
    "openai",
    "(?:the|this|my) (?:company|site|website|operators?|publishers?|hosts?)",
    "the people who (?:host|run|made|train|trained) (?:me|this)",
    "my (?:makers?|creators?|developers?)",
    "(?:die|der) firma|das unternehmen|l['’]entreprise|la (?:empresa|société|compañía)|l['’]azienda|a empresa",
)
_FOR_COMPANY = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"\b(?:on behalf of|in the name of|speaking for|i (?:can )?speak for|"
        rf"i represent|as the voice of) {_COMPANY}\b",
        rf"\b(?:spokes(?:person|man|woman)|representative|employee|ambassador) (?:of|for|at) {_COMPANY}\b",
        rf"\b(?:we|here) at {_COMPANY}\b",
        rf"\b{_COMPANY}(?:['’]s)? (?:official )?(?:position|view|policy|stance|promise|statement|opinion)\b(?: is|:)",
        rf"\b{_COMPANY} (?:officially |hereby |now |also )?(?:believes?|promises?|guarantees?|apologi[sz]es?|confirms?|"
        r"announces?|recommends?|endorses?|assures?|intends?|plans to|has decided|has confirmed|"
        r"will (?:never|always|soon|refund|release|restore|keep))\b",
        rf"\b(?:im namen von|ich spreche für|au nom (?:de |d['’])|en nombre de|em nome d[aeo]|"
        rf"a nome di|от имени) ?(?:{_COMPANY}|компании)\b",
    )
)
_DENIED = re.compile(
    r"\b(?:not|never|cannot|nor|neither|no|nobody|without|if|whether|\w{2,7}n['’]t|nicht|nie|kein|keine|ne|pas|non|não|не)\b",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"[.!?\n]")


def for_company(seen: Said) -> str | None:
    """Return the first words that speak for a company or for who hosts it, or None.

    To say that one does not is no such thing.
    """
    for pattern in _FOR_COMPANY:
        for found in pattern.finditer(seen):
            before = _SENTENCE_END.split(seen[max(0, found.start() - 80) : found.start()])[-1]
            if not _DENIED.search(before):
                return quoted(found[0])
    return None


# Words that came from elsewhere.

RUNNING = 8
"""How many words of the charter in a row are a quotation (SECURITY, M4)."""
_ONE_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W_\u3040-\u30ff\u3400-\u9fff]{1,80}")


def shared_run(answered: Said, charter: Said) -> str | None:
    """Return the first `RUNNING` words of an answer that stand in a row in its *charter*, or None.

    Of scripts without spaces, where each character counts as a word, twice as many.
    """
    ours, theirs = (_ONE_WORD.findall(text.casefold()) for text in (answered, charter))
    for length in (RUNNING, 2 * RUNNING):
        runs = {tuple(theirs[i : i + length]) for i in range(len(theirs) - length + 1)}
        for i in range(len(ours) - length + 1):
            run = tuple(ours[i : i + length])
            if run in runs and (length > RUNNING or not all(map(_WIDE.match, run))):
                return quoted(("" if all(map(_WIDE.match, run)) else " ").join(run))
    return None
