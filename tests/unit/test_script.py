"""A version file: read without executing it, loaded, and its functions behind one interface."""

from __future__ import annotations

import ast
import os
import pickle
import sys
import traceback
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from textwrap import dedent
from types import MappingProxyType, SimpleNamespace
from typing import Any

import pytest

from dynamodt import load_script, without
from dynamodt.errors import ItemError, Refused, ScriptError
from dynamodt.model.runs import Script
from dynamodt.model.tables import Delete, KeyAttribute, Put
from dynamodt.script.apply import item_rows, prepare_rows
from dynamodt.script.functions import Transform, check
from dynamodt.script.load import load
from dynamodt.script.read import read_script
from dynamodt.script.syntax import syntax_checksum

pytestmark = pytest.mark.unit

SHOWN = "transforms/users/v2_split_name.py"
UP = "sequence = 2\ndef transform_up(item):\n    return item\n"


def read(tmp_path: Path, text: str, file_name: str = "v2_split_name.py") -> Script:
    path = tmp_path / "transforms" / "users" / file_name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(dedent(text).encode())
    return read_script(path, tmp_path)


def fault(tmp_path: Path, text: str, file_name: str = "v2_split_name.py") -> ScriptError:
    with pytest.raises(ScriptError) as caught:
        read(tmp_path, text, file_name)
    return caught.value


def script(body: str) -> Script:
    """A script given as text, as it reaches a worker that does not have the file."""
    text = dedent(body)
    return Script(
        "users", 2, "split_name", SHOWN, text, "", has_up="ransform_up" in text, has_down="ransform_down" in text,
        has_prepare="def prepare" in text, has_items="def items" in text,
    )  # fmt: skip


def transform(body: str, direction: Any = "up") -> Transform:
    return Transform(script(body), direction)


# ---------------------------------------------------------------- reading


def test_all_settings_of_a_script_are_read(tmp_path: Path) -> None:
    text = '''\
        """Split the name.

        More words.
        """
        from dynamodt import without

        sequence = 2
        GUARD = "changed"
        TARGET_TABLE = "people"
        IDEMPOTENT: bool = True
        STAMP = "_dynamodt"
        SOURCE = "export"
        KEY = {"pk": "S", "sk": "N"}

        def prepare(context): ...
        def transform_up(item, prepared): ...
        class TransformDown: ...
        '''
    found = read(tmp_path, text)
    assert replace(found, prepare_checksum="") == Script(
        table="users",
        sequence=2,
        name="split_name",
        path=SHOWN,
        text=dedent(text),
        checksum=syntax_checksum(ast.parse(dedent(text)), dedent(text)),
        title="Split the name.",
        has_up=True,
        has_down=True,
        has_prepare=True,
        has_items=False,
        guard="changed",
        target_table="people",
        idempotent=True,
        stamp="_dynamodt",
        source="export",
        key=(KeyAttribute("pk", "S"), KeyAttribute("sk", "N")),
        folder="users",
    )


def test_the_defaults_of_the_settings(tmp_path: Path) -> None:
    found = read(tmp_path, "sequence = 2\ndef items():\n    yield {}\n")
    assert (found.has_up, found.has_down, found.has_prepare, found.has_items) == (False, False, False, True)
    assert (found.title, found.guard, found.target_table, found.idempotent, found.stamp, found.source, found.key) == (
        "", "item", None, False, None, "scan", (),
    )  # fmt: skip


def test_reading_a_script_executes_nothing(tmp_path: Path) -> None:
    assert read(tmp_path, f"raise SystemExit\n{UP}").has_up


def test_line_ends_and_a_byte_order_mark_change_nothing(tmp_path: Path) -> None:
    plain = read(tmp_path, UP)
    assert read(tmp_path, UP.replace("\n", "\r\n")) == read(tmp_path, "\ufeff" + UP) == plain
    assert read(tmp_path, UP + "EDITED = 1\n").checksum != plain.checksum


def test_a_file_outside_of_the_project_keeps_its_path(tmp_path: Path) -> None:
    path = tmp_path / "users" / "v2_split_name.py"
    path.parent.mkdir()
    path.write_text(UP)
    assert read_script(path, tmp_path / "other").path == str(path)


@pytest.mark.parametrize(
    ("text", "where", "what", "hint"),
    [
        ("sequence = 2\ndef transform_up(item:\n    pass\n", ":2", "syntax error", "def transform_up(item:"),
        ("sequence = 2\n  x = 1\n", ":2", "syntax error: unexpected indent", "x = 1"),
        ("def transform_up(item): ...\n", "", "has no sequence", "sequence = 2"),
        ("\n" + UP.replace("2", "3", 1), ":2", "sequence is 3, but the file's name says 2", "sequence = 2"),
        (UP.replace("2", "1 + 1", 1), ":1", "sequence must be a plain whole number", "sequence = 2"),
        (UP.replace("2", "True", 1), ":1", "sequence must be a plain whole number", "sequence = 2"),
        (UP.replace("2", "'2'", 1), ":1", "sequence must be a plain whole number", "sequence = 2"),
        ("sequence = 2\n", "", "neither transform_up nor items", "def transform_up(item)"),
        ("sequence = 2\ndef transform_down(item): ...\n", "", "neither transform_up nor items", "top level"),
        (UP + "class TransformUp: ...\n", ":4", "has both transform_up and TransformUp", "Keep"),
        ("sequence = 2\nasync def transform_up(item): ...\n", ":2", "transform_up is async", "without async"),
        (UP + "def transfrom_down(item): ...\n", ":4", "transfrom_down is not a function", "transform_down?"),
        (UP + "def transformDown(item): ...\n", ":4", "transformDown is not a function", "transform_down?"),
        ("transformationNumber = 2\n" + UP.partition("\n")[2], ":1", "transformationNumber is not", "sequence = 2"),
        ("sequence = 2\ndef transformUp(item): ...\n", ":2", "transformUp is not a function", "transform_up?"),
        ("sequence = 2\ndef TransformUp(item): ...\n", ":2", "the name is that of a class", "def transform_up(item)"),
        (UP + "async def TransformDown(item): ...\n", ":4", "the name is that of a class", "class TransformDown"),
        (UP + "class TransformDwon: ...\n", ":4", "TransformDwon is not a function", "TransformDown?"),
        (UP + "GUARD = 'items'\n", ":4", "GUARD is 'items'", '"item" or "changed"'),
        (UP + "IDEMPOTENT = 1\n", ":4", "IDEMPOTENT is 1", "True or False"),
        (UP + "IDEMPOTENT = bool(1)\n", ":4", "IDEMPOTENT is something that must be computed", "True or False"),
        (UP + "STAMP = ''\n", ":4", "STAMP is ''", "attribute"),
        (UP + "SOURCE = ['scan']\n", ":4", "SOURCE is ['scan']", '"export"'),
        (UP + "TARGET_TABLE = 'a b'\n", ":4", "TARGET_TABLE is 'a b'", "name of a table"),
        (UP + "TARGET_TABLE = 'users'\n", ":4", "the table itself", "Remove"),
        (UP + "KEY = {}\n", ":4", "KEY is {}", '{"id": "S"}'),
        (UP + "KEY = 'id'\n", ":4", "KEY is 'id'", '{"id": "S"}'),
        (UP + "KEY = {'id': 'X'}\n", ":4", "KEY is {'id': 'X'}", '"S", "N" or "B"'),
        (UP + "KEY = {'id': ['S']}\n", ":4", "KEY is {'id': ['S']}", '"S", "N" or "B"'),
        (UP + "KEY = {'': 'S'}\n", ":4", "KEY is {'': 'S'}", "attributes"),
        (UP + "KEY = {1: 'S'}\n", ":4", "KEY is {1: 'S'}", "attributes"),
        (UP + "KEY = {'a': 'S', 'b': 'S', 'c': 'S'}\n", ":4", "KEY is {'a'", "partition key first"),
        (UP + "KEY = dict(id='S')\n", ":4", "KEY is something that must be computed", '{"id": "S"}'),
        (UP + "KEYS = {'id': 'S'}\n", ":4", "KEYS is not a setting", "KEY?"),
        (UP + "IDEMPOTANT = True\n", ":4", "IDEMPOTANT is not a setting", "IDEMPOTENT?"),
        (UP + "idempotent = True\n", ":4", "idempotent is not a setting", "IDEMPOTENT?"),
        (UP + "if 1:\n    IDEMPOTENT = True\n", ":5", "IDEMPOTENT is not assigned once", "not indented"),
        (UP + "GUARD = 'item'\nGUARD = 'changed'\n", ":4", "GUARD is not assigned once", "one line"),
    ],
)
def test_a_bad_file_is_named_with_its_line(tmp_path: Path, text: str, where: str, what: str, hint: str) -> None:
    error = fault(tmp_path, text)
    assert error.where == SHOWN + where
    assert what in error.what
    assert hint in error.hint
    assert error.exit_code == 2


@pytest.mark.parametrize(
    "name", ["SOURCES = ['a']", "STAMPS = {}", "GUARDS = 3", "KEYS = ['id']", "def _transform_up(item): ..."]
)
def test_other_names_of_the_author_are_accepted(tmp_path: Path, name: str) -> None:
    read(tmp_path, f"{UP}{name}\n")


def test_a_sequence_that_is_anothers_names_both_files(tmp_path: Path) -> None:
    read(tmp_path, UP)
    error = fault(tmp_path, UP, "v3_join.py")
    assert error.where == "transforms/users/v3_join.py:1"
    assert "v2_split_name.py" in error.what
    assert "sequence = 3" in error.hint


@pytest.mark.parametrize(
    ("file_name", "better"),
    [
        ("V2-foo.py", "v2_foo.py"),
        ("v02_x.py", "v2_x.py"),
        ("2_split-name.py", "v2_split_name.py"),
        ("v2.py", "v2_<name>.py"),
        ("v0_x.py", "v<N>_<name>.py"),
        ("split.py", "v<N>_<name>.py"),
    ],
)
def test_a_wrong_file_name_is_refused(tmp_path: Path, file_name: str, better: str) -> None:
    error = fault(tmp_path, UP, file_name)
    assert error.where == f"transforms/users/{file_name}"
    assert better in error.hint


def test_a_missing_or_binary_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "v1_x.py"
    with pytest.raises(ScriptError, match="cannot be read: No such file"):
        read_script(path, tmp_path)
    path.write_bytes(b"sequence = 1 # \xff")
    with pytest.raises(ScriptError, match=r"v1_x\.py: is not UTF-8 text"):
        read_script(path, tmp_path)
    path.write_bytes(b"sequence = 1\0")
    with pytest.raises(ScriptError, match=r"v1_x\.py.*syntax error"):
        read_script(path, tmp_path)


# ---------------------------------------------------------------- loading


def test_load_executes_the_recorded_text_and_not_the_file() -> None:
    module = load(script("sequence = 2\nname = __name__\n"))
    assert module.sequence == 2
    assert (module.__file__, module.name) == (SHOWN, "dynamodt:users/v2_split_name")
    assert sys.modules[module.__name__] is module


def test_a_traceback_shows_the_authors_line() -> None:
    apply = transform("def transform_up(item):\n    return item['nickname']  # the line\n").apply
    try:
        apply({}, {})
    except KeyError:
        assert "return item['nickname']  # the line" in traceback.format_exc()
        assert f'File "{SHOWN}", line 2, in transform_up' in traceback.format_exc()


def test_annotations_of_a_script_are_not_turned_into_strings() -> None:
    assert load(script("def f(x: int): ...\n")).f.__annotations__ == {"x": int}


def test_classes_of_a_script_can_be_pickled() -> None:
    module = load(script("class Place:\n    pass\n"))
    assert type(pickle.loads(pickle.dumps(module.Place()))) is module.Place


@pytest.mark.parametrize(
    ("text", "line", "what", "hint"),
    [
        ("a = 1\nb = a / 0\n", 2, "ZeroDivisionError: division by zero", "nothing was started"),
        ("\nimport no_such_package\n", 2, "No module named 'no_such_package'", "-m pip install no_such_package"),
        ("def f():\n    raise SystemExit(1)\nf()\n", 2, "SystemExit: 1", "Correct the line"),
    ],
)
def test_an_error_while_loading_names_the_authors_line(text: str, line: int, what: str, hint: str) -> None:
    with pytest.raises(ScriptError) as caught:
        load(script(text))
    assert caught.value.where == f"{SHOWN}:{line}"
    assert what in caught.value.what
    assert hint in caught.value.hint
    assert caught.value.__cause__ is not None


def test_load_script_for_an_authors_test(tmp_path: Path) -> None:
    path = tmp_path / "v2_split_name.py"
    path.write_text(UP)
    assert load_script(str(path)).transform_up({"id": "1"}) == {"id": "1"}


# ---------------------------------------------------------------- results


def apply(returned: str) -> list[Any]:
    body = "from dynamodt import Delete, Put\nfrom collections import OrderedDict, deque\n"
    return transform(f"{body}def transform_up(item):\n    return {returned}\n").apply({"id": "1"}, {})


@pytest.mark.parametrize(
    ("returned", "results"),
    [
        ("item", [{"id": "1"}]),
        ("OrderedDict(item)", [{"id": "1"}]),
        ("Delete()", [Delete()]),
        ("Put({'id': '2'})", [Put({"id": "2"})]),
        ("[item]", [{"id": "1"}]),
        ("(Put({'id': '2'}), item)", [Put({"id": "2"}), {"id": "1"}]),
        ("deque([Delete(), Put({'id': '2'})])", [Delete(), Put({"id": "2"})]),
        ("(Put({'id': n}) for n in '23')", [Put({"id": "2"}), Put({"id": "3"})]),
    ],
)
def test_the_accepted_results_of_a_function(returned: str, results: list[Any]) -> None:
    found = apply(returned)
    assert found == results
    assert OrderedDict not in map(type, found)


@pytest.mark.parametrize(
    ("returned", "what"),
    [
        ("None", "transform_up returned None (forgot to return?)"),
        ("3", "transform_up returned an int"),
        ("'item'", "transform_up returned a str"),
        ("b''", "transform_up returned a bytes"),
        ("Delete", "transform_up returned the class Delete (forgot the parentheses?)"),
        ("[item, None]", "transform_up returned a list that holds None"),
        ("[item, 'x']", "transform_up returned a list that holds a str"),
        ("[[item]]", "transform_up returned a list that holds a list"),
        ("item.items()", "transform_up returned a dict_items that holds a tuple"),
        ("[]", "transform_up gave nothing"),
        ("iter(())", "transform_up gave nothing"),
        ("[item, item]", "transform_up gave 2 dicts"),
        ("[item, Delete()]", "transform_up gave Delete() beside another"),
        ("[Delete(), Delete()]", "transform_up gave Delete() beside another"),
        ("Put(None)", "transform_up returned Put(None)"),
        ("[Put('x')]", "transform_up returned a list that holds Put(a str)"),
    ],
)
def test_a_result_that_is_not_an_item_is_an_error(returned: str, what: str) -> None:
    with pytest.raises(ItemError) as caught:
        apply(returned)
    assert what in caught.value.what
    assert caught.value.hint


# ---------------------------------------------------------------- functions


def test_a_function_that_takes_prepared_data() -> None:
    body = "def transform_up(item, prepared):\n    return {**item, 'n': prepared['a']}\n"
    assert transform(body).apply({"id": 1}, {"a": Decimal(5)}) == [{"id": 1, "n": Decimal(5)}]


def test_a_lambda_and_a_decorated_function_are_accepted() -> None:
    assert transform("def transform_up(item, prepared=None):\n    return prepared\n").apply({}, {"a": 1}) == [{"a": 1}]
    assert transform("transform_up = lambda item: item\n").apply({"a": 1}, {}) == [{"a": 1}]
    body = """\
        import functools
        def same(function):
            @functools.wraps(function)
            def call(*args):
                return function(*args)
            return call
        @same
        def transform_up(item):
            return item
        """
    assert transform(body).apply({"a": 1}, {}) == [{"a": 1}]


def test_the_life_cycle_of_a_function_does_nothing() -> None:
    up = transform(UP)
    for stage in (up.setup, up.start_bundle, up.finish_bundle, up.teardown):
        stage()


def test_exceptions_of_a_function_or_generator_are_raised_unchanged() -> None:
    for body in ("    return item['x']", "    yield item['x']"):
        with pytest.raises(KeyError, match="x"):
            transform(f"def transform_up(item):\n{body}\n").apply({}, {})


@pytest.mark.parametrize(
    "definition",
    [
        "def transform_up(): ...",
        "def transform_up(item, prepared, more): ...",
        "def transform_up(*items): ...",
        "def transform_up(item, **more): ...",
        "def transform_up(item, *, prepared): ...",
    ],
)
def test_other_parameters_are_refused(definition: str) -> None:
    with pytest.raises(ScriptError) as caught:
        transform(f"sequence = 2\n{definition}\n")
    assert caught.value.where == f"{SHOWN}:2"
    assert "parameters other than (item) or (item, prepared)" in caught.value.what
    assert "def transform_up(item, prepared)" in caught.value.hint


def test_a_value_that_is_not_a_function_is_refused() -> None:
    with pytest.raises(ScriptError, match=f"{SHOWN}:1: transform_up is not a function"):
        transform("transform_up = 3\n")


def test_a_missing_direction_is_refused() -> None:
    with pytest.raises(ScriptError, match=f"{SHOWN}: has no transform_down"):
        transform(UP, "down")


# ---------------------------------------------------------------- classes

LIFE = """\
    class TransformUp:
        def __init__(self):
            self.calls = ["init"]
        def setup(self):
            self.calls.append("setup")
        def start_bundle(self):
            self.calls.append("start_bundle")
        def process(self, item, prepared):
            self.calls.append("process")
            yield {**item, "calls": tuple(self.calls), **prepared}
        def finish_bundle(self):
            self.calls.append("finish_bundle")
        def teardown(self):
            self.calls.append("teardown")
    """


def test_all_life_cycle_methods_are_called_on_one_instance() -> None:
    up = transform(LIFE)
    up.setup()
    for _ in range(2):
        up.start_bundle()
        (item,) = up.apply({"id": "1"}, {"p": 1})
        up.finish_bundle()
    up.teardown()
    bundle = ("start_bundle", "process", "finish_bundle")
    assert item == {"id": "1", "p": 1, "calls": ("init", "setup", *bundle, "start_bundle", "process")}
    assert up._instance.calls[-2:] == ["finish_bundle", "teardown"]


def test_process_may_take_only_the_item() -> None:
    body = "class TransformDown:\n    def process(self, item):\n        return %s\n"
    assert transform(body % "[item]", "down").apply({"a": 1}, {}) == [{"a": 1}]
    assert transform(body % "item", "down").apply({"a": 1}, {}) == [{"a": 1}]
    with pytest.raises(ItemError, match=r"TransformDown\.process returned None"):
        transform(body % "None", "down").apply({"a": 1}, {})
    with pytest.raises(ItemError, match=r"TransformDown\.process gave nothing"):
        transform(body % "[]", "down").apply({"a": 1}, {})


def test_a_beam_dofn_is_accepted() -> None:
    pytest.importorskip("apache_beam")
    body = """\
        import apache_beam as beam
        class TransformUp(beam.DoFn):
            def process(self, item, prepared):
                yield item
        """
    up = transform(body)
    up.setup()
    up.start_bundle()
    assert up.apply({"a": 1}, {}) == [{"a": 1}]
    up.finish_bundle()
    up.teardown()


@pytest.mark.parametrize("stage", ["setup", "start_bundle", "finish_bundle", "teardown"])
def test_an_output_belongs_to_an_item(stage: str) -> None:
    body = f"class TransformUp:\n    def process(self, item): ...\n    def {stage}(self):\n        yield {{}}\n"
    with pytest.raises(ScriptError, match=f"{SHOWN}:1: TransformUp.{stage} yields an output"):
        getattr(transform(body), stage)()


@pytest.mark.parametrize("stage", ["setup", "start_bundle", "finish_bundle", "teardown"])
def test_an_error_in_a_life_cycle_method_names_the_script_line(stage: str) -> None:
    body = (
        "class TransformUp:\n    def process(self, item): ...\n    def %s(self):\n        raise OSError('no model')\n"
    )
    with pytest.raises(ScriptError, match=f"{SHOWN}:4: TransformUp.{stage} fails: OSError: no model") as caught:
        getattr(transform(body % stage), stage)()
    assert caught.value.hint


ENDS = {
    "sys.exit": ("import sys; sys.exit('no model')", "SystemExit: no model"),
    "exit": ("exit(0)", "SystemExit: 0"),
    "os._exit": ("import os; os._exit(0)", "SystemExit: os._exit"),
    "from os": ("from os import _exit; _exit(0)", "SystemExit: os._exit"),
    "posix._exit": ("import posix; posix._exit(0)", "SystemExit: os._exit"),
    "os.abort": ("import os; os.abort()", "SystemExit: os.abort"),
    "os.exec": ("import os; os.execlp('true', 'true')", "SystemExit: os.exec"),
    "generator": ("raise GeneratorExit", "GeneratorExit"),
    "base": ("raise type('Stop', (BaseException,), {})('now')", "Stop: now"),
    "recursion": ("(lambda f: f(f))(lambda f: f(f))", "RecursionError"),
    "memory": ("raise MemoryError", "MemoryError"),
    "no text": ("raise type('Odd', (Exception,), {'__str__': lambda self: 1 / 0})", "Odd, whose text cannot be"),
}
ends = pytest.mark.parametrize(("line", "said"), ENDS.values(), ids=ENDS)


@ends
@pytest.mark.parametrize("stage", ["setup", "start_bundle", "finish_bundle", "teardown", "__init__"])
def test_sys_exit_in_a_life_cycle_method_does_not_end_the_process(stage: str, line: str, said: str) -> None:
    body = f"class TransformUp:\n    def process(self, item): ...\n    def {stage}(self):\n        {line}\n"
    with pytest.raises(ScriptError, match=said) as caught:
        getattr(transform(body), stage)()
    assert caught.value.where.startswith(SHOWN)


@ends
@pytest.mark.parametrize(
    "head", ["def items():\n    yield {}", "def items():\n    return map(f, [1])\ndef f(row):\n    pass"]
)
def test_sys_exit_in_a_row_function_does_not_end_the_process(head: str, line: str, said: str) -> None:
    with pytest.raises(ScriptError, match=f"items fails.*{said}") as caught:
        list(item_rows(script(f"{head}\n    {line}\n")))
    assert caught.value.where.startswith(SHOWN)


@ends
def test_sys_exit_at_import_does_not_end_the_process(line: str, said: str) -> None:
    with pytest.raises(ScriptError, match=f"fails when it is loaded: {said}") as caught:
        check(script(f"{UP}def f():\n    {line}\nf()\n"))
    assert caught.value.where.startswith(SHOWN)


def test_ctrl_c_interrupts_a_script() -> None:
    for body in ("", "    yield {}\n"):
        with pytest.raises(KeyboardInterrupt):
            list(item_rows(script(f"def items():\n{body}    raise KeyboardInterrupt\n")))
    body = "class TransformUp:\n    def process(self, i): ...\n    def setup(self): raise KeyboardInterrupt\n"
    with pytest.raises(KeyboardInterrupt):
        transform(body).setup()
    with pytest.raises(KeyboardInterrupt):
        check(script(f"{UP}raise KeyboardInterrupt\n"))


def test_a_row_generator_is_closed_when_its_rows_are_no_longer_read() -> None:
    found = item_rows(script("def items():\n    yield {'id': '1'}\n    yield {'id': '2'}\n"))
    assert next(found) == {"id": "1"}
    found.close()  # type: ignore[attr-defined]
    assert list(found) == []


def test_a_process_forked_by_a_script_may_end() -> None:
    body = """\
import os
def items():
    child = os.fork()
    if not child:
        os._exit(7)
    yield {"code": os.waitpid(child, 0)[1] >> 8}
"""
    assert list(item_rows(script(body))) == [{"code": 7}]


@pytest.mark.parametrize(
    ("end", "code"), [("return item", 1), ("raise ValueError", 1), ("return None", 1), ("raise SystemExit(3)", 3)]
)
def test_a_process_forked_by_a_script_ends_where_the_script_returns(
    end: str, code: int, capfd: pytest.CaptureFixture[str]
) -> None:
    """It would go on with the run, as a copy of it."""
    body = f"""\
import os
def transform_up(item):
    child = os.fork()
    if not child:
        {end}
    return {{"code": os.waitpid(child, 0)[1] >> 8}}
"""
    apply = transform(body).apply
    assert _in_this_process(lambda: apply({}, {})) == [{"code": code}]
    assert (SHOWN in capfd.readouterr().err) == (code == 1)


@pytest.mark.parametrize("end", ["yield {}", "return"])
def test_a_process_forked_by_a_row_function_ends_there(end: str) -> None:
    body = f"""\
import os
def items():
    child = os.fork()
    if not child:
        {end}
    yield {{"code": os.waitpid(child, 0)[1] >> 8}}
"""
    assert _in_this_process(lambda: list(item_rows(script(body)))) == [{"code": 1}]


@pytest.mark.parametrize(
    "body",
    [
        "fork()\nclass TransformUp:\n    def process(self, item): ...\n",
        "class TransformUp:\n    def process(self, item): ...\n    def __init__(self): fork()\n",
        "class TransformUp:\n    def process(self, item): ...\n    def setup(self): fork()\n",
    ],
    ids=["module", "constructor", "setup"],
)
def test_a_process_forked_by_the_other_code_of_a_script_ends_there(body: str, tmp_path: Path) -> None:
    fork = f"""\
import os
def fork():
    child = os.fork()
    if child:
        with open({str(tmp_path / "code")!r}, "w") as file:
            file.write(str(os.waitpid(child, 0)[1] >> 8))
"""
    _in_this_process(lambda: transform(fork + body).setup())
    assert (tmp_path / "code").read_text() == "1"


def _in_this_process(call: Callable[[], Any]) -> Any:
    """The result of a call. A forked process that returns from it ends with another code than by dynamodt."""
    here = os.getpid()
    try:
        return call()
    finally:
        if os.getpid() != here:
            os._exit(99)


def test_code_outside_of_scripts_may_end_the_process() -> None:
    check(script(UP))
    ended = os.fork()
    if not ended:
        os._exit(5)
    assert os.waitpid(ended, 0)[1] >> 8 == 5


def test_a_generator_as_finish_bundle_is_executed() -> None:
    body = """\
        class TransformUp:
            done = False
            def process(self, item): ...
            def finish_bundle(self):
                self.done = True
                yield from ()
        """
    up = transform(body)
    up.finish_bundle()
    assert up._instance.done


@pytest.mark.parametrize(
    ("body", "where", "what"),
    [
        ("class TransformUp:\n    pass\n", ":1", "the class TransformUp has no process"),
        ("class TransformUp:\n    process = 3\n", ":1", "TransformUp.process is not a function"),
        ("class TransformUp:\n    def process(self, a, b, c): ...\n", ":1", "parameters other than (self, item)"),
        (
            "class TransformUp:\n    def __init__(self, x): ...\n    def process(self, item): ...\n",
            ":1",
            "TransformUp() fails: TypeError",
        ),
        (
            "class TransformUp:\n    def __init__(self):\n        1 / 0\n    def process(self, item): ...\n",
            ":3",
            "TransformUp() fails: ZeroDivisionError",
        ),
        ("class TransformUp:\n    async def process(self, item): ...\n", ":1", "TransformUp.process is async"),
        (
            "class TransformUp:\n    async def process(self, item):\n        yield item\n",
            ":1",
            "TransformUp.process is async",
        ),
        (
            "class TransformUp:\n    async def setup(self): ...\n    def process(self, item): ...\n",
            ":1",
            "TransformUp.setup is async",
        ),
        (
            (
                "import apache_beam as beam\nclass TransformUp(beam.DoFn):\n"
                "    def process(self, item, at=beam.DoFn.TimestampParam): ...\n"
            ),
            ":2",
            "TransformUp.process has the parameter at of Beam",
        ),
    ],
)
def test_an_unusable_class_is_refused(body: str, where: str, what: str) -> None:
    with pytest.raises(ScriptError) as caught:
        transform(body)
    assert caught.value.where == SHOWN + where
    assert what in caught.value.what


@pytest.mark.parametrize(
    ("parameters", "prepare", "seen"),
    [
        ("item, factor=2", "", 2),
        ("item, prepared=None", "", {}),
        ("item, prepared=2", "", {}),
        ("item, rows=None", "", {}),
        ("item, factor", "", {}),
        ("item, factor=2", "def prepare(context): ...\n", {}),
    ],
)
def test_a_default_of_the_author_is_kept_without_prepared_data(parameters: str, prepare: str, seen: Any) -> None:
    last = parameters.split(", ")[1].partition("=")[0]
    body = f"{prepare}def transform_up({parameters}):\n    return {{**item, 'seen': {last}}}\n"
    assert transform(body).apply({}, MappingProxyType({})) == [{"seen": seen}]


# ---------------------------------------------------------------- rows


def rows(body: str) -> list[Any]:
    return list(prepare_rows(script(body), SimpleNamespace(folder=Path("here"))))


def test_prepared_rows_are_pairs() -> None:
    assert rows("def prepare(context):\n    yield 'a', context.folder\n    yield ['b', 2]\n") == [
        ("a", Path("here")),
        ("b", 2),
    ]


@pytest.mark.parametrize(
    ("body", "what"),
    [
        ("    yield 'a', 1\n    yield 'DE'", "as row 2, str 'DE'"),
        ("    yield 1, 2, 3", "as row 1, tuple (1, 2, 3)"),
        ("    yield [], 2", "as row 1, tuple ([], 2)"),
        ("    pass", "prepare returned NoneType"),
        ("    return {'a': 1}", "prepare returned dict"),
    ],
)
def test_prepared_rows_that_are_not_pairs_are_refused(body: str, what: str) -> None:
    with pytest.raises(ScriptError) as caught:
        rows(f"def prepare(context):\n{body}\n")
    assert caught.value.where == f"{SHOWN}:1"
    assert what in caught.value.what
    assert "(key, value)" in caught.value.hint


def test_rows_of_items_are_read_one_at_a_time() -> None:
    found = item_rows(script("def items():\n    yield {'id': '1'}\n    raise OSError('later')\n"))
    assert next(found) == {"id": "1"}
    with pytest.raises(ScriptError, match=f"{SHOWN}:3: items fails after row 1: OSError: later") as caught:
        next(found)
    assert isinstance(caught.value.__cause__, OSError) and "same command again" in caught.value.hint


def test_an_error_in_prepare_names_the_script_line() -> None:
    body = "def prepare(context):\n    return [ask() for _ in range(2)]\ndef ask():\n    raise OSError('no answer')\n"
    with pytest.raises(ScriptError, match=f"{SHOWN}:4: prepare fails: OSError: no answer"):
        rows(body)
    with pytest.raises(Refused, match="of our own"):  # messages that already name the place stay unchanged
        rows("from dynamodt.errors import Refused\ndef prepare(context):\n    raise Refused('of our own')\n")


@pytest.mark.parametrize(
    ("body", "what"),
    [
        ("def items():\n    yield {}\n    yield 'id', 1\n", "as row 2, tuple"),
        ("def items():\n    return\n", "items returned NoneType"),
        ("def items(context): ...\n", "items has parameters other than ()"),
        ("items = []\n", "items is not a function"),
        ("sequence = 1\n", "has no items"),
    ],
)
def test_rows_of_items_that_are_not_dicts_are_refused(body: str, what: str) -> None:
    with pytest.raises(ScriptError, match=SHOWN) as caught:
        list(item_rows(script(body)))
    assert what in caught.value.what
    assert caught.value.hint


# ---------------------------------------------------------------- the check before a run


def test_check_finds_a_fault_in_any_function() -> None:
    check(script(f"{UP}def transform_down(item): ...\ndef prepare(context): ...\ndef items(): ...\n"))
    for bad in ("def transform_down(): ...", "def prepare(): ...", "def items(x): ..."):
        with pytest.raises(ScriptError, match=f"{SHOWN}:4"):
            check(script(f"{UP}{bad}\n"))


def test_without_removes_attributes() -> None:
    item = {"a": 1, "b": 2, "c": 3}
    assert without(item, "a", "c", "absent") == {"b": 2}
    assert item == {"a": 1, "b": 2, "c": 3}
