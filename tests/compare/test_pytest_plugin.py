"""The pytest plugin, as somebody's tests have it."""

import subprocess
import sys
from xml.etree import ElementTree

import pytest

PLUGIN = ("-p", "no:backproof", "-p", "compare.pytest_plugin", "-p", "no:cacheprovider")
MINE = """
import numpy as np, jax.numpy as jnp, pytest

def by_hand(w, factor=1.0):
    return np.sum(w**2), factor * 2 * w

def loss(w):
    return jnp.sum(w**2)

def test_right(backproof):
    report = backproof.check_gradients(by_hand, loss, np.ones(3))
    assert report.verdict.value == "agree"
    assert backproof.reports == [report]

def test_wrong(backproof):
    backproof.check_gradients(lambda w: by_hand(w, 3.0), loss, np.ones(3))
    raise AssertionError("it went on")

def test_undecided(backproof):
    backproof.check_gradients(lambda w: (np.inf, 2 * w), lambda w: loss(w) + jnp.inf, np.ones(3))
"""


@pytest.fixture
def run(pytester, monkeypatch):
    """In this process, where all is loaded already, and without plugins of others, which would be loaded anew."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")

    def run(text, *options):
        pytester.makepyfile(text)
        return pytester.runpytest_inprocess(*PLUGIN, *options)

    return run


def test_a_check_that_does_not_agree_fails_its_test_and_shows_the_report(run):
    result = run(MINE)
    result.assert_outcomes(passed=1, failed=2)
    result.stdout.fnmatch_lines(["DISAGREE: the gradient of*3 times*", "*INCONCLUSIVE*"])
    result.stdout.fnmatch_lines(["*Captured backproof call*", "*gradient*shape*dtype*"])
    result.stdout.no_fnmatch_line("*it went on*")
    result.stdout.no_fnmatch_line("*pytest_plugin.py*")


def test_junits_xml_has_verdicts_and_causes(run, pytester):
    run(MINE, "--junitxml=r.xml")
    cases = {case.get("name"): case for case in ElementTree.parse(pytester.path / "r.xml").iter("testcase")}
    found = {
        name: {(one.get("name"), one.get("value")) for one in case.iter("property")} for name, case in cases.items()
    }
    assert found["test_right"] == {("backproof", "agree")}
    assert ("backproof", "disagree") in found["test_wrong"]
    assert any(name == "backproof-cause" and "factor" in (value or "") for name, value in found["test_wrong"])
    assert ("backproof", "inconclusive") in found["test_undecided"]


def test_a_page_for_every_test_that_checked(run, pytester):
    run(MINE + "\ndef test_nothing(backproof): pass\n", "--backproof-report", "pages/new")
    pages = sorted(path.name for path in (pytester.path / "pages" / "new").iterdir())
    assert len(pages) == 3
    assert all(any(name in page for page in pages) for name in ("test_right", "test_wrong", "test_undecided"))
    wrong = next(page for page in pages if "test_wrong" in page)
    assert "3 times" in (pytester.path / "pages" / "new" / wrong).read_text()


def test_several_checks_in_a_test_have_a_page_each(run, pytester):
    text = MINE + "\ndef test_two(backproof):\n" + "    backproof.check_gradients(by_hand, loss, np.ones(2))\n" * 2
    run(text, "--backproof-report", "pages", "-k", "two")
    assert len(list((pytester.path / "pages").iterdir())) == 2


SWEEP = """
import numpy as np, jax.numpy as jnp, pytest

@pytest.mark.backproof(dtypes=["float32", "float64", "bfloat16"], shapes=[(3,), (2, 2), ()])
def test_sweep(backproof):
    x = np.ones(backproof.shape, backproof.dtype)
    assert x.dtype == backproof.dtype
    backproof.check_gradients(lambda x: (np.sum(x**2), 2 * x), lambda x: jnp.sum(x**2), x)

@pytest.mark.backproof(dtypes=["float32"])
@pytest.mark.parametrize("k", [1, 2])
def test_with_another_parameter(backproof, k):
    assert (backproof.dtype, backproof.shape) == ("float32", None)

def test_without_a_marker(backproof):
    assert (backproof.dtype, backproof.shape) == (None, None)

@pytest.mark.backproof(dtypes=["float32"])
def test_without_the_fixture():
    pass
"""


def test_the_marker_sweeps_over_dtypes_and_shapes(run):
    result = run(SWEEP, "-v", "--strict-markers")
    result.assert_outcomes(passed=13)
    for name in ("float32-3", "float64-2x2", "bfloat16-scalar"):
        result.stdout.fnmatch_lines([f"*test_sweep[[]{name}[]]*"])


@pytest.mark.parametrize(
    ("marker", "message"),
    [("dtype=['float32']", "takes dtypes=*got dtype"), ("'float32'", "takes dtypes=*got 'float32'")],
)
def test_a_marker_of_another_form_is_refused(run, marker, message):
    result = run(f"import pytest\n@pytest.mark.backproof({marker})\ndef test_x(backproof): pass\n")
    assert result.ret != 0
    result.stdout.fnmatch_lines([f"*{message}*"])


def test_a_check_that_is_not_there_is_named(run):
    result = run("def test_x(backproof): backproof.check_gradient\n")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*the backproof fixture has no 'check_gradient'; it has check_gradients*"])


OTHERS = """
import numpy as np, jax, jax.numpy as jnp
from scipy.optimize import rosen_hess, rosen_hess_prod

rosen = lambda x: jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)
x = np.linspace(0, 1, 4)
square = jax.custom_vjp(lambda x: x**2)
square.defvjp(lambda x: (x**2, x), lambda x, g: (FACTOR * 2 * x * g,))

def test_vjp(backproof):
    backproof.check_vjp(lambda x: (x**2, x), lambda dy, x: FACTOR * 2 * dy * x, lambda x: x**2, x)
def test_jvp(backproof):
    backproof.check_jvp(lambda p, t: (p[0] ** 2, FACTOR * 2 * p[0] * t[0]), lambda x: x**2, x)
def test_hvp(backproof):
    backproof.check_hvp(lambda x, v: FACTOR * rosen_hess_prod(x, v), rosen, x)
def test_jacobian(backproof):
    backproof.check_jacobian(lambda x: FACTOR * np.diag(np.cos(x)), jnp.sin, x)
def test_hessian(backproof):
    backproof.check_hessian(lambda x: FACTOR * rosen_hess(x), rosen, x)
def test_rules(backproof):
    backproof.check_custom_rules(square, x)
def test_trajectory(backproof):
    backproof.check_trajectory(lambda w, x: w - FACTOR * x, lambda w, x: w - x, x, [(x,)] * 2)
"""


@pytest.mark.sweep
@pytest.mark.parametrize("factor", [1, 2])
def test_every_check_of_the_fixture(run, factor, pytester):
    result = run(OTHERS.replace("FACTOR", str(factor)), "--backproof-report", "pages", "--junitxml=r.xml")
    result.assert_outcomes(**({"passed": 7} if factor == 1 else {"failed": 7}))
    assert len(list((pytester.path / "pages").iterdir())) == 7
    properties = [one.get("value") for one in ElementTree.parse(pytester.path / "r.xml").iter("property")]
    assert properties.count("agree" if factor == 1 else "disagree") == 7


def test_nothing_is_imported_before_a_check_is_asked_for(pytester, monkeypatch):
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # other plugins import NumPy
    pytester.makepyfile("""
        import sys

        def test_x(backproof):
            for name in ("jax", "numpy", "compare.judge", "compare.html", "torch"):
                assert name not in sys.modules, name
    """)  # fmt: skip
    result = pytester.runpytest_subprocess(*PLUGIN)
    result.assert_outcomes(passed=1)


def test_without_the_plugin_there_is_no_trace(pytester):
    pytester.makepyfile("def test_x(backproof): pass\ndef test_y(): pass\n")
    others = ("-p", "no:backproof", "-p", "no:hypothesispytest")  # Hypothesis would be loaded anew
    result = pytester.runpytest_inprocess(*others)
    result.assert_outcomes(errors=1, passed=1)
    result.stdout.fnmatch_lines(["*fixture 'backproof' not found*"])
    listed = pytester.runpytest_inprocess(*others, "--markers", "--help")
    listed.stdout.no_fnmatch_line("*backproof-report*")
    listed.stdout.no_fnmatch_line("*pytest.mark.backproof*")


def test_importing_the_plugin_imports_no_judge():
    script = "import compare.pytest_plugin, sys; print([m for m in sys.modules if m in ('jax', 'numpy', 'torch')])"
    assert subprocess.check_output([sys.executable, "-c", script], text=True).strip() == "[]"
