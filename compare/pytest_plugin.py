"""The pytest plugin: a fixture `backproof`, whose checks fail the test and show their reports if two sides disagree.

    def test_gradient(backproof):
        backproof.check_gradients(by_hand, loss, parameters, x, y)

    @pytest.mark.backproof(dtypes=["float32", "bfloat16"], shapes=[(8, 16), (1, 1)])
    def test_kernel(backproof):
        x = np.ones(backproof.shape, backproof.dtype)

The report is a section of pytest's output for the failed test. Its verdict and causes are JUnit properties of the test.
With `--backproof-report DIR`, a page is written for every test that makes a check. The judge is imported when a test
makes its first check.
"""

import itertools
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

CHECKS = (
    "check_gradients",
    "check_vjp",
    "check_jvp",
    "check_hvp",
    "check_jacobian",
    "check_hessian",
    "check_custom_rules",
    "check_trajectory",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds the option --backproof-report."""
    parser.getgroup("backproof").addoption(
        "--backproof-report",
        metavar="DIR",
        type=Path,
        help="Write a page for every test that checked a derivative into this folder.",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Registers the marker."""
    config.addinivalue_line(
        "markers",
        "backproof(dtypes=(), shapes=()): run the test once for each dtype and shape, which it finds as "
        "backproof.dtype and backproof.shape.",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Runs a marked test once for each pair of a dtype and a shape of its marker."""
    marker = metafunc.definition.get_closest_marker("backproof")
    if marker is None or "backproof" not in metafunc.fixturenames:
        return
    unknown = marker.kwargs.keys() - {"dtypes", "shapes"}
    if marker.args or unknown:
        given = ", ".join(map(repr, marker.args)) or ", ".join(sorted(unknown))
        raise pytest.UsageError(f"pytest.mark.backproof takes dtypes=[...] and shapes=[...], got {given}.")
    dtypes, shapes = (tuple(marker.kwargs.get(name, ())) or (None,) for name in ("dtypes", "shapes"))
    pairs = list(itertools.product(dtypes, shapes))
    metafunc.parametrize("backproof", pairs, ids=[_named(*pair) for pair in pairs], indirect=True)


def _named(dtype: Any, shape: Any) -> str:
    parts = [str(dtype)] if dtype is not None else []
    return "-".join(parts + (["x".join(map(str, shape)) or "scalar"] if shape is not None else [])) or "default"


class Fixture:
    """The checks of `compare`, each of which fails the test unless its verdict is AGREE.

    Attributes:
        dtype: the dtype of this run of the test, from the marker, or None.
        shape: the shape of this run of the test, from the marker, or None.
        reports: the reports of the checks that the test has made so far.
    """

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self.dtype, self.shape = getattr(request, "param", (None, None))
        if self.dtype == "bfloat16":
            import ml_dtypes

            self.dtype = ml_dtypes.bfloat16
        self.reports: list[Any] = []
        self._item = request.node

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name not in CHECKS:
            raise AttributeError(f"the backproof fixture has no {name!r}; it has {', '.join(CHECKS)}.")
        import compare

        check = getattr(compare, name)

        def checked(*args: Any, **options: Any) -> Any:
            __tracebackhide__ = True
            report = check(*args, **options)
            self._keep(report)
            if report.verdict is not compare.Verdict.AGREE:
                pytest.fail(report.sentence, pytrace=False)
            return report

        return checked

    def _keep(self, report: Any) -> None:
        self.reports.append(report)
        self._item.add_report_section("call", "backproof", str(report))
        properties = self._item.user_properties  # pytest writes them to JUnit's XML
        properties.append(("backproof", report.verdict.value))
        for cause in getattr(report, "diagnoses", []):
            properties.append(("backproof-cause", f"{cause.path}: {cause.kind}" if cause.path else cause.kind))


@pytest.fixture
def backproof(request: pytest.FixtureRequest) -> Iterator[Fixture]:
    """The checks of `compare`, which fail the test unless both sides agree."""
    fixture = Fixture(request)
    yield fixture
    folder = request.config.getoption("--backproof-report")
    if folder is not None and fixture.reports:
        from compare.files import write_text
        from compare.html.checked import checked_page

        folder.mkdir(parents=True, exist_ok=True)
        name = re.sub(r"[^A-Za-z0-9_.-]+", "_", request.node.nodeid)
        for number, report in enumerate(fixture.reports):
            suffix = f"-{number + 1}" if len(fixture.reports) > 1 else ""
            write_text(folder / f"{name}{suffix}.html", checked_page(report, request.node.nodeid))
