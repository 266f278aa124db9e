"""The page on a run: right for every kind of run, also for those that end badly, and the command leads to it again."""

import shlex
from dataclasses import replace

import numpy as np
import pytest

import compare.verify.model
import compare.verify.shallow
from compare.html.report import report_page
from compare.judge.reports.gradient_report import GradientReport
from compare.judge.reports.trajectory_report import Curve
from compare.judge.reports.verdict import Row, Verdict
from compare.verify.shallow import Settings, verify
from tests.command import assert_no_traceback, assert_refused, invoke
from tests.compare.html.markup import HOSTILE, Outline


@pytest.fixture(autouse=True, scope="module")
def brief_rounds():
    """How fast the sides are is not the question here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("compare.verify.timing.ROUND_SECONDS", 0.001)
        yield


@pytest.fixture(scope="module")
def result():
    return verify(Settings(dataset="moons", iterations=3))


def said(page):
    """What is on the page, without its style and its script."""
    outline = Outline(page)
    hidden = outline.text.get("style", "") + outline.text.get("script", "")
    return outline, " ".join("".join(outline.data).replace(hidden, " ").split())


def test_a_run_is_told_from_its_verdict_to_the_command_that_repeats_it(result):
    outline, text = said(report_page(result, "backproof verify --dataset moons"))
    order = ["✓ AGREE", "By hand and by JAX", "Gradients at the start", "Training", "Loss", "Decision boundary"]
    order += ["Time per step", "Environment", "How to reproduce it", "backproof verify --dataset moons"]
    places = [text.index(part) for part in order]
    assert places == sorted(places)
    for part in [*result.environment.values(), result.problem, result.network, *map(str, result.settings.values())]:
        assert part in text
    for row in result.gradients.cells() + result.trajectory.cells():
        assert "".join(row[:-1]) in "".join(outline.data)
    assert [name for name, _ in outline.elements].count("svg") == 3
    assert outline.policy()["script-src"] == "'none'"
    ids = [a["id"] for _, a in outline.elements if "id" in a]
    assert len(ids) == len(set(ids))


def test_the_same_run_gives_the_same_page(result):
    assert report_page(result, "x") == report_page(result, "x")


def test_a_disagreement_stands_first(result):
    row = Row(
        "W1", Verdict.DISAGREE, (8, 2), "float64", 1.0, 0.5, 1e-16, (0, 0), 1.5, 1.0, message="1.5, where 1 is expected"
    )
    gradients = GradientReport(Verdict.DISAGREE, [row], "W1", notes=["a note"])
    outline, text = said(report_page(replace(result, gradients=gradients), "x"))
    assert outline.text["h1"] == "The gradient of W1: 1.5, where 1 is expected."
    assert outline.text["title"].startswith("DISAGREE: shallow on moons")
    assert text.index("✗ DISAGREE") < text.index("Gradients at the start")
    assert "Note: a note" in text


@pytest.mark.sweep
@pytest.mark.parametrize(
    ("shares", "losses"),
    [
        ([], [0.7]),
        ([0.0], [np.nan, np.nan]),
        ([0.0, 0.0], [0.7, np.inf, 1e-9]),
        ([np.inf], [0.0, 0.0]),
        ([0.01, 0.5, 300.0], [-3.0, 1e9]),
        ([np.nan, 1e-9], [1e-9] * 5),
    ],
)
def test_runs_that_end_badly_can_be_drawn(result, shares, losses):
    share = Curve(steps=list(range(1, len(shares) + 1)), values=shares)
    trajectory = replace(result.trajectory, share=share)
    both = {side: np.array(losses) for side in result.losses}
    page = report_page(replace(result, trajectory=trajectory, losses=both, data=None), "x")
    outline, _ = said(page)
    assert [name for name, _ in outline.elements].count("svg") == 2
    assert "nan" not in "".join(a.get("d", "") + a.get("transform", "") for _, a in outline.elements)


def test_steps_that_were_judged_by_themselves_have_no_drift(result):
    outline, text = said(report_page(replace(result, trajectory=replace(result.trajectory, free=False)), "x"))
    assert "Each step was judged by itself" in text
    assert [name for name, _ in outline.elements].count("svg") == 2


def test_a_plane_is_drawn_only_where_there_is_one(result):
    assert result.data is not None
    wide = replace(result.data, train_x=np.ones((3, 4)))
    assert "Decision boundary" not in report_page(replace(result, data=wide), "x")
    assert "Decision boundary" not in report_page(replace(result, trained=None), "x")


def test_every_output_has_its_plane_and_a_file_may_have_one_class(tmp_path):
    x = np.random.default_rng(0).normal(size=(20, 2))
    np.savez(tmp_path / "two.npz", x=x, y=np.stack([x[:, 0] > 0, np.zeros(20)], axis=1))
    outline, text = said(report_page(verify(Settings(dataset=str(tmp_path / "two.npz"), iterations=2)), "x"))
    assert [name for name, _ in outline.elements].count("svg") == 4
    assert "of output 1" in text


def test_a_name_from_outside_is_text(result):
    sizes, settings = result.sizes | {"name": HOSTILE}, result.settings | {"dataset": HOSTILE}
    row = replace(result.gradients.rows[0], path=HOSTILE, dtype=HOSTILE)
    hostile = replace(
        result,
        sizes=sizes,
        settings=settings,
        problem=HOSTILE,
        network=HOSTILE,
        environment={HOSTILE: HOSTILE},
        gradients=replace(result.gradients, rows=[row], notes=[HOSTILE]),
    )
    outline, text = said(report_page(hostile, HOSTILE))
    assert not {"script", "img"} & {name for name, _ in outline.elements}
    assert not [key for _, a in outline.elements for key in a if key.startswith("on")]
    assert text.count("alert(1)") > 10


# ------------------------------------------------------------------------------------------ the command


@pytest.fixture
def done(monkeypatch, result):
    monkeypatch.setattr(compare.verify.shallow, "verify", lambda settings, *told, **options: result)


@pytest.mark.sweep
@pytest.mark.usefixtures("done")
@pytest.mark.parametrize(
    "chosen",
    [[], ["--dataset", "a b'.csv", "--seed", "3"], ["--learning-rate", "0.5", "--hidden", "7", "--dtype", "float32"]],
)
def test_the_page_names_the_command_but_not_its_files(tmp_path, chosen):
    files = ["--report", tmp_path / "a.html", "--json", tmp_path / "a.json", "--plot", tmp_path / "a.png"]
    result = invoke("verify", *files, *chosen)
    assert_no_traceback(result)
    assert result.exit_code == 0
    outline = Outline((tmp_path / "a.html").read_text(encoding="utf-8"))
    words = shlex.split(outline.text["code"])
    assert words[:2] == ["backproof", "verify"]
    pairs = list(zip(words[2::2], words[3::2], strict=True))
    assert sorted(pairs) == sorted(zip(chosen[::2], chosen[1::2], strict=True))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--op", "relu"], r"--op"),
        (["--devices", "2"], r"--report do not apply to several devices"),
    ],
)
def test_where_there_is_no_page_the_option_is_refused(tmp_path, arguments, message):
    assert_refused(invoke("verify", *arguments, "--report", tmp_path / "a.html"), message)
    assert list(tmp_path.iterdir()) == []


def test_a_network_of_the_catalog_has_a_page_too(monkeypatch, result, tmp_path):
    about = {"model": "mlp", "sizes": {"name": "digits: 8 by 8", "parameters": 9}, "data": None, "trained": None}
    found = replace(result, settings={"optimizer": "adam"}, **about)
    monkeypatch.setattr(compare.verify.model, "verify_model", lambda *given, **options: found)
    chosen = ("--model", "mlp", "--iterations", 2, "--hidden", 4)
    shown = invoke("verify", *chosen, "--report", tmp_path / "a.html")
    assert shown.exit_code == 0, shown.stderr
    outline, text = said((tmp_path / "a.html").read_text(encoding="utf-8"))
    assert outline.text["title"].startswith("AGREE: mlp on digits ·")
    assert "Decision boundary" not in text
    assert outline.text["code"] == "backproof verify --model mlp --hidden 4 --iterations 2"
