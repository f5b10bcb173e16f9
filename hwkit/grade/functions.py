"""The functions that a student wrote for the tasks: taken out of their notebooks, and tried on inputs that are new.

A notebook is not run. Its cells are read, the functions of the tasks are lifted out with what they need, refused where
they hold more than arithmetic (`allowed.py`), and tried in a process that can reach nothing (`isolated.py`), each
beside the right answers of the other tasks, so that a mistake in one costs that one only.
"""

import ast
import contextlib
import itertools
import json
import re
import secrets
import symtable
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from hwkit.course.selfcheck import BLANK
from hwkit.course.tasks import BY_NAME, TASKS, Task
from hwkit.files import expanded
from hwkit.grade.allowed import BUILTINS, GIVEN, MODULES, TYPES, Bare, Refused, vetted
from hwkit.grade.isolated import Isolated
from hwkit.language import say, sentences

LARGEST = 64 * 2**20  # bytes of a notebook, its pictures included
MOST_SEEDS = 16
METHODS = {"unet_forward": ("UNet", "forward")}  # a task whose answer is a method of that class in the notebook


@dataclass(frozen=True)
class FunctionResult:
    """What became of a task: `passed` with all seeds. `ran` is false where nothing was there, or it was refused."""

    number: str
    passed: bool
    text: str
    ran: bool = True


class Piece(NamedTuple):
    """A definition at the top level of a cell; `place` counts them."""

    place: int
    statement: ast.stmt
    source: str


@dataclass
class Notebook:
    """What stands at the top level of a notebook's cells: definitions and constants by name, and imports."""

    pieces: dict[str, list[Piece]] = field(default_factory=dict)  # of the same name, oldest first
    imports: dict[str, str] = field(default_factory=lambda: dict(GIVEN))
    unread: list[str] = field(default_factory=list)  # cells that are no Python


def grade_functions(
    notebooks: list[bytes], seeds: Path | None = None, isolated: Isolated | None = None
) -> dict[str, FunctionResult]:
    """A result for each task of the course, by its name. No line of the notebooks is run outside of `isolated`.

    notebooks: the bytes of .ipynb files; of functions that stand in several, the last that is no blank counts. seeds: a
    file of integers, as JSON or with spaces or lines between, that draw the inputs (ValueError where it holds none); by
    default one is drawn anew, and said in the results. isolated: a process kept from one submission to the next; by
    default one is started, and ended. Raises NoIsolation, which says what to install, where none can be shut in here.
    """
    chosen = read_seeds(seeds) if seeds else [secrets.randbelow(2**31)]
    read = [read_notebook(content) for content in notebooks]
    results, jobs = {}, []
    for task in TASKS:
        try:
            jobs.append(lifted(task, read))
        except (Refused, RecursionError, MemoryError, SyntaxError) as error:
            said = say("It was not run: Python cannot read it ({error}).", error=type(error).__name__)
            said = str(error) if isinstance(error, Refused) else said
            results[task.name] = FunctionResult(task.number, False, said, ran=False)
    drawn = "" if seeds else say("(The inputs were drawn with the seed {seed}.)", seed=chosen[0])
    for name, said in (run(jobs, chosen, isolated) if jobs else {}).items():
        text = "".join(sign if sign.isprintable() else " " for sign in said["text"])
        results[name] = FunctionResult(BY_NAME[name].number, said["passed"], sentences(text, drawn))
    return {task.name: results[task.name] for task in TASKS}


def run(jobs: list[dict], seeds: list[int], isolated: Isolated | None) -> dict[str, dict]:
    with contextlib.nullcontext(isolated) if isolated else Isolated() as process:
        return process.run(jobs, seeds)


def read_seeds(path: Path) -> list[int]:
    """The integers of a file, JSON or plain text. ValueError where there are none, too many, or anything else."""
    try:
        text = expanded(path).read_text("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text: seeds are integers, with spaces or lines between.") from error
    words = re.sub(r"[\[\],]", " ", text).split()
    if not 1 <= len(words) <= MOST_SEEDS or not all(re.fullmatch(r"\d{1,9}", word) for word in words):
        raise ValueError(
            f"{path}: seeds are 1 to {MOST_SEEDS} whole numbers from 0 to 999,999,999, with spaces or lines between."
        )
    return [int(word) for word in words]


# Out of the notebook


def read_notebook(content: bytes) -> Notebook:
    """The definitions of a notebook; none of one that cannot be read."""
    notebook, places = Notebook(), itertools.count()
    for source in code_cells(content):
        source = "\n".join("" if line.startswith(("%", "!")) else line for line in source.split("\n"))
        try:
            statements = ast.parse(source).body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            notebook.unread.append(source)
            continue
        for statement in statements:
            if aliases := aliased(statement, notebook.imports):  # F = torch.nn.functional, Tensor = torch.Tensor
                notebook.imports |= aliases
                continue
            for name in defined(statement, notebook.imports.keys() | BUILTINS):
                notebook.pieces.setdefault(name, []).append(Piece(next(places), statement, cut(source, statement)))
            if isinstance(statement, ast.Import | ast.ImportFrom):
                notebook.imports |= imported(statement)
    return notebook


def code_cells(content: bytes) -> Iterator[str]:
    """The sources of the code cells of an .ipynb, as far as it is one."""
    try:
        cells = json.loads(content)["cells"] if len(content) <= LARGEST else []
    except (ValueError, KeyError, TypeError, RecursionError):
        return
    for cell in cells if isinstance(cells, list) else []:
        if isinstance(cell, dict) and cell.get("cell_type") == "code":
            source = cell.get("source", "")
            lines = source if isinstance(source, list) else [source]
            if all(isinstance(line, str) for line in lines):
                yield "".join(lines)


def defined(statement: ast.stmt, known: Set[str]) -> list[str]:
    """The name of a function or class, or of what is a lambda, a number, a text, or computed of `known` alone."""
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        return [statement.name]
    if isinstance(statement, ast.Assign | ast.AnnAssign) and is_plain(statement.value, known):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        return [target.id for target in targets if isinstance(target, ast.Name)]
    return []


def aliased(statement: ast.stmt, imports: Mapping[str, str]) -> dict[str, str]:
    """Names that are set to a module or type of the lists, and its path."""
    if not isinstance(statement, ast.Assign) or not isinstance(statement.value, ast.Attribute):
        return {}
    first, _, rest = ast.unparse(statement.value).partition(".")
    path = f"{imports.get(first, first)}.{rest}"
    known = path in MODULES or path in TYPES
    return {target.id: path for target in statement.targets if known and isinstance(target, ast.Name)}


def is_plain(value: ast.expr | None, known: Set[str]) -> bool:
    """Whether an expression needs nothing of the notebook's own: `0.5`, `1 / 2`, `math.log(10_000)`, a lambda."""
    names = {node.id for node in ast.walk(value) if isinstance(node, ast.Name)} if value else set()
    return isinstance(value, ast.Lambda) or (value is not None and names <= known)


def cut(source: str, statement: ast.stmt) -> str:
    """The source of a top-level statement, decorators included."""
    first = min([statement.lineno, *(d.lineno for d in getattr(statement, "decorator_list", []))])
    lines = source.encode().split(b"\n")[first - 1 : statement.end_lineno]
    lines[-1] = lines[-1][: statement.end_col_offset]
    lines[0] = lines[0][statement.col_offset :] if first == statement.lineno else lines[0]
    return b"\n".join(lines).decode()


def imported(statement: ast.Import | ast.ImportFrom) -> dict[str, str]:
    """The names that an import binds to something on the lists, and its path."""
    if isinstance(statement, ast.Import):
        paths = {alias.asname or alias.name.split(".")[0]: alias.name for alias in statement.names}
        paths = {name: path if path.split(".")[0] != name else name for name, path in paths.items()}
    else:
        paths = {alias.asname or alias.name: f"{statement.module}.{alias.name}" for alias in statement.names}
    return {name: path for name, path in paths.items() if path in MODULES or path in TYPES or is_member(path)}


def is_member(path: str) -> bool:
    module, _, name = path.rpartition(".")
    return name in MODULES.get(module, ())


def lifted(task: Task, notebooks: list[Notebook]) -> dict:
    """What `isolated.attempt` needs to try a task's function; Refused, with a sentence, where there is none to try."""
    found = [(notebook, piece) for notebook in notebooks for piece in pieces_of(task, notebook)]
    found = [each for each in found if not is_blank(each[1].statement)] or found
    if not found:
        broken = any(f"def {task.name}(" in text for notebook in notebooks for text in notebook.unread)
        said = "The cell that defines {name} is no Python, so it was not run."
        raise Refused(say(said if broken else "There is no {name} in the notebooks.", name=task.name))
    notebook, piece = found[-1]
    own, others, todo = {task.name: piece}, set(), [piece.source]
    while todo:
        for name in names_in(todo.pop()) - own.keys():
            if name in BY_NAME:
                others.add(name)
            elif name in notebook.pieces:
                own[name] = meant(notebook.pieces[name], piece)
                todo.append(own[name].source)
    text = "\n\n\n".join(piece.source for piece in sorted(own.values(), key=lambda piece: piece.place))
    imports = {name: path for name, path in notebook.imports.items() if name not in own.keys() | others | BUILTINS}
    vetted(text, imports, frozenset(others), task.name)
    return {"name": task.name, "entry": task.name, "source": text, "imports": imports, "others": sorted(others)}


def meant(pieces: list[Piece], user: Piece) -> Piece:
    """The last function or class of a name; else what was set last before `user`, for a plot may set it anew later."""
    defined = [piece for piece in pieces if isinstance(piece.statement, ast.FunctionDef | ast.ClassDef)]
    return (defined or [piece for piece in pieces if piece.place < user.place] or pieces)[-1]


def pieces_of(task: Task, notebook: Notebook) -> list[Piece]:
    """The definitions of a task's function; a method as a function of that name."""
    found = [piece for piece in notebook.pieces.get(task.name, []) if is_function(piece.statement)]
    kind, method = METHODS.get(task.name, ("", ""))
    for piece in notebook.pieces.get(kind, []):
        for part in getattr(ast.parse(piece.source).body[0], "body", []):
            if isinstance(part, ast.FunctionDef) and part.name == method:
                part.name = task.name
                found.append(Piece(piece.place, part, ast.unparse(part)))
    return found


def is_function(statement: ast.stmt) -> bool:
    """Whether it defines something that can be called."""
    return isinstance(statement, ast.FunctionDef | ast.ClassDef) or isinstance(statement.value, ast.Lambda)


def is_blank(statement: ast.stmt) -> bool:
    """Whether a definition holds a blank of the student edition."""
    return any(BLANK.match(ast.unparse(node)) for node in ast.walk(statement) if isinstance(node, ast.Raise))


def names_in(source: str) -> set[str]:
    """The names that a definition takes from outside: what it sets itself, or is given, is its own."""
    bare = ast.unparse(Bare().visit(ast.parse(source)))
    tables, names = [symtable.symtable(bare, "", "exec")], set[str]()
    for table in tables:
        tables += table.get_children()
        names |= {symbol.get_name() for symbol in table.get_symbols() if symbol.is_referenced() and symbol.is_global()}
    return names
