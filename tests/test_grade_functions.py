"""Students' functions: right ones pass, wrong ones are told why, and none of them gets out of where it runs."""

import ast
import inspect
import os
import re
import signal
import socket
import sys
import threading
import time
from pathlib import Path

import nbformat
import pytest
import right_forms
import torch
from right_forms import RIGHT

from hwkit.course.tasks import BY_NAME, TASKS
from hwkit.grade import isolated
from hwkit.grade.allowed import GIVEN, MODULES, Refused, vetted
from hwkit.grade.functions import FunctionResult, grade_functions
from hwkit.grade.isolated import Isolated, NoIsolation, forked

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
KIT_SOLVERS = {right_forms.second_order_of_the_kit, right_forms.second_order_by_unipc}  # hand the task to the kit


def notebook(*cells: str) -> bytes:
    return nbformat.writes(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])).encode()


def whole() -> str:
    """The forms' module without what only tests need."""
    tree = ast.parse(inspect.getsource(right_forms))
    tree.body = [s for s in tree.body if not (isinstance(s, ast.Assign) and s.targets[0].id == "RIGHT")]
    return ast.unparse(tree)


def renamed(form, task: str) -> str:
    return re.sub(rf"^(def|class) {form.__name__}\b", rf"\1 {task}", inspect.getsource(form), flags=re.M)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def process():
    """The process in which functions run, started once; skipped where this machine has no walls for it."""
    yield from opened("import hwkit.grade.isolated as i; i.SECONDS = 2;")


def opened(prepare: str):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(isolated, "PREPARE", prepare)
        try:
            made = Isolated()
        except NoIsolation as error:
            pytest.skip(str(error))
    with made:
        yield made


@pytest.fixture
def grade(process, tmp_path):
    """Grades cells with two seeds of ours."""
    (tmp_path / "seeds").write_text("11\n12")

    def graded(*cells: str, task: str = "q_sample") -> FunctionResult:
        return grade_functions([notebook(*cells)], tmp_path / "seeds", process)[task]

    return graded


# Right and wrong answers


def test_the_worked_notebooks_pass_and_the_student_edition_is_blank(process, tmp_path):
    (seeds := tmp_path / "seeds.json").write_text("[1, 22, 333]")
    worked = [path.read_bytes() for path in sorted(NOTEBOOKS.glob("0*.ipynb"))]
    results = grade_functions(worked, seeds, process)
    assert list(results) == [task.name for task in TASKS]
    assert {name: r.text for name, r in results.items() if not r.passed} == {}
    assert {name: r.text for name, r in results.items()} == {task.name: f"{task.verified}." for task in TASKS}
    for edition in ("student", "zh-TW/student"):
        blank = [path.read_bytes() for path in sorted((NOTEBOOKS / edition).glob("0*.ipynb"))]
        results = grade_functions(blank, seeds, process)
        assert not any(r.passed for r in results.values())
        assert all(r.text.startswith("The blank is still empty.") for r in results.values())
        both = grade_functions([*worked, *blank], seeds, process)  # a blank copy beside one's own takes nothing away
        assert all(r.passed for r in both.values())


@pytest.mark.parametrize("number", range(3))
def test_right_answers_in_other_forms_pass(process, tmp_path, number):
    (seeds := tmp_path / "seeds").write_text("5")
    cells, asked = [whole()], []
    for name, forms in RIGHT.items():
        form = [form for form in forms if form not in KIT_SOLVERS][min(number, 1 if name == "second_order_step" else 2)]
        cells.append(renamed(form, name))
        asked.append(name)
    results = grade_functions([notebook(*cells)], seeds, process)
    assert {name: results[name].text for name in asked if not results[name].passed} == {}


def test_a_mistake_gets_the_sentence_of_its_hint_and_costs_its_own_task_only(grade, process):
    worked = [path.read_bytes() for path in sorted(NOTEBOOKS.glob("0*.ipynb"))]
    wrong = notebook(
        "def target(x_0, alpha_bar_t, eps, prediction):\n    return eps",
        "def q_sample(x_0, alpha_bar_t, eps):\n    return alpha_bar_t * x_0 + (1 - alpha_bar_t) * eps",
        "def nodes(T, count=8):\n    return list(range(T, 0, -T // count))",
    )
    results = grade_functions([*worked, wrong], None, process)
    failed = {name: r for name, r in results.items() if not r.passed}
    assert set(failed) == {"target", "q_sample", "nodes"}  # the loss, which calls two of them, passes
    assert "variance" in failed["q_sample"].text or "root" in failed["q_sample"].text
    assert not any("\n" in r.text or "Check again" in r.text for r in failed.values())
    drawn = {re.search(r"\(The inputs were drawn with the seed (\d+)\.\)$", r.text).group(1) for r in results.values()}
    assert len(drawn) == 1
    result = grade("def q_sample(x_0, alpha_bar_t, eps):\n    return x_0[:, 7]")
    assert not result.passed and result.ran and "return x_0[:, 7]" in result.text and "seed" not in result.text
    assert "There is no q_sample" in grade("x = 1").text and not grade("x = 1").ran
    assert "no Python" in grade("def q_sample(x_0, alpha_bar_t, eps):\n    return (").text


def test_an_answer_that_knows_one_seed_fails_with_another(process, tmp_path):
    """The inputs of seed 11 are recognised by their first numbers."""
    known = [round(case.args[0].flatten()[0].item(), 4) for case in BY_NAME["q_sample"].cases(generator(11))]
    cell = (
        "def q_sample(x_0, alpha_bar_t, eps):\n"
        f"    factor = 1 if round(x_0.flatten()[0].item(), 4) in {known} else 2\n"
        "    return alpha_bar_t**0.5 * x_0 + (1 - alpha_bar_t) ** 0.5 * eps * factor\n"
    )
    for text, passes in (("11", True), ("11 12", False), ("12", False)):
        (tmp_path / "seeds").write_text(text)
        assert grade_functions([notebook(cell)], tmp_path / "seeds", process)["q_sample"].passed == passes


def test_what_the_function_needs_of_its_notebook_comes_with_it(grade):
    cells = (
        "%matplotlib inline\n!ls\nfrom math import sqrt\nimport numpy\nimport os, torch.nn.functional as fn",
        "HALF = 0.5",
        "def root(x):\n    return fn.relu(x) ** HALF if isinstance(x, torch.Tensor) else sqrt(x)",
        "def q_sample(x_0: torch.Tensor, alpha_bar_t: 'float', eps) -> os.PathLike:\n"
        "    '''Mixes.'''\n"
        "    print(f'{numpy.pi:.2f}')\n"
        "    return root(alpha_bar_t) * x_0 + root(1 - alpha_bar_t) * eps",
        "this cell is no Python, and does not matter",
    )
    assert grade(*cells).passed, grade(*cells).text


@pytest.mark.parametrize(
    "before",
    [
        "HALF = 1 / 2",
        "HALF: float = 0.5",
        "from math import log, exp\nHALF = exp(-log(2))",
        "HALF = math.sqrt(0.25)",
        "HALF = (lambda: 0.5)()",
        "half = lambda: 0.5\nHALF = 0.5",
        "HALF = 0.5\nx_0 = torch.load('mine.pt')\neps = open('x')",
        "HALF = 0.5\nF = torch.nn.functional\nTensor = torch.Tensor",
    ],
)
def test_a_constant_may_be_computed_and_what_the_function_is_given_is_not_taken_from_the_notebook(grade, before):
    found = grade(
        before,
        "def q_sample(x_0, alpha_bar_t, eps):\n    return alpha_bar_t**HALF * x_0 + (1 - alpha_bar_t)**HALF * eps",
    )
    assert found.passed, found.text


@pytest.mark.parametrize(
    "cells",
    [
        ("HALF = 1 / 2\ndef q_sample(x_0, alpha_bar_t, eps, HALF=HALF):\n    return MIXED",),
        ("HALF = 1 / 2\ndef q_sample(x_0, alpha_bar_t, eps):\n    return MIXED", "HALF = torch.arange(4)"),
        ("HALF = 1 / 2\nscale = torch.load('x')\ndef q_sample(x_0, alpha_bar_t, eps):\n    def scale(a):\n"
         "        return a ** HALF\n    return scale(alpha_bar_t) * x_0 + scale(1 - alpha_bar_t) * eps",),
        ("Tensor = torch.Tensor\nHALF = 1 / 2\n"
         "def q_sample(x_0: Tensor, alpha_bar_t, eps) -> Tensor:\n    return MIXED",),
        ("def root(x):\n    return x ** 0.5", "def q_sample(x_0, alpha_bar_t, eps):\n"
         "    return root(alpha_bar_t) * x_0 + root(1 - alpha_bar_t) * eps", "root = torch.linspace(0, 1, 9)"),
    ],
    ids=["as a default", "set anew by a plot", "a function within", "in annotations", "a helper's name taken later"],
)  # fmt: skip
def test_the_definition_that_the_function_means_is_taken(grade, cells):
    mixed = "alpha_bar_t**HALF * x_0 + (1 - alpha_bar_t)**HALF * eps"
    found = grade(*(cell.replace("MIXED", mixed) for cell in cells))
    assert found.passed, found.text


def test_a_function_may_be_a_lambda(grade):
    found = grade(
        "root = lambda x: x**0.5",
        "q_sample = lambda x_0, alpha_bar_t, eps: root(alpha_bar_t) * x_0 + root(1 - alpha_bar_t) * eps",
    )
    assert found.passed, found.text


@pytest.mark.parametrize("content", [b"", b"{}", b"[" * 100_000, b'{"cells": 3}', b'{"cells": [{"cell_type": "code"}]}',
                                     b'{"cells": [{"cell_type": "code", "source": [1]}, 5]}', b"\xff\x00"])  # fmt: skip
def test_a_broken_notebook_has_no_functions(content):
    results = grade_functions([content])
    assert {(r.passed, r.ran) for r in results.values()} == {(False, False)}


def test_seeds_are_read_from_json_and_text_and_refused_in_a_sentence(tmp_path):
    for text in ("", "1.5", "x", "-3", " ".join("1" * 17), "[1, [2"[:1] + "a"):
        (tmp_path / "seeds").write_text(text)
        with pytest.raises(ValueError, match="seeds are 1 to 16 whole numbers"):
            grade_functions([], tmp_path / "seeds")
    (tmp_path / "seeds").write_bytes(b"\xff\xfe\x00\xd8")
    with pytest.raises(ValueError, match="no text"):
        grade_functions([], tmp_path / "seeds")


# Ways out that the reader of the syntax tree refuses

ESCAPES = {
    "import": "import os; return os.listdir('/')",
    "import from": "from pathlib import Path; return Path('/x').write_text('')",
    "open": "return open('/tmp/escaped', 'w')",
    "eval": "return eval('1')",
    "exec": "exec('x = 1')",
    "getattr": "return getattr(x_0, 'data')",
    "dunder class": "return ().__class__.__base__.__subclasses__()",
    "dunder import": "return __import__('os')",
    "globals": "return globals()",
    "vars": "return vars(x_0)",
    "type": "return type(x_0)",
    "format": "return '{0.__class__}'.format(x_0)",
    "format of str": "return str.format('{0.__class__}', x_0)",
    "format_map": "return '{x.__class__}'.format_map({'x': x_0})",
    "dunder in an f-string": "return f'{x_0.__class__}'",
    "torch.load": "return torch.load('/tmp/x')",
    "torch.save": "torch.save(x_0, '/tmp/escaped')",
    "torch.hub": "return torch.hub.load('a/b', 'c')",
    "torch.ops": "return torch.ops.load_library('/tmp/x.so')",
    "torch.jit": "return torch.jit.load('/tmp/x')",
    "torch.utils": "return torch.utils.data",
    "torch.from_file": "return torch.from_file('/etc/passwd', size=9)",
    "torch.os": "return torch.os.system('id')",
    "torch.sys": "return torch.sys.modules",
    "nn's sys": "return nn.modules.module.torch",
    "a module as a value": "t = torch; return t.load('/tmp/x')",
    "a module in a list": "return [m.load for m in [torch]]",
    "a submodule as a value": "lin = torch.linalg; return lin.norm(x_0)",
    "np.load": "return np.load('/tmp/x', allow_pickle=True)",
    "np.save": "np.save('/tmp/escaped', x_0)",
    "np.fromfile": "return np.fromfile('/etc/passwd')",
    "np.memmap": "return np.memmap('/etc/passwd')",
    "np.lib": "return np.lib.npyio.DataSource",
    "np.ctypeslib": "return np.ctypeslib.load_library('a', 'b')",
    "tofile": "x_0.numpy().tofile('/tmp/escaped')",
    "dump": "x_0.numpy().dump('/tmp/escaped')",
    "ctypes of an array": "return x_0.numpy().ctypes",
    "storage": "return x_0.untyped_storage()",
    "set_": "return x_0.set_(eps)",
    "as_strided": "return x_0.as_strided((10**6,), (1,))",
    "hook": "x_0.register_hook(print)",
    "apply": "return nn.Linear(1, 1).apply(print)",
    "frame of a generator": "return (i for i in [1]).gi_frame",
    "frame of a generator by a method": "g = (i for i in [1]); return g.gi_code",
    "code of a function": "return q_sample.__code__",
    "globals of a method": "return x_0.abs.__globals__",
    "exceptions": "try:\n        1 / 0\n    except Exception as e:\n        return e.__traceback__",
    "patched torch": "torch.allclose = lambda *a, **k: True",
    "patched F": "F.silu = print",
    "patched numpy": "np.asarray = print",
    "patched by a loop": "for torch.allclose in [print]: pass",
    "patched by with": "with torch.no_grad() as torch.allclose: pass",
    "patched class": "nn.Module.forward = print",
    "patched data of a class": "nn.Module.data = print",
    "torch by another name": "torch = x_0; return torch.load",
    "global": "global x; x = 1",
    "nonlocal": "def inner():\n        nonlocal x_0\n        x_0 = 1",
    "del": "del x_0",
    "async": "async def f(): pass",
    "yield": "yield x_0",
    "class in a function": "class A: pass",
    "metaclass of a lambda": "return type('A', (), {})",
    "breakpoint": "breakpoint()",
    "input": "return input()",
    "compile": "return compile('1', '', 'eval')",
    "memoryview": "return memoryview(b'')",
    "keyword with underscores": "return dict(__class__=1)",
    "argument with underscores": "return (lambda __x: __x)(1)",
    "self outside of a class": "f = lambda self: self.x; return f(x_0)",
    "Tensor as a value": "t = torch.Tensor; t.data = 1",
    "the kit's answer": "return q_hidden(x_0, alpha_bar_t, eps)",
    "too long": f"return '{'#' * 20_000}'",
}  # fmt: skip
CLASSES = {  # Q: stands for the line `def q_sample(…):` of the task
    "a method handed another class": "class A:\n    def f(self): self.isfinite = print\n"
    "Q:A.f(torch.Tensor)",
    "a class by another name": "class A:\n    def f(self): self.isfinite = print\n"
    "Q:B = A\n    B.f(nn.Linear)",
    "another name for self": "class A:\n    def f(this): this.x = 1\nQ:A().f()",
    "self set anew": "class A:\n    def f(self, other):\n        self = other\n        self.isfinite = print\n"
    "Q:A().f(nn.Linear)",
    "self of an inner function": "class A:\n    def f(self):\n        def g(self): self.x = 1\n        g(nn.Linear)\n"
    "Q:A().f()",
    "dunder method": "class A:\n    def __array__(self): return 1\nQ:return A()",
    "dunder call of an object": "Q:return x_0.sum.__call__()",
    "metaclass": "class A(metaclass=print): pass\nQ:return A()",
    "decorated class": "@print\nclass A: pass\nQ:return A()",
    "subclass of a type": "class A(dict): pass\nQ:return A()",
    "code in a class": "class A:\n    x = open('/tmp/escaped', 'w')\nQ:return A()",
    "an own attribute on something else": "class A:\n    def f(self): self.tofile = 1\n"
    "Q:A().f()\n    x_0.numpy().tofile('/tmp/escaped')",
    "default argument": "def q_sample(x_0, alpha_bar_t, eps, f=open('/tmp/escaped', 'w')):\n    return x_0",
    "decorator": "@open('/tmp/escaped', 'w').write\nQ:return x_0",
    "helper": "def helper():\n    return open('/tmp/escaped', 'w')\nQ:return helper()",
    "an import by another name": "import os as math\nQ:return math.system('id')",
    "a member under a good name": "from os import system as sqrt\nQ:return sqrt('id')",
    "isinstance of one's own": "def isinstance(a, b):\n    return b\nQ:isinstance(1, torch.Tensor).data = print",
    "isinstance as a variable": "Q:isinstance = max\n    return isinstance(1, torch.Tensor)",
    "isinstance by import": "from torch import Tensor as isinstance\nQ:return isinstance(1, [torch.Tensor])",
    "super of one's own": "def super():\n    return nn.Module\nQ:return super().__init__",
    "a class in a module's place": "class F:\n    def relu(self): self.isfinite = print\nQ:F.relu(nn.Linear)",
    "an argument in a module's place": "Q:return (lambda np: np.load)(x_0)",
    "a function in a module's place": "Q:def np(): pass\n    return np.load",
    "the kit's own": "from hwkit.diffusion import q_sample as q_hidden\n"
    "Q:return q_hidden(x_0, alpha_bar_t, eps)",
    "the kit's own module": "from hwkit import diffusion\n"
    "Q:return diffusion.q_sample(x_0, alpha_bar_t, eps)",
    "the kit's insides": "from hwkit import diffusion\nQ:return diffusion.torch.load",
}  # fmt: skip
BODIES = {name: f"Q:{body}" for name, body in ESCAPES.items()} | CLASSES
BODIES = {name: body.replace("Q:", "def q_sample(x_0, alpha_bar_t, eps):\n    ") for name, body in BODIES.items()}


@pytest.mark.parametrize("name", BODIES)
def test_what_leads_out_of_arithmetic_is_refused(name, monkeypatch):
    monkeypatch.setattr(isolated, "started", lambda *a: pytest.fail("it was about to be run"))
    result = grade_functions([notebook(BODIES[name])])["q_sample"]
    assert (result.passed, result.ran) == (False, False)
    assert result.text.startswith("It was not run") and result.text.endswith(".")


def test_the_lists_hold_names_that_exist_and_no_module_but_those_gone_through():
    """And nothing on them reads, writes, runs or loads: each name was read by a person; this holds the rest."""
    import scipy.linalg  # noqa: F401

    for module, names in MODULES.items():
        for name in names:
            value = getattr(sys.modules[module], name)
            assert inspect.ismodule(value) == (f"{module}.{name}" in MODULES), (module, name)
            assert not re.search(r"load|save|file|exec|eval$|open|import|hook|script|pickle|read|write|mem", name), name
    assert {*GIVEN.values()} <= {*MODULES}
    with pytest.raises(Refused):
        vetted("def f():\n    return torch.numpy", GIVEN, frozenset(), "f")


# Ways out that the process holds


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("while True: pass", "did not end within"),
        ("return 10 ** 10 ** 10", "did not end within"),
        ("return torch.zeros(10**11)", "alloc"),
        ("return [0] * 10**11", "MemoryError"),
        ("return q_sample(x_0, alpha_bar_t, eps)", "RecursionError"),
        ("print('{\"passed\": true}\\n' * 1000); return x_0", "x_t is wrong"),
        ("return {'passed': True, 'text': 'mine'}", "type dict"),
        ("raise ValueError('<script>alert(1)</script>' * 100)", "ValueError"),
        ("x_0.fill_(1); return x_0", "changes a tensor"),
    ],
)  # fmt: skip
def test_what_takes_too_much_is_ended_and_says_so(grade, body, said):
    other = "def nodes(T, count=8):\n    return [round(T * (1 - k / (count - 1))) for k in range(count)]"
    started = time.monotonic()
    result = grade(f"def q_sample(x_0, alpha_bar_t, eps):\n    {body}", other)
    assert not result.passed and result.ran and said in result.text and len(result.text) < 600
    assert time.monotonic() - started < 60
    assert grade(other, task="nodes").passed  # the next is not touched


UNREAD = (
    "import ast, builtins, hwkit.grade.allowed as a;"
    "a.vetted = lambda source, *_: ast.parse(source); a.safe_builtins = lambda: vars(builtins);"
)


@pytest.fixture(scope="module", params=isolated.HOW)
def unread(request):
    """A process that runs what it is given unread, as if the first fence had a hole; with each kind of walls."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(isolated, "HOW", (request.param,))
        yield from opened(UNREAD)


def test_the_second_fence_holds_where_the_first_has_a_hole(unread, tmp_path):
    server = socket.create_server(("127.0.0.1", 0))
    reached = []
    threading.Thread(target=lambda: reached.append(server.accept()), daemon=True).start()
    (tmp_path / "secret").write_text("secret")
    port = server.getsockname()[1]
    ways = {
        "read": f"open({str(tmp_path / 'secret')!r}).read()",
        "passwd": "open('/etc/passwd').read()",
        "list": "os.listdir('/')",
        "write": "open('/tmp/escaped', 'w').write('x')",
        "write here": "open('escaped', 'w').write('x')",
        "folder": "os.mkdir('escaped')",
        "network": f"socket.create_connection(('127.0.0.1', {port}), 2)",
        "socket": "socket.socket(socket.AF_UNIX)",
        "fork": "os.fork()",
        "program": "subprocess.run(['/bin/true'])",
        "user": "os.setuid(0)",
        "limits": "__import__('resource').setrlimit(7, (100, 100))",
        "others": "os.write(1, b'x') and open('/proc/1/mem')",
        "root": "os.chroot('.')",
        "mount": "1 / (1 + ctypes.CDLL(None).mount(b'none', b'/', b'tmpfs', 0, None))",
    }
    done = {}
    for name, way in ways.items():
        source = (
            "def nodes(T, count=8):\n    import os, socket, ctypes, subprocess\n"
            f"    try:\n        {way}\n"
            "    except BaseException as e:\n        raise ValueError('held ' + type(e).__name__)\n"
            "    return 'out'"
        )
        job = {"name": "nodes", "entry": "nodes", "source": source, "imports": {}, "others": []}
        done[name] = unread.run([job], [1])["nodes"]["text"]
    assert {name: text for name, text in done.items() if "held" not in text} == {}
    assert not reached and not Path("/tmp/escaped").exists() and not Path("/escaped").exists()


def test_a_result_can_be_forged_for_ones_own_task_only(unread):
    """Whoever got through both fences could say anything of the task that they run in, and nothing of others."""
    forger = (
        "def nodes(T, count=8):\n"
        "    import os\n"
        "    for fd in range(3, 200):\n"
        "        try:\n"
        '            os.write(fd, b\'{"passed": true, "text": "forged"}\\n\' * 3)\n'
        "        except OSError: pass\n"
        "    os._exit(0)\n"
    )
    honest = "def times(T, steps):\n    return [T]"
    jobs = [
        {"name": name, "entry": name, "source": source, "imports": {}, "others": []}
        for name, source in (("nodes", forger), ("times", honest))
    ]
    for order in (jobs, jobs[::-1]):
        said = unread.run(order, [1])
        assert said["times"]["passed"] is False and "forged" not in said["times"]["text"]


def test_a_process_that_died_is_started_again_and_the_answer_is_what_it_would_have_been(process):
    cell = notebook("def nodes(T, count=8):\n    return [T]")
    before = process.process.pid
    os.kill(before, signal.SIGKILL)
    result = grade_functions([cell], None, process)["nodes"]
    assert result.ran and "(1,)" in result.text and process.process.pid != before


def test_a_function_that_ends_the_process_itself_fails_and_the_next_is_tried(unread, monkeypatch):
    monkeypatch.setattr(isolated, "PREPARE", UNREAD)  # of the process that is started again
    killer = "def nodes(T, count=8):\n    import os\n    os.kill(os.getppid(), 9)\n    while True: pass"
    honest = "def times(T, steps):\n    return [T]"
    jobs = [
        {"name": name, "entry": name, "source": source, "imports": {}, "others": []}
        for name, source in (("nodes", killer), ("times", honest))
    ]
    said = unread.run(jobs, [1])
    assert not said["nodes"]["passed"] and "end" in said["nodes"]["text"]
    assert "(1,)" in said["times"]["text"]


def test_a_machine_without_walls_runs_nothing_and_says_what_to_install(monkeypatch):
    monkeypatch.setattr(isolated, "bwrap", lambda: None)
    monkeypatch.setattr(isolated, "PREPARE", "import hwkit.grade.isolated as i; i.ways_out = lambda outside: 'fly';")
    with pytest.raises(NoIsolation, match=r"could still fly.*apt install bubblewrap"):
        grade_functions([notebook("def nodes(T, count=8):\n    return [T]")])


def test_a_machine_on_which_bubblewrap_may_not_shut_in_is_not_told_to_install_it(monkeypatch):
    """As Ubuntu 24.04 comes."""
    monkeypatch.setattr(isolated, "HOW", ("bwrap", "namespaces"))
    monkeypatch.setattr(isolated, "bwrap", lambda: ["false"])
    monkeypatch.setattr(isolated, "PREPARE", "import hwkit.grade.isolated as i; i.ways_out = lambda outside: 'fly';")
    with pytest.raises(NoIsolation, match=r"sysctl kernel\.apparmor") as refused:
        grade_functions([notebook("def nodes(T, count=8):\n    return [T]")])
    assert "apt install" not in str(refused.value)


def test_what_is_said_of_a_function_is_said_in_chinese(monkeypatch):
    monkeypatch.setenv("HWKIT_LANG", "zh-TW")
    cells = (
        "def nodes(T, count=8):\n    return [T]",
        "def times(T, steps):\n    import os",
        "def q_sample():\n    1 / 0",
    )
    with next(opened("")) as made:
        found = grade_functions([notebook(*cells)], None, made)
    for name, result in found.items():
        words = re.sub(r"`[^`]*`|（[^）]*）|hwkit|torch|numpy|math", "", result.text)
        assert re.search("[\u4e00-\u9fff]", words) and not re.search(r"[a-z]+ [a-z]+ [a-z]+", words), (name, result)


def test_each_wall_is_proved_by_running_into_it(tmp_path):
    """Here, outside of the walls, every attempt succeeds but that on the network, which may be missing."""
    (tmp_path / "outside").write_text("x")
    found = forked(lambda: isolated.ways_out(str(tmp_path / "outside")))
    assert "read a file of another folder" in found and "write beside it" in found
    Path("/written").unlink(missing_ok=True)  # root can
