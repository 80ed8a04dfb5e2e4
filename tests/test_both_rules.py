"""The rules that both cores implement agree on every instruction and function of the standard library.

The compiled core must not run Python code while it looks at a thread. So the rules of ``_core/bytecode.py`` and
``_core/safe_points.py`` that cannot be looked up are in the ``.pxi`` files of these names, too.
"""

from __future__ import annotations

import os
import sysconfig
import warnings
import weakref
from functools import cache
from pathlib import Path
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any

import pytest

from dramatiq_abort._core import bytecode, safe_points
from dramatiq_abort._core.protected_code import ANY, CUT_IN, PROTECTED_IN, PROTECTED_MODULES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import GeneratorType

_interrupt: Any = pytest.importorskip("dramatiq_abort._interrupt", reason="the compiled core is not installed")

#: By default, one in 20 modules is compared, and each module that calls an ``acquire``. TEST_EVERY_MODULE=1 compares
#: all of them, which takes about a minute; ``make test-all`` sets it.
STRIDE = 1 if os.environ.get("TEST_EVERY_MODULE") == "1" else 20


@cache
def library() -> list[tuple[str, CodeType]]:
    """Yield the code objects of the standard library, each with the name of its module."""
    root = Path(sysconfig.get_path("stdlib"))
    found: list[tuple[str, CodeType]] = []
    for number, path in enumerate(sorted(root.rglob("*.py"))):
        if "site-packages" in path.parts:
            continue
        source = path.read_bytes()
        if number % STRIDE and b".acquire(" not in source:
            continue
        module = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                code = compile(source, path, "exec", dont_inherit=True)
        except (SyntaxError, ValueError):  # input of the compiler's tests
            continue
        found += [(module, each) for each in with_inner(code)]
    return found


def with_inner(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from with_inner(constant)


def delivers(code: CodeType, offset: int) -> bool:
    """Return the result of the Python rules, without their exception for a loop around an acquire.

    That is for the pure-Python core, which has to interrupt such a loop there.
    """
    if not bytecode.delivers(code, offset):
        return False
    if "acquire" not in code.co_names:
        return True
    return bytecode._instruction_at(code, offset) not in bytecode.calls_before_try(code, in_loops=True)


def test_both_say_the_same_of_each_instruction() -> None:
    """The cores agree where a thread looks at its slot, and where an exception may be raised."""
    different = [
        (module, code, offset)
        for module, code in library()
        for offset in range(0, len(code.co_code), 2)
        if delivers(code, offset) != _interrupt._delivers(code, offset)
    ]

    assert different == []


def standing_in(module: str, function: str) -> GeneratorType[None, None, None]:
    """Return a generator whose frame looks like one of that function in that module."""

    def template() -> Iterator[None]:
        yield

    made: GeneratorType[None, None, None] = FunctionType(
        template.__code__.replace(co_name=function), {"__name__": module}
    )()
    return made


def named(function: str) -> CodeType:
    return standing_in.__code__.replace(co_name=function)


def test_both_say_the_same_of_each_function() -> None:
    """The cores agree which functions are protected, in which of their calls they are not, and which wait."""
    functions = {(module, code.co_name) for module, code in library()}
    functions |= {(module, function) for module, names in PROTECTED_IN.items() for function in names}
    functions |= {(f"{module}{end}", "f") for module in PROTECTED_MODULES for end in ("", ".inner", "s")}
    different = []
    for module, function in functions:
        generator = standing_in(module, function)
        frame = generator.gi_frame
        for called in [None, "another", ANY, *CUT_IN.get((module, function), ())]:
            expected = safe_points.must_stay(frame, called), safe_points.is_handed_over([frame])
            if expected != _interrupt._rules_of(frame, called and named(called)):
                different.append((module, function, called))

    assert different == []


def test_codes_that_are_gone_are_not_kept() -> None:
    """The compiled core's cache of results per code object does not grow without limit."""
    first = compile("lock.acquire()\ntry: pass\nfinally: pass", "first", "exec")
    held_back = {offset for offset in range(0, len(first.co_code), 2) if not _interrupt._delivers(first, offset)}
    gone = weakref.ref(first)
    del first
    for number in range(3000):
        another = compile(f"lock.acquire({number})", "another", "exec")
        for offset in range(0, len(another.co_code), 2):
            _interrupt._delivers(another, offset)

    assert held_back
    assert gone() is None
