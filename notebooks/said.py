"""What the library said in English, said in Chinese: out of the words of an output alone, through the catalogue.

A line that a message of hwkit.po made is that message with its fields filled. The fields are read out of the line and
put into the translation, so that both editions show the numbers of one run. What no message can have made, such as what
a cell prints in words of its own, stays as it is. `tests/test_said.py` lets the library say the same things in both
languages, and compares.
"""

import re
import sys
from collections.abc import Mapping
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent))  # where the kit is not installed
from hwkit.language import filled, labelled, speaking, wrapped

FIELD = re.compile(r"\{([a-zA-Z_]\w*)(?:![rs])?(?::([^{}]*))?\}")
NUMBERS = {",": r"-?\d[\d,]*", "d": r"\d+", "f": r"-?[\d,]+(?:\.\d+)?", "g": r"-?[\d.]+(?:e[-+]\d+)?", "%": r"-?[\d.]+%"}
SENTENCE = 10  # letters of a message at least: fewer, as in "{some} and {last}", are no sign that it was said
LISTED = re.compile(r", (?![^(]*\))")  # between the items of a list, not in brackets, where it may be a shape
TASK = re.compile(r"([✓·] \d\.\d  \S+ +)(.+?) +(\d\d_\w+)")  # a row of what `selfcheck.progress` prints
PAIR = re.compile(r"([^:]+): (.+)")  # a row of what a `Score` says, below its first
ROW = re.compile(r"([✓✗–] )(?!\d\.\d )(.{16}) (.+)")  # a row of the check's table, as the notebooks print it


class Sayings:
    """The messages of a catalogue, to be known again in what became of them."""

    def __init__(self, words: Mapping[tuple, str]):
        self.exact = {english: chinese for (english, _), chinese in words.items()}
        fielded = [text for text in self.exact if FIELD.search(text) and FIELD.sub("", text).strip()]
        self.patterns = [(pattern(text), text) for text in fielded]
        self.known: dict[str, tuple[str, float]] = {}

    def output(self, text: str) -> str:
        """The text of an output in Chinese, line by line; lines that were one, before it was wrapped, together."""
        lines, said = text.split("\n"), []
        with speaking("zh-TW"):
            while lines:
                ways = (way(lines) for way in (self.passage, self.label, self.row, self.line))
                count, found = next(filter(None, ways))
                said.append(found)
                del lines[:count]
        return "\n".join(said)

    # Each of these: how many of the first lines it took, and what they say in Chinese; None where it fits none

    def passage(self, lines: list[str]) -> tuple[int, str] | None:
        """A message of several lines."""
        passages = ("\n".join(lines[:count]) for count in (4, 3, 2))
        return next(((text.count("\n") + 1, self.exact[text]) for text in passages if text in self.exact), None)

    def label(self, lines: list[str]) -> tuple[int, str] | None:
        """What `labelled` wrote."""
        count = deeper(lines)
        if count == 1 or not lines[0].endswith(":") or ": " in lines[0]:
            return None
        what, value = self.field(lines[0][:-1])[0], self.field(joined(lines[1:count]))[0]
        return count, labelled(what, value, indent(lines[1]))

    def row(self, lines: list[str]) -> tuple[int, str] | None:
        """A row of a table."""
        count = deeper(lines)
        if task := TASK.fullmatch(lines[0]):
            return 1, task[1] + filled(self.field(task[2])[0], 50) + " " + task[3]
        if row := ROW.fullmatch(joined(lines[:count])):
            name = filled(self.field(row[2].strip())[0], 16)
            return count, wrapped(f"{row[1]}{name} {self.field(row[3])[0]}", indent=19)
        return None

    def line(self, lines: list[str]) -> tuple[int, str]:
        """One text, which may have been wrapped."""
        start = re.match(" *", lines[0])[0]
        for count in (deeper(lines), 1):
            text = joined(lines[:count])
            said, known = self.of(text)
            if start and (pair := PAIR.fullmatch(text)):
                (name, of_name), (value, of_value) = self.field(pair[1]), self.field(pair[2])
                said, known = f"{name}：{value}", SENTENCE * (of_name + of_value > 0.01)  # a message that has letters
            if known >= SENTENCE:
                return count, wrapped(start + said, indent=indent(lines[1])) if count > 1 else start + said
        return 1, lines[0]

    def of(self, text: str) -> tuple[str, float]:
        """A text in Chinese, and how many letters of messages were found in it: 0 where it stays as it is.

        Where several messages fit, those that explain the most of it.
        """
        if text not in self.known:
            found = [(self.exact[text], weight(text))] if text in self.exact else [(text, 0.0)]
            for expression, english in self.patterns:
                if match := expression.fullmatch(text):
                    fields = {name: self.field(value) for name, value in match.groupdict().items()}
                    inside = sum(known for _, known in fields.values())
                    if (own := weight(english, match)) or inside >= SENTENCE:
                        found.append((put_in(self.exact[english], fields), own + inside - 0.005 * (not own)))
            for clause in re.finditer("; ", text):
                first, rest = self.of(text[: clause.start()]), self.of(text[clause.end() :])
                found.append((f"{first[0]}；{rest[0]}", first[1] + rest[1]))
            self.known[text] = max(found, key=lambda each: each[1])
        return self.known[text]

    def field(self, text: str) -> tuple[str, float]:
        """What a field holds: something said, or a list of such."""
        said, items = self.of(text), LISTED.split(text)
        parts = [self.of(item) for item in items] if len(items) > 1 else []
        known = sum(known for _, known in parts)
        return ("、".join(part for part, _ in parts), known) if parts and known >= said[1] else said


def deeper(lines: list[str]) -> int:
    """How many of the first lines may have been one text: those after the first are indented more, and all alike."""
    deep = max(indent(line) for line in lines[:2])
    return next((n for n, line in enumerate(lines) if n and (indent(line) != deep or deep == indent(lines[0]))), len(lines))


def indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def joined(lines: list[str]) -> str:
    return " ".join(line.strip() for line in lines)


def pattern(english: str) -> re.Pattern:
    """What can become of a message, with its fields as groups."""
    parts, seen = [], set()
    for literal, name, form in pieces(english):
        parts.append(re.escape(literal))
        if name:
            parts.append(f"(?P={name})" if name in seen else f"(?P<{name}>{NUMBERS.get(form[-1:], '.+?')})")
            seen.add(name)
    return re.compile("".join(parts))


def pieces(message: str) -> list[tuple[str, str, str]]:
    """(what stands before a field, its name, its format) of each field; of what stands behind the last, two empty."""
    split = FIELD.split(message)
    return list(zip(split[::3], [*split[1::3], ""], [*(form or "" for form in split[2::3]), ""], strict=True))


def weight(english: str, match: re.Match | None = None) -> float:
    """The letters of a message outside of its fields: what it counts for; next to nothing where it is no sentence.

    Nothing where it is short and its fields could be anything: they have spaces, and no word of it begins or ends it.
    """
    literal = FIELD.sub("", english)
    count, fields = len(re.findall(r"[^\W\d_]", literal)), match.groups() if match else ()
    plain = not any(" " in value for value in fields)
    if count >= SENTENCE or (count >= 6 and fields and plain and " " in literal.strip()):
        return max(count, SENTENCE)
    if any("; " in value for value in fields):
        return 0.0
    anchored = re.match(r"[^\W\d_]{3}", english) or re.search(r"[^\W\d_]{3}$", english)
    return 0.001 + 0.01 * count if plain or anchored or re.search(r"\{\w+:[^{}]*\}", english) else 0.0


def put_in(chinese: str, fields: Mapping[str, tuple[str, float]]) -> str:
    """A translation with its fields filled by what was read, which is formatted already."""
    return "".join(literal + (fields[name][0] if name else "") for literal, name, _ in pieces(chinese))
