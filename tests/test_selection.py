"""What a run takes: the same rows everywhere, of every sweep at least one, and all when it is asked for them."""

from tests import selection

MADE = """
import pytest

@pytest.mark.sweep
@pytest.mark.parametrize("row", range(100))
def test_rows(row): pass

@pytest.mark.sweep
@pytest.mark.parametrize("row", ["alone"])
def test_one_row(row): pass

@pytest.mark.parametrize("row", range(10))
def test_every_row(row): pass

@pytest.mark.campaign
def test_long(): pass
"""


def collected(pytester):
    return pytester.getitems(MADE)


def test_a_share_of_a_sweep_is_taken_and_no_campaign(pytester):
    pytester.makeini("[pytest]\nmarkers =\n    sweep\n    campaign\n")
    items = collected(pytester)
    left = {item.name for item in selection.left_out(items)}
    rows = {name for name in left if name.startswith("test_rows")}
    assert 86 <= len(rows) <= 98
    assert "test_rows[0]" not in rows
    assert left - rows == {"test_long"}
    assert [item.name for item in selection.left_out(items)] == [item.name for item in selection.left_out(items)]
