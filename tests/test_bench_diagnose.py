"""``t4g bench --diagnose``: tables and pictures, whenever and however the clips are measured."""

import json

import pytest
from tiny_datasets import davis_tree

from t4g_tracker.__main__ import main as t4g
from t4g_tracker.batch.outcomes import ClipOutcome
from t4g_tracker.inputs.images import read_picture


@pytest.fixture(scope="module")
def data(slide, ask, tmp_path_factory):
    return davis_tree(tmp_path_factory.mktemp("data") / "davis", slide, ask)


@pytest.fixture(scope="module")
def run_bench(data, tiny_settings):
    """Runs ``t4g bench`` on tiny settings; returns its code."""

    def run(out, *arguments):
        where = ["--data", str(data), "--out", str(out), "--cache", str(out.parent / "cache")]
        plain = ["--device", "cpu", "--quiet", "--no-overlays"]
        return t4g(["bench", *where, *plain, *arguments, "--set", *tiny_settings])

    return run


@pytest.fixture(scope="module")
def diagnosed(run_bench, tmp_path_factory):
    """The output folder of a plain run, then of the same command with --diagnose."""
    out = tmp_path_factory.mktemp("bench") / "out"
    assert run_bench(out, "--workers", "1") == 0
    (out / "plain.csv").write_bytes((out / "results.csv").read_bytes())
    assert run_bench(out, "--workers", "1", "--diagnose") == 0
    return out


def record(folder):
    return json.loads((folder / "diagnosis.json").read_text())


def test_clips_that_were_measured_without_a_diagnosis_get_one_and_the_same_scores(diagnosed):
    assert set(record(diagnosed)["clips"]) == {"left", "right"}
    assert (diagnosed / "results.csv").read_bytes() == (diagnosed / "plain.csv").read_bytes()


def test_it_agrees_with_the_scores(diagnosed):
    summary = json.loads((diagnosed / "summary.json").read_text())
    for row in summary["rows"]:
        if row["clip"] != "mean" and row["method"] in ("flow alone, dis", "default"):
            figures = record(diagnosed)["clips"][row["clip"]]["methods"][row["method"]]
            assert figures["<1px"] == pytest.approx(row["measures"]["<1px"])
            assert 100 - figures["misses"] - figures["false alarms"] == pytest.approx(row["measures"]["OA"])


def test_tables_have_both_methods_the_mean_and_every_gap(diagnosed):
    text = (diagnosed / "diagnosis.md").read_text()
    for line in ("| left | flow alone, dis |", "| right | default |", "| mean of 2 | default |"):
        assert line in text
    assert "| clip | gap 1 | gap 2 | gap 4 |" in text
    flow = record(diagnosed)["clips"]["left"]["flow"]
    assert flow["gap 1"]["<1px"] > 90  # of a sliding texture


def test_the_reliability_of_confidence_is_told_by_clip_and_of_all(diagnosed):
    written = record(diagnosed)
    parts = [written["clips"][clip]["confidence"]["default"] for clip in ("left", "right")]
    for kind in ("all frames", "visible frames"):
        figures = written["confidence"]["default"][kind]
        assert figures["points"] == sum(sum(part[kind]["points"]) for part in parts)
        within = [written["clips"][clip]["methods"]["default"]["<4px"] for clip in ("left", "right")]
        if kind == "visible frames":
            assert min(within) <= figures["found"] <= max(within)
    assert read_picture(diagnosed / "reliability.png").rgb.shape[1] > 500
    assert "| all 2 together | default | visible frames |" in (diagnosed / "diagnosis.md").read_text()
    assert "](reliability.png)" in (diagnosed / "diagnosis.md").read_text()


def test_every_clip_has_a_picture_that_the_page_shows(diagnosed):
    for clip in ("left", "right"):
        assert read_picture(diagnosed / "diagnosis" / f"{clip}.png").rgb.shape[1] > 500
        assert f"](<diagnosis/{clip}.png>)" in (diagnosed / "diagnosis.md").read_text()


def test_the_same_command_diagnoses_nothing_again(diagnosed, run_bench, capsys):
    before = (diagnosed / "journal.jsonl").read_bytes()
    tables = (diagnosed / "diagnosis.json").read_bytes()
    assert run_bench(diagnosed, "--workers", "1", "--diagnose") == 0
    said = capsys.readouterr().out
    assert "2 of 2 clips are done already" in said
    assert "Error by frames since the query" in said
    assert (diagnosed / "journal.jsonl").read_bytes() == before
    assert (diagnosed / "diagnosis.json").read_bytes() == tables


def test_two_processes_come_to_the_same_diagnosis_as_one(diagnosed, run_bench, tmp_path):
    assert run_bench(tmp_path / "two", "--workers", "2", "--diagnose") == 0
    for clip in ("left", "right"):
        assert record(tmp_path / "two")["clips"][clip] == record(diagnosed)["clips"][clip]


def test_a_fresh_run_without_it_leaves_no_tables_of_another(diagnosed, run_bench, tmp_path):
    out = tmp_path / "out"
    assert run_bench(out, "--workers", "1", "--clips", "left", "--diagnose") == 0
    assert run_bench(out, "--workers", "1", "--clips", "left", "--fresh") == 0
    assert not (out / "diagnosis.json").exists()
    assert not (out / "reliability.png").exists()


@pytest.mark.parametrize(
    "damage",
    [
        {"methods": {"x": {"lost": "many"}}},
        {"flow": {"gap 1": 3}},
        {"picture": 1},
        {"more": 1},
        {"confidence": {"x": 1}},
    ],
)
def test_a_damaged_diagnosis_is_told_from_a_whole_one(diagnosed, damage):
    outcome = json.loads((diagnosed / "journal.jsonl").read_text().splitlines()[-1])
    measures = outcome["methods"][0]["measures"]
    assert ClipOutcome.from_json(outcome, measures).diagnosis is not None
    outcome["diagnosis"] |= damage
    with pytest.raises(ValueError, match=r"diagnosis|picture|more|confidence"):
        ClipOutcome.from_json(outcome, measures)


def test_badja_whose_frames_are_mostly_not_annotated_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        t4g(["bench", "--dataset", "badja", "--path", str(tmp_path), "--diagnose"])
    assert "--diagnose needs the visibility of every frame" in capsys.readouterr().err
