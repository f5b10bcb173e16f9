"""The language in which hwkit speaks to a student: English, or the Chinese of Taiwan (locale/zh_TW, gettext's form).

    say("{count:,} images are in {folder}", count=count, folder=folder)

A whole sentence is looked up, with its fields, and then the fields are filled. Nothing is put together from pieces:
another language has another order. It is looked up when it is said, so a language may be chosen at any time.
"""

import contextlib
import gettext
import locale
import os
import re
import unicodedata
from collections.abc import Iterator
from functools import cache
from pathlib import Path

CATALOGUES = Path(__file__).with_name("locale")
LANGUAGES = {"en": None, "zh-TW": "zh_TW"}  # and the name of the catalogue
OF_SYSTEM = ("zh_TW", "zh_HK", "zh_MO", "zh-Hant", "zh_Hant", "Chinese (Traditional)")  # these read it

PIECES = re.compile(  # what stays on one line: a Chinese character or a word, with its marks and the space behind it
    r"[（「『《〈]*(?:[\u3400-\u9fff]|[^\s\u3000-\u303f\u3400-\u9fff\uff00-\uffef]+)?[）」』》〉，。；：！？、…]*[ \n]*"
)

chosen: str | None = None  # by `speak`


def speak(name: str | None) -> None:
    """Chooses the language, for this process; None leaves it to HWKIT_LANG. ValueError for one that is not spoken."""
    global chosen
    chosen = None if name is None else known(name, "language")


@contextlib.contextmanager
def speaking(name: str) -> Iterator[None]:
    """Within it another language is spoken."""
    global chosen
    before, chosen = chosen, known(name, "language")
    try:
        yield
    finally:
        chosen = before


def language() -> str:
    """The language spoken: the chosen one, else that of HWKIT_LANG, else English. ValueError for another HWKIT_LANG."""
    return chosen or known(os.environ.get("HWKIT_LANG") or "en", "HWKIT_LANG")


def html_language() -> str:
    """What the `lang` of a page in the language spoken is."""
    return {"zh-TW": "zh-Hant-TW"}.get(language(), language())


def known(name: str, what: str) -> str:
    """The name as it stands in LANGUAGES, however its letters and its dash were written."""
    for each in LANGUAGES:
        if name.replace("_", "-").lower() == each.lower():
            return each
    raise ValueError(f"{what} is {name!r}, but must be {' or '.join(LANGUAGES)}.")


def of_system() -> str:
    """The language of who works here, as the system tells it."""
    names = (os.environ.get(name) for name in ("LC_ALL", "LC_MESSAGES", "LANG", "LANGUAGE"))
    name = next(filter(None, names), None) or locale.getlocale()[0] or ""
    return "zh-TW" if name.startswith(OF_SYSTEM) else "en"


def say(english: str, **values) -> str:
    """The text in the language spoken, with its fields filled as by `str.format`."""
    name = LANGUAGES[language()]
    text = catalogue(name).gettext(english) if name and english else english
    return text.format(**values) if values else text


def marked(english: str) -> str:
    """The text as it is, to be said later: the mark by which it comes into the catalogue."""
    return english


@cache
def catalogue(name: str) -> gettext.NullTranslations:
    """The translations in locale/`name`. FileNotFoundError where there are none."""
    return gettext.translation("hwkit", CATALOGUES, [name])


def sentences(*texts: str) -> str:
    """Whole sentences one after the other, with what stands between two: a space in English, nothing in Chinese."""
    return ("" if language() == "zh-TW" else " ").join(filter(None, texts))


def clauses(*texts: str) -> str:
    """'a; b; c': parts of a sentence that could each stand alone."""
    return ("；" if language() == "zh-TW" else "; ").join(filter(None, texts))


def listing(items, most: int | None = None) -> str:
    """'a, b, c': names in a row, '…' after the `most` first ones where there are more."""
    shown = [*map(str, items)]
    more = most is not None and len(shown) > most
    return ("、" if language() == "zh-TW" else ", ").join([*shown[:most], *["…"] * more])


def labelled(what: str, text: str, indent: int = 4) -> str:
    """'what:', and below it the text: each of its clauses begins a line, and no line is too wide for a notebook."""
    each = re.split("(?<=; )|(?<=；)", text)
    return "\n".join([say("{what}:", what=what), *(wrapped(" " * indent + clause, 104, indent) for clause in each)])


def filled(text: str, width: int) -> str:
    """The text with spaces behind it up to `width` places of a terminal, of which a Chinese character takes two."""
    return text + " " * (width - places(text))


def places(text: str) -> int:
    """How many places of a terminal the text takes: two a Chinese character, none an accent that combines."""
    wide = {"W": 2, "F": 2}
    return sum(wide.get(unicodedata.east_asian_width(c), 1) for c in text if not unicodedata.combining(c))


def wrapped(text: str, width: int = 88, indent: int = 0) -> str:
    """The text in lines of at most `width` places, where no word is longer; `indent` spaces before all but the first.

    A line ends at a space, or beside a Chinese character, but never before a mark such as 。 or after one such as （.
    """
    lines = [""]
    for piece in PIECES.findall(text):
        if places((lines[-1] + piece).rstrip()) > width and lines[-1].strip():
            lines.append(" " * indent)
        lines[-1] += piece.lstrip() if not lines[-1].strip() and len(lines) > 1 else piece
    return "\n".join(line.rstrip() for line in lines)
