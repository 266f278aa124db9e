"""What is said of an answer, and the page of `manual` beside the learner's own lines."""

import ast
import inspect
import textwrap
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from compare.exercise import EXERCISES
from compare.exercise.reading import Answer, failed, functions_of
from compare.exercise.sheet import function_name

if TYPE_CHECKING:
    from compare.exercise.judging import Report

BETWEEN = " │ "
PAGE_WIDTH = 110  # columns of a notebook


@dataclass(frozen=True, repr=False)
class Outcome:
    """The judge's report on an answer to an exercise. In a notebook it shows itself."""

    name: str
    report: "Report"
    answer: Answer

    @property
    def verdict(self) -> str:
        return self.report.verdict.value

    @property
    def right(self) -> bool:
        return self.verdict == "agree"

    @property
    def score(self) -> int:
        """A point for each gradient that is right; all of them only if there is no fault at all."""
        most = EXERCISES[self.name].points
        if self.right:
            return most
        return min(sum(self.marks.values()), most - 1)

    @property
    def marks(self) -> dict[str, bool]:
        """Of what the learner's function returns, by name: whether it is right."""
        exercise = EXERCISES[self.name]
        rows = {"p": "p"} | {name: f"state.{name}.p" for name in exercise.inputs} if exercise.door == "step" else {}
        wrong = {row.path for row in self.report.rows if row.verdict.value != "agree"}
        if exercise.door == "backward":
            rows = {name: name.removeprefix("d") for name in exercise.returns}
        return {name: rows.get(name, name) not in wrong for name in exercise.returns}

    def __str__(self) -> str:
        marks = "   ".join(f"{name} {'right' if good else 'wrong'}" for name, good in self.marks.items())
        return "\n".join([*self.report.lines(), "", marks])

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        """The report, and the page once the answer is right."""
        page = f"<pre>{escape(page_beside(self.name, self.answer, PAGE_WIDTH))}</pre>" if self.right else ""
        return self.report._repr_html_() + page

    def to_dict(self) -> dict[str, Any]:
        return {
            "exercise": self.name,
            "verdict": self.verdict,
            "score": self.score,
            "max_score": EXERCISES[self.name].points,
            "sentence": self.report.sentence,
            "place": self.report.first_wrong,
            "causes": list(dict.fromkeys(cause.kind for cause in self.report.diagnoses)),
        }


def judged(name: str, answer: Answer) -> Outcome:
    """What the judge says of an answer.

    Raises:
        BadInput: a ValueError, if it cannot be judged: a blank, an exception of the learner's code, no gradients.
    """
    functions = functions_of(name, answer)
    from compare.exercise.judging import report_on  # which loads JAX

    try:
        report = report_on(name, functions)
    except (Exception, SystemExit) as error:
        said = failed(error, answer)
        if said is None:
            raise
        raise said from None
    return Outcome(name, report, answer)


def page_beside(name: str, answer: Answer | None, width: int) -> str:
    """The solution, which is a page of `manual`: its derivation, and its lines beside the learner's, if there are any.

    Side by side where both fit into the width, one below the other where not.
    """
    page = EXERCISES[name].page
    where = f"{page.__module__.replace('.', '/')}.py, {page.__name__}"
    derivation = textwrap.indent(inspect.getdoc(page) or "", "    ")
    theirs = _lines(inspect.getsource(page))
    ours = _own_lines(name, answer)
    parts = [f"The page: {where}", derivation]
    if ours is None:
        return "\n\n".join([*parts, "\n".join(f"    {line}".rstrip() for line in theirs)])
    left = max(map(len, ["yours", *ours]))
    if left + len(BETWEEN) + max(map(len, theirs)) <= width:
        count = max(len(ours), len(theirs))
        pairs = zip(_padded(["yours", *ours], count + 1), _padded([where, *theirs], count + 1), strict=True)
        return "\n\n".join([*parts, "\n".join(f"{a:{left}}{BETWEEN}{b}".rstrip() for a, b in pairs)])
    blocks = ["Yours:", "\n".join(ours), "The page's:", "\n".join(theirs)]
    return "\n\n".join([*parts, *blocks])


def _padded(lines: list[str], count: int) -> list[str]:
    return lines + [""] * (count - len(lines))


def _own_lines(name: str, answer: Answer | None) -> list[str] | None:
    source = answer.source_of(function_name(name)) if answer else None
    return _lines(source) if source else None


def _lines(source: str) -> list[str]:
    """A function's source without its docstring and annotations, comments and all."""
    source = textwrap.dedent(source)
    function = ast.parse(source).body[0]
    if not isinstance(function, ast.FunctionDef):
        return source.splitlines()
    first = 1 if ast.get_docstring(function) is not None and len(function.body) > 1 else 0
    arguments = ", ".join(_argument(function.args))
    lines = source.splitlines()
    start = function.body[first - 1].end_lineno if first else function.body[0].lineno - 1
    return [f"def {function.name}({arguments}):", *lines[start:]]


def _argument(arguments: ast.arguments) -> list[str]:
    names = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args)]
    return names + (["*"] if arguments.kwonlyargs else []) + [argument.arg for argument in arguments.kwonlyargs]
