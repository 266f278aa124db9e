"""The pages in a real browser: they load from disk and nothing else, work by mouse and keyboard, and say what is so."""

import json
import shlex
import shutil
from dataclasses import replace

import pytest

from compare.html.museum import museum_page
from compare.html.page import html, page, tag
from compare.museum import EXHIBITS
from tests.browser import Visitor, chromium, serious_faults
from tests.command import invoke
from tests.compare.html.markup import HOSTILE
from tests.compare.museum.exhibits import seen, stand_in

PHONE, DESKTOP = {"width": 390, "height": 844}, {"width": 1280, "height": 900}
NAMES = list(EXHIBITS)
RUN = ("bias-mean", "adam-multiplies", "never-cleared")  # what is found of the first stands for the others


@pytest.fixture
def visit(browser):
    """Visits a page, and at the end of the test holds it to having been quiet."""
    visitors = []

    def start(path, fragment="", **options):
        visitors.append(Visitor(browser, path, fragment, **{"viewport": DESKTOP} | options))
        return visitors[-1].page

    yield start
    for visitor in visitors:
        assert visitor.asked_for_nothing_and_did_not_complain()
        visitor.context.close()


@pytest.fixture(scope="module")
def museum(tmp_path_factory):
    path = tmp_path_factory.mktemp("museum") / "museum.html"
    path.write_text(museum_page([seen(name) if name in RUN else stand_in(name) for name in NAMES]), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run on a file whose name and header are meant to break out, with its page and its JSON."""
    folder = tmp_path_factory.mktemp("run")
    data = folder / "<img src=x onerror=alert(1)> & 'moons'.csv"
    rows = ["<script>alert(1)</script>,second,y"]
    rows += [f"{i % 7 - 3},{i % 5 - 2},{int((i % 7 - 3) * (i % 5 - 2) > 0)}" for i in range(60)]
    data.write_text("\n".join(rows), encoding="utf-8")
    files = {"page": folder / "run.html", "json": folder / "run.json"}
    chosen = ("--dataset", data, "--iterations", 20, "--seed", 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("compare.verify.timing.ROUND_SECONDS", 0.001)
        result = invoke("verify", *chosen, "--report", files["page"], "--json", files["json"])
    assert result.exit_code == 0, result.stderr
    return files | {"data": data}


# ------------------------------------------------------------------------------------- without a browser


@pytest.mark.parametrize(
    ("required", "outcome"), [("", pytest.skip.Exception), ("1", pytest.fail.Exception)], ids=["skips", "fails"]
)
def test_without_a_browser_it_is_said_how_to_get_one(monkeypatch, required, outcome):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.delenv("BACKPROOF_CHROMIUM", raising=False)
    monkeypatch.setenv("BACKPROOF_REQUIRE_BROWSER", required)
    with pytest.raises(outcome, match="apt-get install chromium"), chromium():
        pass


def test_a_browser_that_was_named_and_is_not_there_is_not_passed_over(monkeypatch, tmp_path):
    monkeypatch.setenv("BACKPROOF_CHROMIUM", str(tmp_path / "none"))
    with pytest.raises(AssertionError, match="there is no such file"), chromium():
        pass


# ------------------------------------------------------------------------------------- both pages alike


@pytest.mark.sweep
@pytest.mark.parametrize(("viewport", "scheme"), [(DESKTOP, "light"), (PHONE, "dark")], ids=["desktop", "phone"])
@pytest.mark.parametrize("name", ["run", pytest.param("museum", marks=pytest.mark.campaign)])
def test_nothing_keeps_anybody_out_and_nothing_overflows(visit, museum, run, name, viewport, scheme):
    path = museum if name == "museum" else run["page"]
    shown = visit(path, viewport=viewport, color_scheme=scheme)
    assert serious_faults(shown) == []
    assert shown.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
    paper = shown.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, paper[4:-1].split(","))) < 3 * 128) is (scheme == "dark")
    assert shown.locator("svg[role=img]:visible").count() >= 1
    assert path.stat().st_size < 5_000_000


def test_a_fault_that_keeps_somebody_out_would_be_seen(visit, tmp_path):
    path = tmp_path / "faulty.html"
    body = html(tag("h1", "x"), tag("select", tag("option", "1")), tag("p", "faint", style="color: #eee"))
    path.write_text(page("faulty", body), encoding="utf-8")
    faults = " ".join(serious_faults(visit(path)))
    assert "select-name" in faults
    assert "color-contrast" in faults


def test_a_request_or_a_script_that_does_not_belong_would_be_seen(browser, tmp_path):
    path = tmp_path / "faulty.html"
    inside = html(tag("img", src="http://127.0.0.1:9/x.png", alt=""), tag("button", "x", onclick="alert(1)"))
    path.write_text(page("faulty", inside), encoding="utf-8")
    visitor = Visitor(browser, path)
    visitor.page.click("button")
    assert len(visitor.complaints) == 2  # the policy stopped both, and says so
    assert all("Content Security Policy" in complaint for complaint in visitor.complaints)
    with pytest.raises(AssertionError):
        visitor.asked_for_nothing_and_did_not_complain()
    visitor.context.close()


# ------------------------------------------------------------------------------------------- the museum


def shown_exhibits(museum):
    """Those that are visible, once the page has answered the last event: that of a new address comes a task later."""
    museum.evaluate("() => new Promise(done => requestAnimationFrame(() => setTimeout(done, 50)))")
    return museum.eval_on_selector_all("article", "all => all.filter(a => a.checkVisibility()).map(a => a.id)")


def test_the_first_exhibit_is_shown_and_the_mouse_leads_on(visit, museum):
    shown = visit(museum)
    assert shown_exhibits(shown) == NAMES[:1]
    assert shown.locator("#previous").is_disabled()
    shown.select_option("#chooser", NAMES[5])
    assert shown_exhibits(shown) == [NAMES[5]]
    shown.click("#next")
    assert shown_exhibits(shown) == [NAMES[6]]
    shown.click("#previous")
    assert shown_exhibits(shown) == [NAMES[5]]
    assert shown.locator("#place").inner_text() == f"6 of {len(NAMES)}"
    assert shown.url.endswith(f"#{NAMES[5]}")
    shown.click(f"#all a[href='#{NAMES[-1]}']")
    assert shown_exhibits(shown) == [NAMES[-1]]
    assert shown.locator("#next").is_disabled()
    top = shown.locator(f"#{NAMES[-1]} h2").evaluate("heading => heading.getBoundingClientRect().top")
    assert 0 <= top < DESKTOP["height"] / 2


def test_the_keyboard_leads_everywhere_too(visit, museum):
    shown = visit(museum)
    shown.keyboard.press("Tab")
    assert shown.evaluate("document.activeElement.id") == "chooser"
    shown.keyboard.press("ArrowDown")
    assert shown_exhibits(shown) == [NAMES[1]]
    shown.keyboard.press("End")
    assert shown_exhibits(shown) == [NAMES[-1]]
    shown.keyboard.press("Tab")  # past it, `next` is disabled
    assert shown.evaluate("document.activeElement.id") == "previous"
    shown.keyboard.press("Enter")
    assert shown_exhibits(shown) == [NAMES[-2]]
    shown.keyboard.press("Tab")
    shown.keyboard.press("Space")
    assert shown_exhibits(shown) == [NAMES[-1]]
    assert shown.evaluate("document.activeElement.id") == "previous"  # `next` is disabled, and would lose the focus
    shown.keyboard.press("Space")
    assert shown_exhibits(shown) == [NAMES[-2]]


def test_an_exhibit_has_an_address_and_back_leads_back(visit, museum):
    shown = visit(museum, f"#{NAMES[7]}")
    assert shown_exhibits(shown) == [NAMES[7]]
    assert shown.eval_on_selector("#chooser", "c => c.value") == NAMES[7]
    shown.click(f"#all a[href='#{NAMES[2]}']")
    assert shown_exhibits(shown) == [NAMES[2]]
    shown.go_back()
    assert shown_exhibits(shown) == [NAMES[7]]


@pytest.mark.campaign
def test_an_address_that_names_none_leads_to_the_list(visit, museum):
    shown = visit(museum, "#no-such-exhibit")
    assert shown_exhibits(shown) == NAMES[:1]
    assert shown.locator("#unknown").is_visible()
    assert 0 <= shown.locator("#all h2").evaluate("h => h.getBoundingClientRect().top") < DESKTOP["height"]
    shown.click(f"#all a[href='#{NAMES[2]}']")
    assert shown_exhibits(shown) == [NAMES[2]]
    assert not shown.locator("#unknown").is_visible()
    for fragment in ("", "#all", f"#{NAMES[3]}"):
        assert not visit(museum, fragment).locator("#unknown").is_visible()


def listed(museum):
    return museum.eval_on_selector_all(
        "#all tbody tr", "all => all.filter(r => !r.hidden).map(r => r.cells[0].innerText)"
    )


def test_exhibits_are_found_by_words_and_by_op_cause_and_project(visit, museum):
    shown = visit(museum)
    titles = {name: EXHIBITS[name].title for name in NAMES}
    assert listed(shown) == list(titles.values())
    shown.fill("#search", "softmax")
    found = listed(shown)
    assert titles["softmax-copied"] in found
    assert titles["conv-stride"] not in found
    assert shown.locator("#found").inner_text() == f"{len(found)} of {len(NAMES)}"
    shown.fill("#search", "COPY  softmax")
    assert listed(shown) == [titles["softmax-copied"]]
    shown.fill("#search", "no such words")
    assert listed(shown) == []
    shown.fill("#search", "")
    shown.select_option("#by-op", "optimizer")
    assert listed(shown) == [titles[name] for name in NAMES if EXHIBITS[name].op == "optimizer"]
    shown.select_option("#by-project", "karpathy/convnetjs")
    assert listed(shown) == [titles["adam-multiplies"]]
    shown.click("#all a[href='#adam-multiplies']")
    assert shown_exhibits(shown) == ["adam-multiplies"]
    shown.select_option("#by-op", "")
    shown.select_option("#by-project", "")
    shown.select_option("#by-cause", seen("adam-multiplies").cause)
    assert titles["adam-multiplies"] in listed(shown)
    assert titles["bias-mean"] not in listed(shown)


def test_on_paper_everything_is_dark_on_white(visit, museum):
    shown = visit(museum, color_scheme="dark")
    shown.emulate_media(media="print", color_scheme="dark")
    assert shown_exhibits(shown) == NAMES
    assert not shown.locator("#chooser").is_visible()
    ink = shown.evaluate("getComputedStyle(document.body).color")
    assert sum(map(int, ink[4:-1].split(","))) < 3 * 64
    ground = shown.eval_on_selector("pre", "p => getComputedStyle(p).backgroundColor")
    assert sum(map(int, ground[4:-1].split(","))) > 3 * 200


def test_without_a_script_everything_is_shown(visit, museum):
    shown = visit(museum, java_script_enabled=False)
    assert shown.locator("article:visible").count() == len(NAMES)
    assert not shown.locator("#chooser").is_visible()


@pytest.mark.parametrize("name", RUN)
def test_what_the_page_says_is_what_the_json_says(visit, museum, name):
    value = seen(name).to_dict()
    shown = visit(museum, f"#{name}").locator(f"#{name}")
    assert shown.locator("h2").inner_text() == value["title"]
    assert shown.locator("del").inner_text().endswith(value["wrong"])
    assert shown.locator("ins").inner_text().endswith(value["right"])
    assert value["report"]["sentence"].split(": ", 1)[1].lower() in shown.inner_text().lower()
    with_bug, without = value["training"]["with_bug"], value["training"]["without"]
    for curve in (with_bug, without):
        assert f"from {curve[0]:.3g} to {curve[-1]:.3g}" in shown.locator("figcaption").inner_text()
    assert ("It accepts the bug." in shown.inner_text()) is (
        value["original_check_passes"] or value["usual_check_passes"]
    )
    rows = cells(shown.locator("table"))
    verdicts = {row["path"]: row["verdict"] for row in value["report"]["rows"]}
    shown_rows = {row[0]: row[-1].split()[-1] for row in rows}
    assert shown_rows == {path: verdict for path, verdict in verdicts.items() if not path.startswith("state.")}


# ---------------------------------------------------------------------------------------------- the run


def cells(table):
    return table.evaluate("t => [...t.tBodies[0].rows].map(r => [...r.cells].map(c => c.innerText))")


def test_the_verdict_comes_first(visit, run):
    value = json.loads(run["json"].read_text(encoding="utf-8"))
    shown = visit(run["page"])
    assert shown.locator("header .badge").inner_text() == f"✓ {value['verdict'].upper()}"
    assert shown.title().startswith("AGREE: shallow on ")
    assert "20 steps" in shown.locator("h1").inner_text()


def test_the_tables_say_what_the_json_says(visit, run):
    value = json.loads(run["json"].read_text(encoding="utf-8"))
    shown = visit(run["page"])
    gradients = [
        [row["path"], f"{row['norm']:.3g}", f"{row['error']:.1e}", f"{row['tolerance']:.1e}", f"✓ {row['verdict']}"]
        for row in value["gradients"]["rows"]
    ]
    assert [[row[0], *row[3:]] for row in cells(shown.locator("#gradients table"))] == gradients
    training = [
        [
            *(row["path"], f"{row['distance']:.3g}", f"{row['drift']:.1e}", f"{row['largest_drift']:.1e}"),
            *(f"{row['step_error']:.1e}", f"✓ {row['verdict']}"),
        ]
        for row in value["trajectory"]["rows"]
    ]
    assert [[row[0], *row[2:]] for row in cells(shown.locator("#training table"))] == training
    share = max(value["trajectory"]["share"]["values"])
    assert (
        f"Their distance is at most {share:.2g} times its tolerance."
        in shown.locator("#training figcaption").inner_text()
    )
    losses = {side: curve["values"] for side, curve in value["losses"].items()}
    ends = ", ".join(f"{side} {values[-1]:.9g}" for side, values in losses.items())
    assert f"from {losses['manual'][0]:.6g} to {ends}" in shown.locator("#loss figcaption").inner_text()
    assert f"Held-out accuracy: manual {value['accuracy']['manual']:.4f}" in shown.locator("#loss").inner_text()
    compilation = f"after {value['compilation_seconds']:.2f} s of compilation"
    assert compilation in shown.locator("#time").inner_text()
    for name, known in value["environment"].items():
        assert f"{name}\n{known}" in shown.locator("#environment").inner_text()


def test_a_table_that_is_too_wide_scrolls_by_keyboard(visit, run):
    shown = visit(run["page"], viewport=PHONE)
    box = shown.locator("#gradients .scroll")
    box.focus()
    assert box.evaluate("b => b.scrollLeft") == 0
    shown.keyboard.press("ArrowRight")
    shown.wait_for_timeout(300)  # it scrolls smoothly
    assert box.evaluate("b => b.scrollLeft") > 0


def test_the_plane_is_drawn_and_the_name_of_the_file_is_text(visit, run):
    shown = visit(run["page"])
    assert shown.locator("#boundary svg").is_visible()
    assert run["data"].name in shown.locator("header").inner_text()
    assert run["data"].name in shown.title()
    assert shown.locator("img").count() == 0


def test_the_command_on_the_page_leads_to_the_run(visit, run):
    command = visit(run["page"]).locator("#again pre").inner_text()
    assert shlex.split(command) == [
        *("backproof", "verify", "--dataset", str(run["data"])),
        *("--iterations", "20", "--seed", "1"),
    ]


def test_markup_in_an_exhibit_is_text_in_the_browser_too(visit, tmp_path):
    honest = seen("bias-mean")
    texts = dict.fromkeys(("title", "source", "wrong", "right", "unseen", "lesson", "checked"), HOSTILE)
    hostile = replace(honest, exhibit=replace(honest.exhibit, **texts))
    (tmp_path / "hostile.html").write_text(museum_page([hostile, honest]), encoding="utf-8")
    shown = visit(tmp_path / "hostile.html")
    for place in ("article h2", "article .lesson", "option"):
        assert shown.locator(place).first.text_content() == HOSTILE
    assert shown.locator("img").count() == 0
    assert shown.locator("script").count() == 1
