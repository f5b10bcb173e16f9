"""The rules for Chinese texts, as in GLOSSARY.md: Taiwan's characters and terms, full-width marks, spaces beside Latin."""

import itertools
import re
from functools import cache
from pathlib import Path

from markdown_it import MarkdownIt  # comes with jupytext

GLOSSARY = Path(__file__).resolve().parent.parent / "GLOSSARY.md"
HAN = "㐀-䶿一-鿿豈-﫿"
WIDE = "，。；：！？、（）「」『』《》〈〉…—"
# Simplified characters that Big5 has too, as old or rare ones; all others are told by not being in Big5 at all.
SIMPLIFIED = set("体万与虫么机胜适听价优党洒腊蜡筑宁坏怜柜网据种几云于范后里划征愿涂")
ALSO_TRADITIONAL = {"干": "干擾、若干、干涉、相干", "准": "批准、准許"}  # a character, and the words in which it is right
FORMULA = re.compile(r"\$\$.*?\$\$|\$[^$\n]+\$|\$[^$]+?\$", re.S)
CODE = re.compile(r"```.*?```|`[^`]+`", re.S)
LINK = re.compile(r"\]\(([^()\s]*(?:\([^()]*\)[^()\s]*)*)\)")
TAG = re.compile(r"</?[a-z]+[^>\n]*>")
MARKDOWN = MarkdownIt()
STRUCTURE = re.compile(r"\s*([#>|]|[-*+] |\d+\. |\$\$|</?\w|!\[|\[!\[)")


def problems(english: str, chinese: str, terms: bool = True, markdown: bool = True) -> list[str]:
    """What a translation does against the rules, in plain sentences.

    terms: also against those of the glossary. markdown: it is Markdown, where a line break is no break.
    """
    found = [*copied(english, chinese), *characters(chinese), *punctuation(chinese, markdown), *mainland(chinese)]
    return found + (wrong_terms(english, chinese) if terms else [])


# What is copied as it is


def copied(english: str, chinese: str) -> list[str]:
    """Formulas, code and addresses are the source's, each as often; the words in a formula's \\text{} may differ."""
    found = []
    for what, pattern in (("formula", FORMULA), ("code", CODE), ("address", LINK)):
        pieces = [[re.sub(r"\\text\{[^}]*\}|\s+", "", piece[0]) for piece in pattern.finditer(text)] for text in (english, chinese)]
        lost, added = minus(*pieces), minus(*pieces[::-1])
        found += [f"the {what} {piece} is missing" for piece in lost]
        found += [f"the {what} {piece} is not in the English" for piece in added]
    return found


def minus(pieces: list[str], others: list[str]) -> list[str]:
    rest = list(others)
    return [piece for piece in pieces if piece not in rest or rest.remove(piece)]


def plain(text: str) -> str:
    """The text with a letter in the place of each formula and code, and without addresses, tags and marks of lists."""
    text = TAG.sub("", LINK.sub("]", masked(text)))
    text = re.sub(r"https?://[!-~]+", "X", text)
    text = re.sub(r"^\s*([-*+]|\d+\.|>|#+) ", "", text, flags=re.M)
    return re.sub(r"[\[\]]", "", text)


def masked(text: str) -> str:
    return FORMULA.sub("X", CODE.sub("X", text))


# Characters, marks and spaces


def characters(chinese: str) -> list[str]:
    """Characters that are not written in Taiwan."""
    for words in ALSO_TRADITIONAL.values():
        chinese = re.sub(words.replace("、", "|"), "", chinese)
    simplified = SIMPLIFIED | set(ALSO_TRADITIONAL)
    wrong = {c for c in chinese if re.match(f"[{HAN}]", c) and (c in simplified or not in_big5(c))}
    return [f"{c} is a simplified character" for c in sorted(wrong)]


def in_big5(character: str) -> bool:
    try:
        return bool(character.encode("big5"))
    except UnicodeEncodeError:
        return False


def punctuation(chinese: str, markdown: bool = True) -> list[str]:
    """Half-width marks beside Chinese, missing or needless spaces, and lines that break a paragraph."""
    text, found = plain(chinese), []
    rules = (
        (rf"[{HAN}][,;:!?]|[{HAN}]\.(?=\s|$|[{HAN}])", "has a half-width mark after Chinese"),
        (rf"[{HAN}]\(|\)[{HAN}]|\([{HAN}]|[{HAN}]\)", "has half-width brackets beside Chinese"),
        (rf"[{HAN}][A-Za-z0-9Ͱ-Ͽ]|[A-Za-z0-9Ͱ-Ͽ%][{HAN}]", "wants a space between Chinese and Latin"),
        (rf"[{HAN}{WIDE}] +[，。；：！？、）」』》]|[，。；：！？、（「『《] +(?=\S)", "has a space beside a full-width mark"),
        (rf"[A-Za-z0-9] +[，。；：！？、）」』》]|[）」』》] +(?=[A-Za-z0-9{HAN}])", "has a space beside a full-width mark"),
        (rf"[{HAN}] +[{HAN}]", "has a space between Chinese characters"),
        (rf"[{HAN}][\"'“”‘’]|[\"'“”‘’][{HAN}]", "has Latin quotation marks beside Chinese: 「」"),
    )
    for pattern, what in rules:
        looked_at = text if "space beside" in what else text.replace("*", "")  # *（思考）* wants a space behind it
        found += [f"{around(looked_at, match)!r} {what}" for match in re.finditer(pattern, looked_at)]
    if markdown and any("*" in piece.content for block in MARKDOWN.parse(masked(chinese)) for piece in block.children or []):
        found.append("has a * that is shown: **重點**：, with the mark outside")
    lines = chinese.split("\n")
    for line, following in itertools.pairwise(lines):
        ends = re.search(rf"[{HAN}{WIDE}]\**$", line) and not re.match(r"\s*[#|]", line)
        if markdown and ends and re.match(rf"\s*\**[{HAN}{WIDE}]", following) and not STRUCTURE.match(following):
            found.append(f"{line[-12:]!r} breaks a paragraph: the line break would be shown as a space")
    return found


def around(text: str, match: re.Match) -> str:
    return text[max(0, match.start() - 6) : match.end() + 6].replace("\n", " ")


# Terms


@cache
def tables() -> dict[str, list[list[str]]]:
    """The tables of the glossary by their headings, as rows of cells."""
    found: dict[str, list[list[str]]] = {}
    heading = ""
    for line in GLOSSARY.read_text("utf-8").splitlines():
        if line.startswith("## "):
            heading = line[3:].strip()
        elif line.startswith("| ") and not line.startswith("| ---"):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            found.setdefault(heading, []).append(cells)
    return {heading: rows[1:] for heading, rows in found.items()}


def held_terms() -> list[tuple[list[str], list[str]]]:
    """The terms that a test holds: forms of the English one, and the Chinese ones of which one must be there."""
    rows = tables()["Terms that a test holds"]
    return [(re.split(r", ", row[0]), re.split("、", row[1])) for row in rows]


def wrong_terms(english: str, chinese: str) -> list[str]:
    """Terms of the English text whose Chinese is not in the translation. Titles of papers are not looked at."""
    if re.match(r"#+ References", english) or not re.search(f"[{HAN}]", chinese):
        return []
    english = re.sub(r"\{[^{}]*\}|--\w+( \w+)?|you mean", "X", english)  # fields and options
    text = re.sub(r"\w+[(=]", "X", plain(english)).lower()  # a function or an argument is code, also without marks
    found = []
    for forms, said in held_terms():
        present = [form for form in forms if re.search(rf"(?<![\w-]){re.escape(form.lower())}(?![\w-])", text)]
        if present and not any(word in chinese for word in said):
            found.append(f"{present[0]!r} is {' or '.join(said)} here (GLOSSARY.md)")
    return found


def mainland(chinese: str) -> list[str]:
    """Words that are not said in Taiwan, or not in this course, each with what is said instead.

    A note "not in X" in the glossary names longer words in which the characters are right.
    """
    found = []
    for wrong, right, note in tables()["Words that are not used"]:
        text = CODE.sub("", chinese)
        for whole in re.split("、", note.removeprefix("not in ")) if note.startswith("not in ") else ():
            text = text.replace(whole, "")
        found += [f"{word} is not said here: {right}" for word in re.split("、", wrong) if word in text]
    return found
