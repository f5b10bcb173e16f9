"""Gettext's catalogues (.po), with what was translated before a text changed, which other readers throw away."""

import re
import struct
from dataclasses import dataclass, field
from pathlib import Path

HEADER = """# {about}
msgid ""
msgstr ""
"Language: zh_TW\\n"
"MIME-Version: 1.0\\n"
"Content-Type: text/plain; charset=utf-8\\n"
"Content-Transfer-Encoding: 8bit\\n"
"Plural-Forms: nplurals=1; plural=0;\\n"
"""
ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t"}
LINE = re.compile(r'(#~ )?(#\| )?(?:(msg\w+(?:\[0\])?) )?"(.*)"')


@dataclass
class Message:
    """A text and its translation ("" where there is none); `previous` is the text that a fuzzy one translates.

    `context` tells texts apart that read alike. With a `plural`, `english` is what is said of one. `obsolete`: the text
    is no longer in the source.
    """

    english: str
    chinese: str = ""
    context: str | None = None
    plural: str | None = None
    places: list[str] = field(default_factory=list)
    fuzzy: bool = False
    previous: str | None = None
    obsolete: bool = False

    @property
    def key(self) -> tuple[str, str | None]:
        return self.english, self.context

    @property
    def usable(self) -> bool:
        return bool(self.chinese) and not self.fuzzy and not self.obsolete


def read(path: Path) -> list[Message]:
    """The messages of a catalogue, without its header; none where there is no file. ValueError where a line is none."""
    text = path.read_text("utf-8") if path.exists() else ""
    found = [_message(block, path) for block in re.split(r"\n\s*\n", text) if block.strip()]
    return [message for message in found if message.english]


def _message(block: str, path: Path) -> Message:
    fields: dict[str, str] = {}
    message, current = Message(""), ""
    for line in block.strip().split("\n"):
        if parsed := LINE.fullmatch(line):
            obsolete, before, name, text = parsed.groups()
            current = f"{before or ''}{name}" if name else current
            fields[current] = fields.get(current, "") + unquoted(text)
            message.obsolete |= bool(obsolete)
        elif line.startswith("#:"):
            message.places += line[2:].split()
        elif line.startswith(("#,", "#~ #,")):
            message.fuzzy |= "fuzzy" in line
        elif not line.startswith("#"):
            raise ValueError(f"{path}: {line!r} is no line of a catalogue.")
    message.english, message.context = fields.get("msgid", ""), fields.get("msgctxt")
    message.plural, message.previous = fields.get("msgid_plural"), fields.get("#| msgid")
    message.chinese = fields.get("msgstr", fields.get("msgstr[0]", ""))
    return message


def write(messages: list[Message], path: Path, about: str) -> None:
    """Writes a catalogue, obsolete messages last; always the same bytes for the same messages."""
    path.parent.mkdir(parents=True, exist_ok=True)
    blocks = [HEADER.format(about=about), *map(_block, sorted(messages, key=lambda message: message.obsolete))]
    path.write_text("\n".join(blocks), "utf-8", newline="\n")


def _block(message: Message) -> str:
    lines = [f"#: {' '.join(message.places)}"] if message.places and not message.obsolete else []
    lines += ["#, fuzzy"] if message.fuzzy else []
    lines += [f"#| {line}" for line in _quoted("msgid", message.previous)]
    lines += [*_quoted("msgctxt", message.context), *_quoted("msgid", message.english)]
    lines += [*_quoted("msgid_plural", message.plural)]
    lines += _quoted("msgstr" if message.plural is None else "msgstr[0]", message.chinese)
    return "".join(f"{'#~ ' * message.obsolete}{line}\n" for line in lines)


def _quoted(name: str, text: str | None) -> list[str]:
    if text is None:
        return []
    lines = [f'"{quoted(line)}"' for line in text.splitlines(keepends=True)]
    return [f"{name} {lines[0] if lines else chr(34) * 2}"] if len(lines) < 2 else [f'{name} ""', *lines]


def quoted(text: str) -> str:
    return "".join(ESCAPES.get(character, character) for character in text)


def unquoted(text: str) -> str:
    return re.sub(r"\\(.)", lambda match: {"n": "\n", "t": "\t"}.get(match[1], match[1]), text)


def compiled(messages: list[Message]) -> bytes:
    """The translations that may be used as a .mo, for `gettext` (see "The Format of GNU MO Files" in its manual)."""
    texts = {"": "Content-Type: text/plain; charset=utf-8\n"}
    for message in messages:
        if message.usable:
            texts[f"{message.context}\4{message.english}" if message.context else message.english] = message.chinese
    pairs = sorted((english.encode(), said.encode()) for english, said in texts.items())
    start = 28 + 16 * len(pairs)  # of the texts: behind seven numbers, and two more for each text of both columns
    columns, body = [], b""
    for column in zip(*pairs, strict=True):
        for text in column:
            columns += [len(text), start + len(body)]
            body += text + b"\0"
    header = (0x950412DE, 0, len(pairs), 28, 28 + 8 * len(pairs), 0, 0)
    return struct.pack(f"<{7 + len(columns)}I", *header, *columns) + body
