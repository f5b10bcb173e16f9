"""The Chinese notebooks: catalogues in step with their sources, the rules of GLOSSARY.md, the same code."""

import ast
import copy
import importlib
import io
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jupytext
import nbformat
import pytest
from babel.messages.pofile import read_po
from hypothesis import given
from hypothesis import strategies as some
from nbformat.v4 import new_output

KIT = Path(__file__).resolve().parent.parent
NOTEBOOKS = KIT / "notebooks"
sys.path.insert(0, str(NOTEBOOKS))
chinese, editions, po, translations = map(importlib.import_module, ("chinese", "editions", "po", "translations"))
sys.path.remove(str(NOTEBOOKS))
NAMES = [source.stem for source in translations.sources()]
WAITING: set[str] = set()  # not translated yet
DONE = [name for name in NAMES if name not in WAITING]

SOURCE = """# %% [markdown]
# [![Open in Colab](b.svg)](https://colab.research.google.com/github/o/k/blob/main/notebooks/01_tiny.ipynb)
#
# **English** · [繁體中文](https://colab.research.google.com/github/o/k/blob/main/notebooks/zh-TW/01_tiny.ipynb)
#
# # 1 · Noise
#
# A network removes noise, step by step, until an image is there.

# %%
from hwkit import notebook

notebook.start("01_tiny", drive=True)  # False: nothing is kept

# %% [markdown]
# Write `double`, as in $y = 2x$.

# %%
def double(x):
    ### BEGIN SOLUTION 1.1: twice x
    return "# no comment", 2 * x  # (B, 3)
    ### END SOLUTION
"""
WORDS = {
    (
        "# 1 · Noise\n\nA network removes noise, step by step, until an image is there.",
        None,
    ): "# 1 · 雜訊\n\n網路去雜訊。",
    ("False: nothing is kept", "comment"): "False：什麼都不留",
    ("Write `double`, as in $y = 2x$.", None): "寫出 `double`，如 $y = 2x$。",
    ("twice x", "task 1.1"): "x 的兩倍",
}


@pytest.fixture
def kit(tmp_path, monkeypatch) -> Path:
    """A copy of notebooks/ with one source, 01_tiny.py, whose catalogue is complete."""
    monkeypatch.setattr(translations, "HERE", tmp_path)
    monkeypatch.setattr(translations, "CATALOGUES", tmp_path / "locale" / "zh_TW")
    (tmp_path / "01_tiny.py").write_text(SOURCE, "utf-8")
    fill(translations.update(tmp_path / "01_tiny.py"), tmp_path)
    return tmp_path


def fill(messages, kit: Path, words=WORDS) -> None:
    for message in messages:
        message.chinese = words.get(message.key, message.chinese)
    po.write(messages, kit / "locale" / "zh_TW" / "01_tiny.po", "A test.")


def change(kit: Path, old: str, new: str) -> None:
    source = kit / "01_tiny.py"
    text = source.read_text("utf-8")
    assert text.count(old) == 1
    source.write_text(text.replace(old, new), "utf-8")


def faults(kit: Path) -> str:
    return "\n".join(translations.faults(kit / "01_tiny.py"))


# Catalogues


TEXT = some.text("aé雜\"\\\n\t'#% []", max_size=30)


@given(some.lists(some.tuples(TEXT, TEXT, some.none() | TEXT, some.none() | TEXT, some.booleans()), max_size=4))
def test_a_catalogue_is_read_as_it_was_written_by_us_and_by_babel(tmp_path_factory, drawn):
    path = tmp_path_factory.mktemp("po") / "a.po"
    messages = {}
    for english, said, context, previous, fuzzy in drawn:
        message = po.Message(english, said, context, places=["a:1"], fuzzy=fuzzy, previous=previous)
        messages |= {message.key: message} if english else {}
    po.write([*messages.values()], path, "A test.")
    assert po.read(path) == [*messages.values()]
    theirs = {(m.id, m.context): (m.string, m.fuzzy) for m in read_po(io.BytesIO(path.read_bytes())) if m.id}
    assert theirs == {key: (m.chinese, m.fuzzy) for key, m in messages.items()}


def test_obsolete_messages_and_plurals_come_back(tmp_path):
    messages = [po.Message("{n} file", "{n} 個檔案", plural="{n} files"), po.Message("gone\nx", "沒了", obsolete=True)]
    po.write(messages, tmp_path / "a.po", "A test.")
    assert po.read(tmp_path / "a.po") == messages
    theirs = read_po(io.BytesIO((tmp_path / "a.po").read_bytes()))
    assert [m.id for m in theirs if m.id] == [("{n} file", "{n} files")] and "gone\nx" in theirs.obsolete


def test_a_line_that_is_none_is_named(tmp_path):
    (tmp_path / "a.po").write_text('msgid "a"\nmsgstr "b"\n<<<<<<< HEAD\n')
    with pytest.raises(ValueError, match=r"a\.po: '<<<<<<< HEAD'"):
        po.read(tmp_path / "a.po")


def test_texts_are_cells_comments_with_words_and_blanks(kit):
    found = translations.texts(jupytext.read(kit / "01_tiny.py"))
    assert [text.key for text in found] == list(WORDS) and [text.cells for text in found] == [[0], [1], [2], [3]]
    places = [message.places for message in po.read(translations.catalogue(kit / "01_tiny.py"))]
    assert places == [["01_tiny:1"], ["01_tiny:2"], ["01_tiny:3"], ["01_tiny:4"]]


def test_a_complete_catalogue_has_no_fault_and_update_changes_no_byte(kit):
    translations.update(kit / "01_tiny.py")
    before = translations.catalogue(kit / "01_tiny.py").read_bytes()
    translations.update(kit / "01_tiny.py")
    assert not faults(kit) and translations.catalogue(kit / "01_tiny.py").read_bytes() == before


@pytest.mark.parametrize(
    "old, new, said",
    [
        ("step by step", "slowly", "網路去雜訊"),
        ("nothing is kept", "nothing is kept here", "False：什麼都不留"),
        ("1.1: twice x", "1.1: twice the x", "x 的兩倍"),
    ],
)
def test_a_changed_text_fails_and_shows_its_old_translation_beside_it(kit, old, new, said):
    change(kit, old, new)
    assert "not in the catalogue" in faults(kit) and "no longer in 01_tiny.py" in faults(kit)
    for _ in range(2):  # also when it is updated again
        translations.update(kit / "01_tiny.py")
        (message,) = (m for m in po.read(translations.catalogue(kit / "01_tiny.py")) if m.fuzzy)
        assert said in message.chinese and old in message.previous + "1.1: " + message.previous and not message.usable
        assert "was changed" in faults(kit)
    change(kit, new, old)
    translations.update(kit / "01_tiny.py")
    assert "was changed" in faults(kit), "somebody has to look at it"


def test_a_new_text_is_missing_and_one_that_is_gone_is_kept_at_the_end(kit):
    change(kit, "# Write `double`, as in $y = 2x$.", "# Nothing of what stood here before stands here now.")
    translations.update(kit / "01_tiny.py")
    assert "is not translated" in faults(kit)
    change(kit, "# Nothing of what stood here before stands here now.", "# Write `double`, as in $y = 2x$.")
    translations.update(kit / "01_tiny.py")
    assert not faults(kit)


def test_a_translator_needs_no_catalogue(kit):
    source = kit / "01_tiny.py"
    fill(translations.update(source), kit, dict.fromkeys(WORDS, ""))
    file = translations.export(source, kit / "tiny.md")
    text = file.read_text("utf-8")
    for number, said in enumerate(WORDS.values(), 1):
        text = text.replace(f"@@ {number} ZH\n", f"@@ {number} ZH\n\n{said}\n\n")
    file.write_text(text.replace("\n", "\r\n"), "utf-8", newline="")  # as an editor on Windows may save it
    assert translations.take(file) == [] and not faults(kit)
    assert translations.words_of(translations.catalogue(source)) == WORDS


def test_what_was_translated_from_other_english_is_not_taken(kit):
    file = translations.export(kit / "01_tiny.py", kit / "tiny.md")
    change(kit, "step by step", "slowly")
    (refused,) = translations.take(file)
    assert refused.startswith("1: its English is not (or no longer) in 01_tiny.py")


def test_an_exported_file_shows_what_was_changed_and_the_word_fuzzy_holds_it_back(kit):
    change(kit, "step by step", "slowly")
    file = translations.export(kit / "01_tiny.py", kit / "tiny.md")
    text = file.read_text("utf-8")
    assert "@@ 1 BEFORE\n# 1 · Noise" in text and "step by step" in text and "@@ 1 ZH FUZZY\n# 1 · 雜訊" in text
    assert translations.take(file) == [] and "was changed" in faults(kit)
    file.write_text(text.replace("ZH FUZZY", "ZH"), "utf-8")
    assert translations.take(file) == [] and not faults(kit)


def test_another_file_is_refused(tmp_path):
    (tmp_path / "x.md").write_text("# Something\n")
    with pytest.raises(ValueError, match="does not begin"):
        translations.take(tmp_path / "x.md")


# A notebook in Chinese


@pytest.fixture
def worked(kit):
    notebook = jupytext.read(kit / "01_tiny.py")
    picture = new_output("display_data", {"image/png": "iVBORw0KGgo="}, metadata={"image/png": {"alt": "noise; t"}})
    notebook.cells[1].outputs = [new_output("stream", name="stdout", text="hwkit 1\n"), picture]
    notebook.cells[3].outputs = [new_output("stream", name="stdout", text="It took 5 s: all is well.\n")]
    for number, cell in enumerate(c for c in notebook.cells if c.cell_type == "code"):
        cell.execution_count = number + 1
    return notebook


@pytest.fixture
def library(tmp_path, monkeypatch):
    """A catalogue of the library in which one sentence of an output stands, and a word of a picture's alt text."""
    path = tmp_path / "library.po"
    said = [po.Message("It took {s} s: all is well.", "花了 {s} 秒：一切正常。"), po.Message("noise", "雜訊")]
    po.write(said, path, "A test.")
    monkeypatch.setattr(translations, "library_words", lambda: translations.words_of(path))


def built(kit, worked, before=None):
    return translations.in_chinese(worked, translations.catalogue(kit / "01_tiny.py"), before)


def test_only_texts_comments_and_the_start_differ(kit, worked, library):
    first, start, words, task = built(kit, worked).cells
    page = "https://colab.research.google.com/github/o/k/blob/main/notebooks"
    assert first.source.split("\n\n") == [
        f"[![Open in Colab](b.svg)]({page}/zh-TW/01_tiny.ipynb)",
        f"[English]({page}/01_tiny.ipynb) · **繁體中文**",
        "# 1 · 雜訊",
        "網路去雜訊。",
    ]
    assert start.source.endswith('notebook.start("01_tiny", drive=True, language="zh-TW")  # False：什麼都不留')
    assert words.source == WORDS["Write `double`, as in $y = 2x$.", None]
    assert task.source == worked.cells[3].source.replace("1.1: twice x", "1.1: x 的兩倍")


def test_the_student_edition_is_in_chinese_too(kit, worked, library):
    students = editions.student(built(kit, worked), editions.CHINESE, rule="不要抄。")
    first, _, _, task = (cell.source for cell in students.cells)
    assert "/notebooks/zh-TW/student/01_tiny.ipynb)\n" in first and "[English](" in first
    assert "/notebooks/student/01_tiny.ipynb) · **繁體中文**" in first
    assert "*學生版：這本有 1 題要由你完成。不要抄。*" in first
    assert 'raise NotImplementedError("題目 1.1：x 的兩倍")' in task and "return" not in task


def test_outputs_are_the_english_ones_but_where_the_library_speaks(kit, worked, library):
    _, start, _, task = built(kit, worked).cells
    assert start.outputs[0] == worked.cells[1].outputs[0] and start.outputs[1].data == worked.cells[1].outputs[1].data
    assert start.outputs[1].metadata["image/png"]["alt"] == "雜訊; t"
    assert task.outputs[0].text == "花了 5 秒：一切正常。\n" and task.execution_count == 2


def test_the_words_of_a_picture_are_said_one_by_one():
    library = {("{y} against {x}", None): "{y} 對 {x}", ("$x$ (noise)", None): "$x$（雜訊）", ("signal", None): "訊號"}
    alt = "x (noise) against t / T; signal; DDIM; loss against signal; loss against step"
    said = "x（雜訊） 對 t / T; 訊號; DDIM; loss 對 訊號; loss against step"
    assert translations.alt_in_chinese(alt, library) == said
    assert translations.alt_in_chinese(alt, {}) == alt


def test_a_figure_with_the_librarys_words_is_that_of_a_run_beside_these_english_outputs(kit, worked, library):
    done = built(kit, worked)
    done.cells[1].outputs[0].text, done.cells[1].outputs[1].data["image/png"] = "hwkit 2\n", "iVBORw0KGgoA"
    before = translations.run_in_chinese(worked, done)
    once = built(kit, worked, before)
    again = built(kit, worked, once)
    text, picture = again.cells[1].outputs
    assert once == again and picture.data["image/png"] == "iVBORw0KGgoA"
    assert text.text == "hwkit 1\n", "what is printed is that of the English run"
    worked.cells[1].outputs[0].text = "hwkit 3\n"
    english = worked.cells[1].outputs[1].data["image/png"]
    assert built(kit, worked, again).cells[1].outputs[1].data["image/png"] == english, "it was run again"


def test_no_english_sentence_of_the_library_is_left_in_a_chinese_notebook():
    words = translations.library_words()
    for name in DONE:
        chinese, worked = (nbformat.read(NOTEBOOKS / folder / f"{name}.ipynb", 4) for folder in ("zh-TW", "."))
        for number, (cell, english) in enumerate(zip(chinese.cells, worked.cells, strict=True)):
            if cell.cell_type == "code":
                assert not translations.speaks(cell.outputs, words), f"{name}, cell {number}: say what said.py misses"
                assert len(cell.outputs) == len(english.outputs), f"{name}, cell {number}: make course"


def test_make_course_builds_both_languages_and_fails_where_one_falls_behind(tmp_path):
    """In a copy of the kit's folder with a notebook of its own, by the command itself."""
    folder = tmp_path / "notebooks"
    folder.mkdir()
    for name in ("editions.py", "translations.py", "po.py", "said.py", "chinese.py", "build.py"):
        shutil.copy(NOTEBOOKS / name, folder)
    (folder / "01_tiny.py").write_text(SOURCE, "utf-8")
    nbformat.write(jupytext.reads(SOURCE, "py:percent"), folder / "01_tiny.ipynb")
    po.write([po.Message(e, said, kind) for (e, kind), said in WORDS.items()], folder / "locale/zh_TW/01_tiny.po", "x")

    def course():
        command = [sys.executable, folder / "editions.py"]
        env = os.environ | {"PYTHONPATH": str(KIT)}
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
        return done.returncode, done.stdout

    assert course()[0] == 0
    assert {str(path.relative_to(folder)) for path in folder.rglob("*.ipynb")} == {
        "01_tiny.ipynb", "student/01_tiny.ipynb", "zh-TW/01_tiny.ipynb", "zh-TW/student/01_tiny.ipynb",
    }  # fmt: skip
    (folder / "01_tiny.py").write_text(SOURCE.replace("step by step", "slowly"), "utf-8")
    code, said = course()
    assert code == 1 and "01_tiny is not made in Chinese: 2 texts" in said


# The rules


@pytest.mark.parametrize(
    "text, fault",
    [
        ("影像,然後", "half-width mark"),
        ("影像.", "half-width mark"),
        ("影像(圖)", "half-width brackets"),
        ("共 60個", "wants a space"),
        ("用`check`檢查", "wants a space"),
        ("$x_t$是", "wants a space"),
        ("ε是", "wants a space"),
        ("好 ，對", "beside a full-width mark"),
        ("DDPM ，對", "beside a full-width mark"),
        ("影像 影像", "between Chinese characters"),
        ('他說"好"', "quotation marks"),
        ("**重點：**影像", "that is shown"),
        ("這一行\n和下一行", "breaks a paragraph"),
        ("图像", "simplified"),
        ("体驗", "simplified"),
        ("几步", "simplified"),
        ("干什麼", "simplified"),
        ("採樣", "取樣"),
        ("數據", "資料"),
    ],
)
def test_a_broken_rule_is_named(text, fault):
    assert any(fault in problem for problem in chinese.problems("", text, terms=False))


@pytest.mark.parametrize(
    "text",
    [
        "## 第一幕 · 六萬個數字\n\nMNIST 有 60,000 張影像：把它們讀進**一個**張量，佔 47 MB。",
        "- *（程式，10 分鐘）* 把 $x_t$ 畫出來。\n- 一、二\n\n| a | 中文 |\n| --- | --- |\n| 1 | 二 |",
        "**觀察重點**：看 `x`（在 $t = 0$ 時）。[04_visualization](04_visualization.ipynb) 會畫出來；99.6% 對。",
        "若干步的干擾。\n\n$$x = 1$$\n\n第二段。\n<details><summary>數字</summary>\n\n1：一半。\n\n</details>",
    ],
)
def test_what_follows_the_rules_is_not_named(text):
    assert chinese.problems("", text, terms=False) == chinese.copied("", text)


@pytest.mark.parametrize(
    "english, said, fault",
    [
        ("Take $x_t$.", "取 $x_s$。", "formula"),
        ("Call `check`.", "呼叫 `chek`。", "code"),
        ("See [it](a.ipynb).", "見 [它](b.ipynb)。", "address"),
        ("$a$ and $a$", "$a$", "formula"),
    ],
)
def test_what_must_be_copied_is_compared(english, said, fault):
    assert any(fault in problem for problem in chinese.copied(english, said))
    assert not chinese.copied("$\\text{if noisy}\\; x$", "$\\text{有雜訊時}\\; x$")


def test_terms_are_held():
    assert chinese.wrong_terms("The noisy image, by a sampler.", "有噪音的影像，由取樣器。")
    assert not chinese.wrong_terms("The noisy image, by a sampler.", "有雜訊的影像，由取樣器。")
    assert not chinese.wrong_terms("Call `sampler` of $noise$.", "呼叫它。"), "code and formulas are no words"
    assert not chinese.wrong_terms("## References\n\n*Denoising Diffusion*", "## 參考文獻\n\n*Denoising Diffusion*")


def test_the_glossary_keeps_its_own_rules():
    terms = [word for _, said in chinese.held_terms() for word in said]
    assert len(terms) > 80 and not [word for word in terms if chinese.characters(word) or chinese.mainland(word)]
    english = [form for forms, _ in chinese.held_terms() for form in forms]
    assert len(english) == len(set(english)), "one term for one thing"
    for wrong, right, *_ in chinese.tables()["Words that are not used"]:
        assert not chinese.characters(wrong + right), "traditional characters: simplified ones are found as such"


# The pages beside the notebooks

PAGES = ["README", "notebooks/README", "notebooks/INSTRUCTORS", "notebooks/CLINIC"]
FENCED = re.compile(r"```.*?```", re.S)


def page(name: str) -> tuple[str, str]:
    return tuple((KIT / f"{name}{language}.md").read_text("utf-8") for language in ("", ".zh-TW"))


def in_chinese_edition(place: Path, link: str) -> str:
    """Where a link of an English page leads in the Chinese one: to the Chinese edition, where there is one."""
    others = re.sub(r"\.md$", ".zh-TW.md", link), re.sub(r"(^|notebooks/)(?=student$|\d\d_)", r"\1zh-TW/", link)
    return next((other for other in others if other != link and (place / other).exists()), link)


@pytest.mark.parametrize("name", PAGES)
def test_a_chinese_page_has_the_headings_pictures_numbers_and_commands_of_the_english_one(name):
    def shape(text):
        prose = chinese.LINK.sub("]", FENCED.sub("", text))
        return {
            "headings": re.findall(r"^#+(?= )", FENCED.sub("", text), re.M),
            "pictures": re.findall(r"!\[[^\]]*\]\(([^)]*)\)|<img src=\"([^\"]*)", text),
            "numbers": sorted(re.findall(r"\d[\d,.]*\d", prose)),
            "columns": [line.count("|") for line in text.splitlines() if line.startswith("|")],
            "commands": [
                re.sub(r'#.*|RULE\w*=".*"', "", line).strip() for line in "".join(FENCED.findall(text)).splitlines()
            ],
        }

    english, said = map(shape, page(name))
    assert english == said


@pytest.mark.parametrize("name", PAGES)
def test_its_links_lead_to_the_chinese_edition_and_the_switch_to_the_other_page(name):
    place, stem = (KIT / name).parent, Path(name).name
    english, said = page(name)
    assert english.splitlines()[2] == f"English · [繁體中文]({stem}.zh-TW.md)"
    assert said.splitlines()[2] in (f"[English]({stem}.md) · 繁體中文", f"[English]({stem}.md) · **繁體中文**")
    links = [sorted(set(chinese.LINK.findall(text.split("\n", 3)[3]))) for text in (english, said)]
    far = [[link for link in some_links if link.startswith("http")] for some_links in links]
    near = [[link for link in some_links if not link.startswith(("http", "#"))] for some_links in links]
    assert far[0] == far[1] and {in_chinese_edition(place, link) for link in near[0]} <= set(near[1])
    assert all((place / link.split("#")[0]).exists() for link in near[1])
    slugs = ["#" + heading.lower().replace(" ", "-") for heading in re.findall(r"^#+ (.*)$", said, re.M)]
    assert {link for link in links[1] if link.startswith("#")} <= set(slugs)


@pytest.mark.parametrize("name", PAGES)
def test_it_follows_the_rules_of_the_glossary(name):
    _, said = page(name)
    found = [*chinese.characters(said), *chinese.punctuation(said), *chinese.mainland(said)]
    assert not found


# The kit's own notebooks


@pytest.mark.parametrize("name", NAMES)
def test_every_catalogue_has_the_texts_of_its_notebook(name):
    """Also where they are not all translated: a source was changed without `translations.py update`, if not."""
    found = [fault for fault in translations.faults(NOTEBOOKS / f"{name}.py") if "translations.py update" in fault]
    assert not found


@pytest.mark.parametrize("name", DONE)
def test_a_catalogue_is_complete_and_breaks_no_rule(name):
    source = NOTEBOOKS / f"{name}.py"
    assert not [*translations.faults(source), *translations.broken_rules(source)]


@pytest.mark.parametrize("name", sorted(WAITING))
def test_none_waits_that_is_translated(name):
    assert translations.faults(NOTEBOOKS / f"{name}.py"), f"{name} is translated: take it out of WAITING"


def pair(name: str, folder: str = "") -> list:
    """The same notebook in English and in Chinese."""
    return [nbformat.read(NOTEBOOKS / f / folder / f"{name}.ipynb", as_version=4) for f in ("", "zh-TW")]


@pytest.mark.parametrize("name", DONE)
def test_the_chinese_notebook_is_in_step(name):
    english, there = pair(name)
    made = translations.in_chinese(english, translations.catalogue(NOTEBOOKS / f"{name}.py"), there)
    assert made == there, "make course"
    made = editions.student(made, editions.CHINESE, rule="規則")
    there = nbformat.read(NOTEBOOKS / "zh-TW" / "student" / f"{name}.ipynb", as_version=4)
    if not editions.untouched(NOTEBOOKS / "zh-TW" / "student" / f"{name}.ipynb"):
        pytest.skip("somebody works in it")
    assert [cell.source for cell in there.cells[1:]] == [cell.source for cell in made.cells[1:]], "make course"


@pytest.mark.parametrize("name", DONE)
@pytest.mark.parametrize("folder", ["", "student"])
def test_its_code_is_the_english_code(name, folder):
    def code(notebook):
        cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
        texts = ["texts" in cell.metadata.get("tags", []) for cell in cells]
        sources = [cell.source.replace(', language="zh-TW")', ")") for cell in cells]
        trees = [ast.parse(source) for source in sources]
        for tree, translated in zip(trees, texts, strict=True):
            for node in ast.walk(tree):  # what a blank says is translated, and the sentences of such a cell
                if isinstance(node, ast.Raise) and "NotImplementedError" in ast.unparse(node):
                    node.exc = None
                if translated and isinstance(node, ast.Constant) and isinstance(node.value, str):
                    node.value = ""
        return [ast.dump(tree) for tree in trees]

    english, said = map(code, pair(name, folder))
    assert english == said


@pytest.mark.parametrize("name", DONE)
def test_its_numbers_and_pictures_are_the_english_ones_where_the_library_is_silent(name):
    library = translations.library_words()
    for english, said in zip(*(notebook.cells for notebook in pair(name)), strict=True):
        if english.cell_type == "code" and not translations.speaks(english.outputs, library):
            plain = copy.deepcopy([english.outputs, said.outputs])
            for out in [out for outputs in plain for out in outputs]:
                out.pop("metadata", None)
                if translations.OF_ENGLISH in said.metadata:  # a figure that was drawn beside these very outputs
                    out.get("data", {}).pop("image/png", None)
            assert plain[0] == plain[1]


def test_a_changed_cell_of_the_kit_fails_with_its_old_translation_beside_it(tmp_path, monkeypatch):
    """One word of one cell, in a copy of notebook 1, with a catalogue in which all is translated."""
    source = Path(shutil.copy(NOTEBOOKS / "01_data.py", tmp_path))
    monkeypatch.setattr(translations, "CATALOGUES", tmp_path)
    messages = translations.update(source)
    for number, message in enumerate(messages):
        message.chinese = message.chinese or f"第 {number} 段"
    po.write(messages, tmp_path / "01_data.po", "x")
    assert not translations.faults(source)
    source.write_text(source.read_text("utf-8").replace("How fast should the image fade?", "How fast must it fade?"))
    assert len(translations.faults(source)) == 2
    translations.update(source)
    (fault,) = translations.faults(source)
    assert "was changed: look at its old translation" in fault and fault.startswith("01_data:42")


def test_sentences_of_a_cell_of_texts_are_translated_in_the_code(kit, worked, library):
    source = kit / "01_tiny.py"
    code = (
        '# %% tags=["texts"]\nASKED = {"Why is it so?": "", "a name": 1}\nsaid = f"It took {1 + 1:,} steps. "  # so\n'
    )
    source.write_text(SOURCE + "\n" + code, "utf-8")
    words = {
        ("Why is it so?", "text"): "為什麼會這樣？",
        ("It took {1 + 1:,} steps. ", "text"): "花了 {1 + 1:,} 步。",
    }
    fill(translations.update(source), kit, WORDS | words)
    assert not translations.faults(source)
    cell = translations.in_chinese(jupytext.read(source), translations.catalogue(source)).cells[-1]
    assert cell.source == 'ASKED = {"為什麼會這樣？": "", "a name": 1}\nsaid = f"花了 {1 + 1:,} 步。"  # so'
    fill(translations.update(source), kit, WORDS | words | {("Why is it so?", "text"): "為什麼會這樣 {x}？"})
    assert "has other fields" in "\n".join(translations.broken_rules(source))
