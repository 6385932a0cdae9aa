"""What another run left is refused, and what differs is named."""

from pathlib import Path

import pytest

from t4g_tracker.errors import CacheError
from t4g_tracker.identity import differences, refuse

NOW = {"seed": 0, "trainer": {"batch": 4, "sizes": (64, 96)}}
THERE = Path("out/batch.json")


def test_the_same_run_is_not_refused():
    refuse(THERE, {"trainer": {"sizes": [64, 96], "batch": 4}, "seed": 0}, NOW, "delete it")


@pytest.mark.parametrize(
    ("cached", "named"),
    [
        ({**NOW, "seed": 1}, ["seed=1 and not 0"]),
        ({**NOW, "trainer": {"batch": 2, "sizes": (64, 96)}}, ["trainer.batch=2 and not 4"]),
        ({"seed": 0}, ["no trainer.batch (now 4)", "no trainer.sizes (now (64, 96))"]),
        ({**NOW, "polish": True}, ["polish=True (now none)"]),
        ({**NOW, "seed": None}, ["seed=None and not 0"]),
        ({**NOW, "seed": {"global": 0}}, ["seed={'global': 0} and not 0"]),
        ({**NOW, "trainer": None}, ["trainer=None and not {'batch': 4, 'sizes': (64, 96)}"]),
    ],
)
def test_each_difference_is_named(cached, named):
    assert differences(cached, NOW) == named


def test_a_refusal_is_one_line_that_names_file_differences_and_remedy():
    with pytest.raises(CacheError) as caught:
        refuse(THERE, {"seed": 1, "trainer": {"batch": 2, "sizes": [64, 96]}}, NOW, "delete it")
    assert str(caught.value) == (
        "out/batch.json: was made with seed=1 and not 0, trainer.batch=2 and not 4; delete it"
    )


def test_of_many_differences_the_first_are_named():
    with pytest.raises(CacheError, match=r"a=1 and not 2, b=.*, c=.*, d=1 and not 2, 3 more; delete it"):
        refuse(THERE, dict.fromkeys("abcdefg", 1), dict.fromkeys("abcdefg", 2), "delete it")


@pytest.mark.parametrize("record", [None, [], "text"])
def test_a_record_that_is_none_is_damaged(record):
    with pytest.raises(CacheError, match="is damaged; delete it"):
        refuse(THERE, record, NOW, "delete it")
