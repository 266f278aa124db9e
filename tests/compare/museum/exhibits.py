"""Exhibits that are run once for many tests, and what those of every module are held to."""

import functools
import re
from dataclasses import replace

import numpy as np
import pytest

from compare.judge.evaluation.side_effects import HARMLESS
from compare.judge.reports.gradient_report import SIDE_EFFECTS, GradientReport
from compare.judge.reports.verdict import Verdict
from compare.museum import EXHIBITS
from compare.museum.tour import visit

seen = functools.cache(visit)


def stand_in(name):
    """An exhibit's texts with what was found of another one: whatever prints it needs no run of its own."""
    exhibit = EXHIBITS[name]
    return replace(seen("bias-mean"), name=name, exhibit=exhibit, check_passes=True if exhibit.check else None)


def exhibit_tests(exhibits, found):
    """The tests of every exhibit of a module.

    `found` says what the judge says first of each: where, and which kind of cause. None: it is a side effect.
    """
    return type("TestExhibits", (ExhibitTests,), {"EXHIBITS": exhibits, "FOUND": found})


class ExhibitTests:
    EXHIBITS: dict
    FOUND: dict

    def pytest_generate_tests(self, metafunc):
        if "name" in metafunc.fixturenames:
            metafunc.parametrize("name", [name for name in self.FOUND if name in self.EXHIBITS])

    def test_every_exhibit_of_the_module_is_here(self):
        assert self.EXHIBITS.keys() <= self.FOUND.keys()

    @pytest.mark.sweep
    def test_the_bug_is_caught_located_and_explained(self, name):
        report = seen(name).report
        assert report.verdict is Verdict.DISAGREE
        first = report.diagnoses[0]
        assert (report.first_wrong, first.kind) == self.FOUND[name], str(report)
        assert first.path == report.first_wrong or first.kind in SIDE_EFFECTS - HARMLESS

    @pytest.mark.sweep
    def test_its_repair_agrees(self, name):
        assert seen(name).corrected.verdict is Verdict.AGREE, str(seen(name).corrected)

    @pytest.mark.sweep
    def test_its_repair_agrees_at_other_points_too(self, name):
        """Other data, sizes of parameters and random numbers; a step is followed over several batches anyway."""
        if isinstance(report := seen(name).corrected, GradientReport):
            report = EXHIBITS[name].judge(EXHIBITS[name].sound, probes=True)
        assert report.verdict is Verdict.AGREE, str(report)

    @pytest.mark.sweep
    def test_the_check_that_its_project_relied_on_passes_it_and_the_repair(self, name):
        """One that refuses right code is not what anybody relied on."""
        exhibit = EXHIBITS[name]
        assert seen(name).check_passes is (True if exhibit.check else None)
        assert exhibit.check is None or exhibit.check(exhibit.sound)

    @pytest.mark.sweep
    def test_it_trains_plausibly_and_the_same_again(self, name):
        """Losses come from seeds and embedded data; a version keeps nothing from one run to the next."""
        assert EXHIBITS[name].training_curves() == seen(name).curves
        with_bug, without = map(np.abs, seen(name).curves)  # one bug is the sign of the loss
        assert np.isfinite(with_bug).all()
        assert np.isfinite(without).all()
        assert len(with_bug) == len(without) >= 40
        assert without[-1] < without[0]
        assert with_bug[-1] < 0.9 * with_bug[0]

    def test_its_texts_are_there(self, name):
        exhibit = EXHIBITS[name]
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name)
        for text in (exhibit.title, exhibit.source, exhibit.wrong, exhibit.right, exhibit.unseen, exhibit.lesson):
            assert text == text.strip()
            assert text
        assert exhibit.wrong != exhibit.right
        assert bool(exhibit.check) == bool(exhibit.checked)
        assert exhibit.check or not exhibit.typical
