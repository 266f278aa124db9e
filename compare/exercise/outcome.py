"""The outcome of an answer: the judge's report, the points, and the page of `manual` beside the learner's own lines."""

import ast
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html import escape
from types import CodeType
from typing import TYPE_CHECKING, Any

from compare.exercise import EXERCISES
from compare.exercise.mistakes import recognized
from compare.exercise.reading import Answer, failed, functions_of
from compare.exercise.sheet import function_name

if TYPE_CHECKING:
    from compare.exercise.judging import Report

BETWEEN = " │ "
COMMON_MISTAKE = "common-mistake"  # the kind of a cause that is in the exercise's table of mistakes
PAGE_WIDTH = 110  # columns of text and of a notebook's output
SMALL = 20  # A function of more lines is not shown below the page that calls it.


@dataclass(frozen=True, repr=False)
class Outcome:
    """The judge's report on an answer to an exercise. A notebook displays it.

    Attributes:
        name: The exercise.
        report: The judge's report.
        answer: The learner's answer.
        mistake: A sentence on the common mistake that the answer contains; empty if it contains none that is known.
    """

    name: str
    report: "Report"
    answer: Answer
    mistake: str = ""

    @property
    def verdict(self) -> str:
        """The judge's verdict."""
        return self.report.verdict.value

    @property
    def right(self) -> bool:
        """Whether the judge agrees."""
        return self.verdict == "agree"

    @property
    def score(self) -> int:
        """One point for each right gradient. Full points are given only if the judge agrees."""
        most = EXERCISES[self.name].points
        if self.right:
            return most
        return min(sum(self.marks.values()), most - 1)

    @property
    def marks(self) -> dict[str, bool]:
        """For each value that the learner's function returns, by name, whether it is right."""
        return marks(self.name, self.report)

    def __str__(self) -> str:
        marked = "   ".join(f"{name} {'right' if good else 'wrong'}" for name, good in self.marks.items())
        mistake = textwrap.wrap(self.mistake, PAGE_WIDTH)
        return "\n".join([*map(_in_words_of_the_exercise, self.report.lines()), *mistake, "", marked])

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        """The report and, once the answer is right, the page of `manual`."""
        page = f"<pre>{escape(page_beside(self.name, self.answer, PAGE_WIDTH))}</pre>" if self.right else ""
        mistake = f"<p>{escape(self.mistake)}</p>" if self.mistake else ""
        return _in_words_of_the_exercise(self.report._repr_html_()) + mistake + page

    def to_dict(self) -> dict[str, Any]:
        """The outcome as JSON types, as a teacher collects it."""
        sentence = _in_words_of_the_exercise(self.report.sentence)
        causes = [*(cause.kind for cause in self.report.diagnoses), *([COMMON_MISTAKE] if self.mistake else [])]
        return {
            "exercise": self.name,
            "verdict": self.verdict,
            "score": self.score,
            "max_score": EXERCISES[self.name].points,
            "sentence": f"{sentence} {self.mistake}".rstrip(),
            "place": self.report.first_wrong,
            "causes": list(dict.fromkeys(causes)),
        }


def marks(name: str, report: "Report") -> dict[str, bool]:
    """For each value that the function of an exercise returns, by name, whether it is right according to a report."""
    exercise = EXERCISES[name]
    rows = {"p": "p"} | {kept: f"state.{kept}.p" for kept in exercise.inputs} if exercise.door == "step" else {}
    wrong = {row.path for row in report.rows if row.verdict.value != "agree"}
    if exercise.door == "backward":
        rows = {returned: returned.removeprefix("d") for returned in exercise.returns}
    return {returned: rows.get(returned, returned) not in wrong for returned in exercise.returns}


def _in_words_of_the_exercise(text: str) -> str:
    """The judge's text with `dy` for the output gradient, as the exercises call it."""
    return re.sub(r"\b(?:(?:the|an) )?(?:output gradient|cotangent)\b", "dy", text)


def judged(name: str, answer: Answer) -> Outcome:
    """The outcome of an answer.

    Args:
        name: The exercise.
        answer: The learner's answer.

    Raises:
        BadInput: A ValueError, if the answer cannot be judged: a blank is left, its code raises an exception, or it
            returns something that is no gradient.
    """
    functions = functions_of(name, answer)
    from compare.exercise.judging import report_on  # here, because it imports JAX

    try:
        report = report_on(name, functions)
        wrong = [returned for returned, right in marks(name, report).items() if not right]
        mistake = recognized(name, functions, wrong)
    except (Exception, SystemExit) as error:
        said = failed(error, answer)
        if said is None:
            raise
        raise said from None
    return Outcome(name, report, answer, mistake.sentence if mistake else "")


def page_beside(name: str, answer: Answer | None, width: int) -> str:
    """The solution, which is a function of `manual` with its derivation.

    The learner's lines stand beside it if both fit into the width, and else above it. Below are the small functions
    that it calls and its cache, so that it can be read without the rest of its module.

    Args:
        name: The exercise.
        answer: The learner's answer; None to show the solution alone.
        width: The number of columns.
    """
    page = EXERCISES[name].page
    where = f"{page.__module__.replace('.', '/')}.py, {page.__name__}"
    derivation = textwrap.indent(inspect.getdoc(page) or "", "    ")
    theirs = _lines(inspect.getsource(page))
    ours = _own_lines(name, answer)
    parts = [f"The page: {where}", derivation]
    below = [f"What it uses:\n\n{used}"] if (used := "\n\n".join(_used_by(page))) else []
    if ours is None:
        return "\n\n".join([*parts, "\n".join(f"    {line}".rstrip() for line in theirs), *below])
    left = max(map(len, ["yours", *ours]))
    if left + len(BETWEEN) + max(map(len, theirs)) <= width:
        count = max(len(ours), len(theirs))
        pairs = zip(_padded(["yours", *ours], count + 1), _padded([where, *theirs], count + 1), strict=True)
        return "\n\n".join([*parts, "\n".join(f"{a:{left}}{BETWEEN}{b}".rstrip() for a, b in pairs), *below])
    blocks = ["Yours:", "\n".join(ours), "The page's:", "\n".join(theirs)]
    return "\n\n".join([*parts, *blocks, *below])


def _used_by(page: Callable[..., Any]) -> Iterator[str]:
    """The sources of the page's cache and of the small functions of `manual` that the page calls."""
    page = inspect.unwrap(page)  # in tests, a wrapper checks its shapes
    caches = [each.annotation for each in inspect.signature(page).parameters.values() if each.name == "cache"]
    called = [page.__globals__.get(name) for name in _names_in(page.__code__)]
    for used in dict.fromkeys(each for each in (*caches, *called) if inspect.isfunction(each) or inspect.isclass(each)):
        if not used.__module__.startswith("manual.") or (source := inspect.getsource(used)).count("\n") > SMALL:
            continue
        described = ast.get_docstring(ast.parse(source).body[0]) or ""  # type: ignore[arg-type]
        said = textwrap.wrap(described.partition("\n\n")[0], PAGE_WIDTH - 6)
        yield textwrap.indent("\n".join([*(f"# {line}" for line in said), *_lines(source)]), "    ")


def _names_in(code: CodeType) -> list[str]:
    """The names of globals and attributes that a function and its inner functions use."""
    inner = [name for each in code.co_consts if isinstance(each, CodeType) for name in _names_in(each)]
    return [*code.co_names, *inner]


def _padded(lines: list[str], count: int) -> list[str]:
    return lines + [""] * (count - len(lines))


def _own_lines(name: str, answer: Answer | None) -> list[str] | None:
    source = answer.source_of(function_name(name)) if answer else None
    return _lines(source) if source else None


def _lines(source: str) -> list[str]:
    """The source of a function or class without its docstring and, for a function, without annotations."""
    source = textwrap.dedent(source)
    function = ast.parse(source).body[0]
    if isinstance(function, ast.ClassDef):
        body = function.body[1:] if ast.get_docstring(function) is not None else function.body
        lines = source.splitlines()
        return [lines[function.lineno - 1], *lines[body[0].lineno - 1 :]]
    if not isinstance(function, ast.FunctionDef):
        return source.splitlines()
    first = 1 if ast.get_docstring(function) is not None and len(function.body) > 1 else 0
    arguments = ", ".join(_argument(function.args))
    lines = source.splitlines()
    start = function.body[first - 1].end_lineno if first else function.body[0].lineno - 1
    return [f"def {function.name}({arguments}):", *lines[start:]]


def _argument(arguments: ast.arguments) -> list[str]:
    names = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args)]
    star = [f"*{arguments.vararg.arg}"] if arguments.vararg else ["*"] if arguments.kwonlyargs else []
    rest = [f"**{arguments.kwarg.arg}"] if arguments.kwarg else []
    return [*names, *star, *(argument.arg for argument in arguments.kwonlyargs), *rest]
