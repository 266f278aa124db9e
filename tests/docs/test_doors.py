"""Every example of docs/doors.md, run as it stands there."""

import re
from pathlib import Path

import pytest

DOORS = Path(__file__).parents[2] / "docs" / "doors.md"
EXAMPLES = re.findall(
    r"## ([^\n]+)\n(?:(?!\n## ).)*?(<!-- (\w+) -->\n)?```python\n(.*?)```", DOORS.read_text(), re.DOTALL
)


def example(kind: str) -> dict[str, str]:
    return {title: code for title, _, found, code in EXAMPLES if found == kind}


@pytest.mark.sweep
@pytest.mark.parametrize("title", example(""))
def test_an_example_agrees(title, capsys):
    exec(compile(example("")[title], title, "exec"), {})
    assert capsys.readouterr().out.startswith("AGREE")


def test_the_example_in_pytorch_agrees(capsys):
    pytest.importorskip("torch")
    for title, code in example("torch").items():
        exec(compile(code, title, "exec"), {"__name__": "doors"})
        assert capsys.readouterr().out.startswith("AGREE"), title


def test_the_example_of_pytest_passes(pytester):
    ((_, code),) = example("pytest").items()
    pytester.makepyfile(code)
    pytester.runpytest("-p", "no:backproof", "-p", "compare.pytest_plugin").assert_outcomes(passed=1)


def test_no_example_is_longer_than_eight_lines():
    for title, _, _, code in EXAMPLES:
        lines = [line for line in code.splitlines() if line.strip()]
        assert len(lines) <= 8, title


def test_every_door_of_the_table_has_its_section():
    text = DOORS.read_text()
    places = re.findall(r"\]\(#([a-z0-9-]+)\)", text)
    headings = {
        re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in re.findall(r"^## (.+)$", text, re.M)
    }
    assert places
    assert set(places) == headings
