"""The catalogues of the Chinese edition: NN_name.po holds a translation for each text of NN_name.py, hwkit.po for what
the library says. (The word `library` stands for it below, in the place of a number.)

python notebooks/translations.py update [01 03 …]     # brings the catalogues in step with the sources
python notebooks/translations.py export 03 [FILE]     # writes 03_sampling.zh_TW.md, to be translated in an editor
python notebooks/translations.py import FILE          # takes the translations out of such a file
python notebooks/translations.py check [01 03 …]      # what is missing, fuzzy or out of step, or breaks a rule of GLOSSARY.md

A text is a whole Markdown cell (of the first cell all below the badge), a comment in a code cell, what a task's blank
says, or, in a code cell tagged `texts`, a sentence in quotation marks. `update` keeps the translations of texts that did not change. A changed text gets the old translation, marked
fuzzy, with the old English beside it; a fuzzy translation is not used before somebody has looked at it.
"""

import ast
import copy
import difflib
import hashlib
import io
import json
import re
import sys
import tokenize
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import jupytext
import po
from chinese import problems
from po import Message
from said import SENTENCE, Sayings

HERE = Path(__file__).resolve().parent
CATALOGUES = HERE / "locale" / "zh_TW"
LIBRARY = HERE.parent / "hwkit"
LANGUAGE = "zh-TW"
OF_ENGLISH = "english_outputs"  # in a cell's metadata: a hash of the English outputs beside which it was run
BEFORE = ".before-sync"
TASK = re.compile(r"(### BEGIN SOLUTION )(\d+\.\d+): (.+)")
LITERAL = re.compile(r'(f?")([^"\\\n]* [^"\\\n]*[.:?}] ?)(?=")')
HEAD = re.compile(r"\[!\[Open in Colab\].*?\n(?=# )", re.S)  # badge and switch of language, above the title


@dataclass
class Text:
    """A text of a notebook: its English, its kind (None: a Markdown cell), and the cells in which it stands, from 0."""

    english: str
    kind: str | None
    cells: list[int] = field(default_factory=list)
    place: str = ""  # of a text of the library: its module

    @property
    def key(self) -> tuple:
        return self.english, self.kind


def sources(names: list[str] = ()) -> list[Path]:
    """The .py of every notebook, in order; or of those whose names begin so."""
    found = sorted(path for path in HERE.glob("[0-9][0-9]_*.py") if BEFORE not in path.name)
    found = [path for path in found if not names or path.name.startswith(tuple(names))]
    return [LIBRARY] if [*names] == ["library"] else found


def catalogue(source: Path) -> Path:
    """Where the translations of a notebook are, or those of the library (whose source is its folder)."""
    if source.is_dir():
        return source / "locale" / "zh_TW" / "LC_MESSAGES" / "hwkit.po"
    return CATALOGUES / f"{source.stem}.po"


# What is to be translated


def texts(notebook) -> list[Text]:
    """All texts of a notebook, in order; one that stands in several cells comes once."""
    found: dict[tuple, Text] = {}
    for number, cell in enumerate(notebook.cells):
        pieces = [(body(cell.source), None)] if cell.cell_type == "markdown" else code_texts(cell.source)
        pieces += [(match[2], "text") for match in literals(cell)]
        for english, kind in pieces:
            found.setdefault((english, kind), Text(english, kind)).cells.append(number)
    return list(found.values())


def body(markdown: str) -> str:
    """A Markdown cell without the badge."""
    return HEAD.sub("", markdown, count=1)


def code_texts(code: str) -> list[tuple[str, str]]:
    """The comments of a code cell that hold words, and what its blank says; each with its kind."""
    found = []
    for comment in comments(code):
        if task := TASK.fullmatch(comment.string):
            found.append((task[3], f"task {task[2]}"))
        elif not comment.string.startswith("###") and has_words(comment.string):
            found.append((comment.string.removeprefix("#").strip(), "comment"))
    return found


def literals(cell) -> list[re.Match]:
    """The sentences in quotation marks in a code cell tagged `texts`: what goes into the report, or is to be answered."""
    tagged = cell.cell_type == "code" and "texts" in cell.metadata.get("tags", [])
    return list(LITERAL.finditer(cell.source)) if tagged else []


def comments(code: str) -> list[tokenize.TokenInfo]:
    tokens = tokenize.generate_tokens(io.StringIO(code).readline)
    return [token for token in tokens if token.type == tokenize.COMMENT]


def has_words(comment: str) -> bool:
    """Whether it says something, and is not a shape, such as (B, 3, 28, 28)."""
    return bool(re.search(r"[A-Za-z]{3}", re.sub(r"\([^()]*\)", "", comment)))


def translated(cell, words: dict[tuple, str]) -> str:
    """A cell's source with its texts put in from `words`; a badge is left as it is. Code changes in comments only."""
    if cell.cell_type == "markdown":
        english = body(cell.source)
        return cell.source.removesuffix(english) + words[english, None]
    code = cell.source
    if literals(cell):
        code = LITERAL.sub(lambda match: match[1] + words[match[2], "text"], code)
    lines = code.split("\n")
    for comment in reversed(comments(code)):
        (row, column), said = comment.start, comment.string
        for english, kind in code_texts(said):
            if kind != "comment":
                said = TASK.sub(rf"\1\2: {words[english, kind]}", said)
            else:
                said = f"# {words[english, kind]}"
        lines[row - 1] = lines[row - 1][:column] + said + lines[row - 1][comment.end[1] :]
    return "\n".join(lines)


# The catalogues


def words_of(catalogue: Path) -> dict[tuple, str]:
    """The translations that may be used, by (English, kind): neither missing nor fuzzy."""
    return {message.key: message.chinese for message in po.read(catalogue) if message.usable}


def update(source: Path) -> list[Message]:
    """Brings the catalogue of a notebook in step with its source, and writes it; what it holds."""
    wanted, new = wanted_of(source), []
    before = {message.key: message for message in po.read(catalogue(source)) if message.chinese}
    left = {key: message for key, message in before.items() if key not in {text.key for text in wanted}}
    for text in wanted:
        message = before.get(text.key)
        if message is None and (message := nearest(text, left)):
            del left[message.key]
            message.previous, message.fuzzy = message.english, True
        message = message or Message(text.english)
        message.english, message.context, message.obsolete = text.english, text.kind, False
        message.places = [f"{source.stem}:{number + 1}" for number in text.cells] or [text.place]
        new.append(message)
    for message in left.values():
        message.obsolete = True  # kept at the end of the file: a cell may come back
    keep([*new, *left.values()], source)
    return new


def keep(messages: list[Message], source: Path) -> None:
    """Writes a catalogue; that of the library also as a .mo, which is what it reads."""
    po.write(messages, catalogue(source), f"{source.stem} in the Chinese of Taiwan.")
    if source.is_dir():
        catalogue(source).with_suffix(".mo").write_bytes(po.compiled(messages))


def wanted_of(source: Path) -> list[Text]:
    return library_texts(source) if source.is_dir() else texts(jupytext.read(source))


def nearest(text: Text, left: dict[tuple, Message]) -> Message | None:
    """The message that most likely was this text before it was changed; None where none resembles it."""
    ratio = difflib.SequenceMatcher(autojunk=False)
    ratio.set_seq2(re.findall(r"\w+|\W", text.english))
    found, best = None, 0.5
    for (english, kind), message in left.items():
        ratio.set_seq1(re.findall(r"\w+|\W", english))
        if kind == text.kind and ratio.real_quick_ratio() > best and ratio.ratio() > best:
            found, best = message, ratio.ratio()
    return found


def faults(source: Path) -> list[str]:
    """What keeps a notebook from being shown in Chinese: texts that are missing, fuzzy, or no longer in the source."""
    messages = {message.key: message for message in po.read(catalogue(source)) if not message.obsolete}
    wanted = {text.key: text for text in wanted_of(source)}
    found = []
    for key, text in wanted.items():
        message, start = messages.get(key), text.english.split("\n")[0][:60]
        where = f"{text.place or f'{source.stem}:{text.cells[0] + 1}'} ({start!r})"
        if message is None:
            found.append(f"{where} is not in the catalogue: translations.py update")
        elif message.fuzzy:
            found.append(f"{where} was changed: look at its old translation, {message.chinese.split(chr(10))[0]!r}")
        elif not message.chinese:
            found.append(f"{where} is not translated")
    gone = [key for key in messages if key not in wanted]
    return found + [f"{key[0][:60]!r} is no longer in {source.name}: translations.py update" for key in gone]


# A notebook in Chinese


def in_chinese(worked, catalogue_of: Path, before=None):
    """The worked notebook in Chinese; `before` is the same notebook as it was built or run last.

    Outputs are the English ones; what the library says in them is said in Chinese (see said.py). A figure that has words
    of the library is that of `before`, if it was run beside these very English outputs; else it keeps English words.
    """
    words, library = words_of(catalogue_of), library_words()
    sayings = Sayings(library | {key: said for key, said in words.items() if key[1] == "text"})
    ran = {cell.source: cell for cell in before.cells if cell.cell_type == "code"} if before else {}
    notebook = copy.deepcopy(worked)
    notebook.metadata.pop("jupytext", None)  # it is no half of a pair
    for cell in notebook.cells:
        cell.source = pointed(translated(cell, words))
        if cell.cell_type == "code":
            own, mark = ran.get(cell.source), fingerprint(cell.outputs)
            told = [out_in_chinese(out, sayings, library) for out in cell.outputs]
            if any(told) and own is not None and own.metadata.get(OF_ENGLISH) == mark:
                cell.metadata[OF_ENGLISH] = mark
                for mine, theirs in zip(*map(pictures, (cell.outputs, own.outputs)), strict=True):
                    mine.data, mine.metadata = theirs.data, theirs.metadata
    return notebook


def out_in_chinese(out, sayings: Sayings, library: dict[tuple, str]) -> bool:
    """Puts what the library says in an output, and in a figure's alt text, into Chinese; whether a figure has such words."""
    data = out.get("data", {})
    if out.output_type == "stream":
        out.text = sayings.output(out.text)
    elif "image/png" not in data and "text/plain" in data:
        data["text/plain"] = sayings.output(data["text/plain"])
    about = out.get("metadata", {}).get("image/png", {})
    english = about.get("alt", "")
    said = alt_in_chinese(english, library)
    about |= {"alt": said} if english else {}
    data |= {"text/plain": said} if english and data.get("text/plain") == english else {}
    return said != english or any(sayings.of(line)[1] >= SENTENCE for line in english.split("\n"))


def pictures(outputs: list) -> list:
    return [out for out in outputs if "image/png" in out.get("data", {})]


def alt_in_chinese(alt: str, library: dict[tuple, str]) -> str:
    """The words of a figure, as `hwkit.notebook.described` lists them, each that the library's catalogue has."""
    words = {english.replace("$", ""): said.replace("$", "") for (english, _), said in library.items()}
    against = words.get("{y} against {x}", "{y} against {x}")
    found = []
    for part in alt.split("; "):
        y, _, x = part.partition(" against ")
        both = against.format(y=words.get(y, y), x=words.get(x, x)) if x and {x, y} & set(words) else part
        found.append(words.get(part, both))
    return "; ".join(found)


def run_in_chinese(worked, done):
    """The outputs of `done`, a Chinese notebook that was run, as `in_chinese` takes them: marked by the English ones."""
    for english, cell in zip(worked.cells, done.cells, strict=False):  # it may have been run in part
        if cell.cell_type == "code":
            cell.metadata[OF_ENGLISH] = fingerprint(english.outputs)
    return done


def library_words() -> dict[tuple, str]:
    return words_of(catalogue(LIBRARY))


def pointed(source: str) -> str:
    """A cell that leads to the Chinese edition: badge, switch of language, and the start of the notebook."""
    page = r"(https://colab\.research\.google\.com/github/\S+/notebooks/)(\d\d_\w+\.ipynb)"
    source = re.sub(rf"\]\({page}\)", rf"](\1{LANGUAGE}/\2)", source)
    switch = rf"\*\*English\*\* · \[繁體中文\]\((\S+)/{LANGUAGE}/(\S+)\)"
    source = re.sub(switch, r"[English](\1/\2) · **繁體中文**", source)
    return re.sub(r"^(notebook\.start\([^()]+)\)", rf'\1, language="{LANGUAGE}")', source, flags=re.M)


def fingerprint(outputs: list) -> str:
    return hashlib.sha256(json.dumps(outputs, sort_keys=True).encode()).hexdigest()[:16]


def speaks(outputs: list, library: dict[tuple, str]) -> bool:
    """Whether outputs hold a sentence of the library's catalogue, so that they read otherwise in Chinese."""
    shown = "\n".join(str(text) for out in outputs for text in (out.get("text"), *out.get("data", {}).values()))
    pieces = [max(re.split(r"\{[^{}]*\}", english), key=len).strip() for english, _ in library]
    return any(" " in piece and len(piece) > 9 and piece in shown for piece in pieces)


# The library


def library_texts(package: Path) -> list[Text]:
    """What the library says: the first argument of each `say`, `_` and `marked`, and what tasks, mistakes and symptoms hold."""
    found: dict[str, Text] = {}
    for path in sorted(package.rglob("*.py")):
        module = path.relative_to(package.parent).as_posix()
        for english in spoken(ast.parse(path.read_text("utf-8")), module):
            found.setdefault(english, Text(english, None, place=module))
    sys.path[:0] = [str(HERE.parent)] * (str(HERE.parent) not in sys.path)
    for path in sorted(package.rglob("*.html")):
        for english in re.findall(r'\b(?:say|_)\("((?:[^"\\]|\\.)*)"', path.read_text("utf-8")):
            found.setdefault(english, Text(english, None, place=path.relative_to(package.parent).as_posix()))
    from hwkit.course import doctor, mistakes, tasks  # data: they are said by who reads them

    for task in tasks.TASKS:
        for english in (task.title, task.equation, task.verified, *task.returns):
            found.setdefault(english, Text(english, None, place=f"hwkit/course/tasks.py:{task.name}"))
    for name, bank in mistakes.MISTAKES.items():
        for english in (hint for mistake in bank for hint in mistake.hints):
            found.setdefault(english, Text(english, None, place=f"hwkit/course/mistakes.py:{name}"))
    for symptom in doctor.SYMPTOMS:
        for english in (symptom.title, symptom.seen, symptom.healthy, symptom.cause, symptom.mend):
            found.setdefault(english, Text(english, None, place=f"hwkit/course/doctor.py:{symptom.name}"))
    return list(found.values())


def spoken(tree: ast.AST, where: str) -> list[str]:
    """The texts that a module says: written in the call, or held by a name of the same function."""
    found = []
    scopes = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.Module)]
    for scope in scopes:
        held = [node for node in ast.walk(scope) if isinstance(node, ast.Assign | ast.NamedExpr | ast.For)]
        for call in ast.walk(scope):
            name = getattr(call.func, "id", None) if isinstance(call, ast.Call) else None
            if name in ("say", "marked", "_") and call.args:
                if isinstance(call.args[0], ast.JoinedStr):
                    raise ValueError(f"{where}:{call.lineno}: an f-string cannot be looked up: give its fields to say.")
                found += constants(call.args[0], [] if isinstance(scope, ast.Module) else held)
    return list(dict.fromkeys(found))


def constants(value, held: Sequence = ()) -> list[str]:
    """A text, the texts of a condition, of a tuple, or those that the statements `held` give to a name."""
    if isinstance(value, ast.IfExp):
        return constants(value.body, held) + constants(value.orelse, held)
    if isinstance(value, ast.Tuple):
        return [text for element in value.elts for text in constants(element, held)]
    if isinstance(value, ast.Name):
        return [text for node in held for text in assigned(node, value.id)]
    return [value.value] if isinstance(value, ast.Constant) and isinstance(value.value, str) and value.value else []


def assigned(node, name: str) -> list[str]:
    """The texts that a statement gives to a name."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    value = node.iter if isinstance(node, ast.For) else node.value
    for target in targets:
        if isinstance(target, ast.Name) and target.id == name:
            return constants(value)
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):  # a, b = "one", "other"
            pairs = zip(target.elts, value.elts, strict=False)
            return [text for each, part in pairs if getattr(each, "id", None) == name for text in constants(part)]
    return []


# A file in which a person translates


MARK = "@@"
GUIDE = f"""Translate {{name}} here, and then: python notebooks/translations.py import {{file}}
Write the Chinese below each line that ends in ZH, as many lines as you like; leave the lines that begin with {MARK} and
the English as they are. What stays empty stays untranslated. A line that ends in ZH FUZZY has an old translation of
a text that was changed: mend it, and delete the word FUZZY. A paragraph is one line in Chinese: a line break inside it
would be shown as a space. Formulas, `code` and addresses are copied as they are. Terms: GLOSSARY.md.
"""


def export(source: Path, file: Path | None = None) -> Path:
    """Writes the texts of a notebook as numbered blocks, English above Chinese; returns the file."""
    content, file = update(source), file or Path(f"{source.stem}.zh_TW.md")
    if file.exists():
        sys.exit(f"{file} is there already: import it, or move it away, so that no translation in it is lost.")
    blocks = [GUIDE.format(name=source.name, file=file)]
    for number, message in enumerate(content, 1):
        what = " ".join(message.places) + (f", {message.context}" if message.context else "")
        if message.previous is not None:
            blocks.append(f"{MARK} {number} BEFORE\n{message.previous}\n")
        blocks.append(f"{MARK} {number} EN {what}\n{message.english}\n")
        blocks.append(f"{MARK} {number} ZH{' FUZZY' if message.fuzzy else ''}\n{message.chinese}\n")
    file.write_text("\n".join(blocks), "utf-8")
    return file


def take(file: Path) -> list[str]:
    """Takes the translations out of an exported file into the catalogue; returns what was not taken, and why."""
    text = file.read_text("utf-8").replace("\r\n", "\n")
    name = re.match(r"Translate (\S+) here", text)
    (source,) = [path for path in [*sources(), LIBRARY] if name and path.name == name[1]] or [None]
    if source is None:
        raise ValueError(f"{file} does not begin as `export` writes it, with the name of a notebook.")
    update(source)
    content, refused = po.read(catalogue(source)), []
    messages = {message.key: message for message in content if not message.obsolete}
    pieces = re.split(rf"^{MARK} (\d+) (EN|ZH|BEFORE)\b *(.*)$", text, flags=re.M)[1:]
    english: dict[str, tuple] = {}
    for number, kind, rest, block in zip(*(pieces[k::4] for k in range(4)), strict=True):
        if kind == "EN":
            context = rest.split(", ")[-1] if re.search(r", (comment|text|task \S+)$", rest) else None
            english[number] = block.strip("\n"), context
        elif kind == "ZH" and (said := block.strip()):
            message = messages.get(english.get(number))
            if message is None:
                refused.append(f"{number}: its English is not (or no longer) in {source.name}: export anew")
                continue
            message.chinese, message.fuzzy = said, "FUZZY" in rest
            message.previous = message.previous if message.fuzzy else None
    keep(content, source)
    return refused


def main(command: str = "help", *rest: str) -> None:
    if command == "update":
        for source in sources(rest) if rest else [*sources(), LIBRARY]:
            update(source)
            print(f"{source.stem}: {len(faults(source)) or 'nothing'} to be done")
    elif command == "export" and rest:
        (source,) = sources(rest[:1])
        print(export(source, *map(Path, rest[1:])))
    elif command == "import" and len(rest) == 1:
        print(*take(Path(rest[0])), sep="\n")
        name = Path(rest[0]).name
        main("check", "library" if name.startswith("hwkit") else name[:2])
    elif command == "check":
        found = [fault for source in (sources(rest) if rest else [*sources(), LIBRARY]) for fault in [*faults(source), *broken_rules(source)]]
        print(*found or ["Every text is translated, and no rule is broken."], sep="\n")
        sys.exit(bool(found))
    else:
        sys.exit(__doc__)


def broken_rules(source: Path) -> list[str]:
    """What the translations of a notebook do against the rules of GLOSSARY.md, each with its cell."""
    found = []
    for message in po.read(catalogue(source)):
        if message.chinese and not message.obsolete:
            pair = message.english, message.chinese
            for problem in problems(*pair, markdown=not source.is_dir()):
                found.append(f"{message.places[0]}: {problem}")
            fields = [sorted(re.findall(r"\{[^{}]*\}", text)) for text in (message.english, message.chinese)]
            if (source.is_dir() or message.context == "text") and fields[0] != fields[1]:
                found.append(f"{message.places[0]}: {message.chinese!r} has other fields than {message.english!r}")
    return found


if __name__ == "__main__":
    main(*sys.argv[1:])
