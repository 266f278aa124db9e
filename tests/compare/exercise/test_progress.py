"""The learner's record."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compare.errors import BadInput
from compare.exercise import EXERCISES
from compare.exercise.progress import Progress, Record, progress_in

RECORDS = st.builds(Record, st.integers(0, 9), st.booleans(), st.integers(0, 3), st.booleans())
SHARED = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@SHARED
@given(st.dictionaries(st.sampled_from(list(EXERCISES)), RECORDS))
def test_it_is_read_as_it_was_written(tmp_path, records):
    Progress(tmp_path / "progress.json", records).save()
    assert progress_in(tmp_path).records == records


def test_there_is_none_at_first(tmp_path):
    assert progress_in(tmp_path / "nowhere").records == {}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from(["bias", "exercises"]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["exercises", "bias", "attempts", "solved", "new"]), inner, max_size=2)
    ),
    max_leaves=6,
)


@SHARED
@given(st.binary(max_size=20) | JSON.map(lambda value: json.dumps(value).encode()))
def test_whatever_stands_there_is_read_or_refused_and_stays(tmp_path, content):
    file = tmp_path / "progress.json"
    file.write_bytes(content)
    said = "Move it away"
    try:
        progress_in(tmp_path)
    except BadInput as refused:
        said = str(refused)
    assert "Move it away" in said
    assert "\n" not in said
    assert file.read_bytes() == content


@pytest.mark.parametrize("attempts", [-1, 1.5, "many", True, None])
def test_a_count_that_is_none_is_refused(tmp_path, attempts):
    (tmp_path / "progress.json").write_text(json.dumps({"exercises": {"bias": {"attempts": attempts}}}))
    with pytest.raises(BadInput, match="is damaged"):
        progress_in(tmp_path)


def test_an_exercise_that_is_no_more_is_left_out(tmp_path):
    (tmp_path / "progress.json").write_text(json.dumps({"exercises": {"gone": {}, "bias": {"solved": True}}}))
    assert progress_in(tmp_path).records == {"bias": Record(solved=True)}


def test_a_record_in_words():
    words = [Record(), Record(attempts=1), Record(attempts=2), Record(attempts=2, solved=True)]
    assert [record.in_words for record in words] == ["-", "tried 1 time", "tried 2 times", "solved"]
