"""How much one statement may hold: what a reader takes in at once."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import gcf

ROOT = Path(gcf.__file__).parent
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def expressions(statement: ast.stmt) -> Iterator[ast.AST]:
    """The expressions of a statement, those of statements inside it left out."""
    waiting = list(ast.iter_child_nodes(statement))
    while waiting:
        node = waiting.pop()
        if not isinstance(node, ast.stmt | ast.excepthandler | ast.match_case):
            yield node
            waiting += ast.iter_child_nodes(node)


def too_dense(source: str) -> list[int]:
    """The lines of statements with two conditional expressions, or with a comprehension in a comprehension."""
    lines = []
    for statement in ast.walk(ast.parse(source)):
        if not isinstance(statement, ast.stmt):
            continue
        inside = list(expressions(statement))
        conditions = sum(isinstance(node, ast.IfExp) for node in inside)
        nested = any(
            isinstance(inner, COMPREHENSIONS)
            for node in inside
            if isinstance(node, COMPREHENSIONS)
            for inner in ast.walk(node)
            if inner is not node
        )
        if conditions > 1 or nested:
            lines.append(statement.lineno)
    return lines


@pytest.mark.slow
def test_no_statement_holds_two_conditions_or_a_comprehension_in_a_comprehension():
    files = sorted(ROOT.rglob("*.py"))
    assert files
    found = {str(path.relative_to(ROOT)): too_dense(path.read_text()) for path in files}
    assert {path: lines for path, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    "source",
    [
        "x = (1 if a else 2) + (3 if b else 4)",
        "x = [[y for y in z] for z in w]",
        "if any(sum(y for y in z) for z in w):\n    pass",
    ],
)
def test_what_is_too_dense_is_seen(source):
    assert too_dense(source) == [1]
