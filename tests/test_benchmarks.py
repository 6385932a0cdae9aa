"""Benchmarks: one factor at a time, nothing measured twice, medians and exponents that are right."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace

import pytest

from benchmarks.__main__ import BEGIN, END, main
from benchmarks.cases import FACTORS, Case, cases_of, distinct
from benchmarks.measuring import Measurement, measure
from benchmarks.report import TITLES, growth, medians, ratios, slope, table
from benchmarks.results_file import ResultsFile
from benchmarks.revision import checked_out, code_of, commit_of
from t4g_tracker.errors import TrackerError

TINY = ["--base", "4,3,64x96", "--frames", "4", "--points", "3", "--channels", "16", "--size", "64x96"]
# A program of the same command line, as an old revision may be: it takes as long as it has points.
OLD_PROGRAM = """
import json, sys, time
from pathlib import Path
words = sys.argv[1:]
value = lambda name: words[words.index(name) + 1]
assert Path(value("--video")).is_file() and Path(value("--queries")).is_file()
if "adaptation.width=13" in words:
    sys.exit("error: adaptation.width must be a multiple of 16")
out = Path(value("--out"))
out.mkdir(parents=True)
stages = {"flow": {"seconds": FLOW, "peak_memory_mb": 9000.0}, "tracking": {"seconds": 0.25}}
(out / "run.json").write_text(json.dumps({"stages": stages, "median_seconds_per_step": 0.125}))
"""


def measurement(wall=10.0, step=0.1, peak=1024.0, **seconds):
    return Measurement({"flow": 4.0, **seconds}, step, wall, peak)


@pytest.fixture
def results(tmp_path):
    return ResultsFile.open(tmp_path / "results.jsonl", {"machine": "here"}, fresh=False)


def repository(folder, flow_seconds):
    """A git checkout of the old program; returns its commit."""
    folder.mkdir(exist_ok=True)
    (folder / "run_tracker.py").write_text(OLD_PROGRAM.replace("FLOW", str(flow_seconds)))
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    for words in (["init", "-q"], ["add", "."], [*identity, "commit", "-qm", "old"]):
        subprocess.run(["git", "-C", folder, *words], check=True)
    return commit_of(folder, "HEAD")


def test_each_case_differs_from_the_base_case_in_one_factor_and_the_device():
    groups = cases_of(Case(), FACTORS, ["cpu", "cuda"])
    for factor, cases in groups.items():
        assert {getattr(case, factor) for case in cases} == set(FACTORS[factor])
        for case in cases:
            assert replace(case, **{factor: getattr(Case(), factor)}, device="cpu") == Case()
    every = distinct(groups)
    assert len(every) == len(set(every)) == 2 * (5 + 4 + 3 + 2 - 2)  # the base case is in three groups


def test_names_tell_all_cases_apart():
    every = distinct(cases_of(Case(), FACTORS, ["cpu", "cuda"]))
    assert len({case.name for case in every}) == len(every)


@pytest.mark.parametrize("exponent", [0.5, 1.0, 2.0])
def test_the_slope_is_the_exponent_of_a_power(exponent):
    sizes = [25, 50, 100, 400]
    assert slope(sizes, [0.2 * size**exponent for size in sizes]) == pytest.approx(exponent)


def test_times_too_short_to_measure_do_not_bend_the_slope():
    assert slope([10, 100, 1000, 10000], [0.04, 1.0, 10.0, 100.0]) == pytest.approx(1.0)
    assert slope([10, 100, 1000], [0.001, 0.02, 1.0]) is None


def test_medians_are_of_each_column_and_a_busy_moment_does_not_count():
    runs = [measurement(10.0, flow=4.0), measurement(11.0, flow=5.0), measurement(60.0, flow=50.0)]
    row = dict(zip(TITLES, medians(runs), strict=True))
    assert row["flow"] == 5.0
    assert row["all"] == 11.0
    assert row["start"] == 6.0  # 6, 6 and 10
    assert row["peak GB"] == 1.0
    assert row["features"] is None  # did not run


def test_what_is_measured_is_kept_and_found_again(results):
    case = Case(points=10)
    results.add(case, "", measurement(3.0))
    results.add(case, "old", measurement(4.0))
    again = ResultsFile.open(results.path, {"machine": "here"}, fresh=False)
    assert again.of(case) == [measurement(3.0)]
    assert again.of(case, "old") == [measurement(4.0)]
    assert ResultsFile.open(results.path, {"machine": "here"}, fresh=True).of(case) == []


def test_measurements_of_another_machine_are_not_mixed_in(results):
    with pytest.raises(TrackerError, match="another machine: here, now there; begin anew with --fresh"):
        ResultsFile.open(results.path, {"machine": "there"}, fresh=False)


def test_a_damaged_file_of_results_is_refused(results):
    results.path.write_text(results.path.read_text() + '{"case": "5')
    with pytest.raises(TrackerError, match="is damaged"):
        ResultsFile.open(results.path, {"machine": "here"}, fresh=False)


def test_the_growth_table_fits_frames_for_each_device(results):
    groups = cases_of(Case(), {"frames": (25, 50, 100)}, ["cpu", "cuda"])
    for case in groups["frames"]:
        power = 1 if case.device == "cpu" else 2
        results.add(case, "", measurement(wall=1000.0, flow=0.1 * case.frames**power))
    lines = growth(groups, results).splitlines()
    flow = TITLES.index("flow") + 2  # behind the bar and the name
    assert [line.split("|")[flow].strip() for line in lines[2:]] == ["1.00", "2.00"]


def test_ratios_are_this_tree_over_the_other_revision(results):
    case = Case()
    for old, new in ((8.0, 2.0), (8.0, 2.0), (100.0, 2.0)):
        results.add(case, "old", measurement(200.0, flow=old))
        results.add(case, "new", measurement(100.0, flow=new))
    row = ratios([case], results, "old", "new").splitlines()[-1].split("|")
    assert row[6 + TITLES.index("flow")].strip() == "0.25"
    assert row[6 + TITLES.index("all")].strip() == "0.50"
    assert row[6 + TITLES.index("features")].strip() == ""


def test_tables_have_a_cell_for_each_title(results):
    results.add(Case(), "", measurement())
    head, rule, row = table([Case(), Case(points=10)], results).splitlines()
    assert head.count("|") == rule.count("|") == row.count("|")


def test_another_revision_needs_no_more_than_the_command_line(tmp_path):
    commit = repository(tmp_path / "repository", 1.5)
    case = Case(frames=4, points=3, size=(64, 96))
    (tmp_path / "revision").mkdir()  # of a benchmark that was killed
    (tmp_path / "revision" / "run_tracker.py").write_text("left")
    with checked_out(tmp_path / "repository", commit, tmp_path) as tree:
        assert tree != tmp_path / "repository"
        found = measure(case, tree, tmp_path, steps=2, settings=[])
        with pytest.raises(TrackerError, match=r"exit code 1; it said: error: adaptation\.width"):
            measure(case, tree, tmp_path, steps=2, settings=["adaptation.width=13"])
    assert found.seconds == {"flow": 1.5, "tracking": 0.25}
    assert (found.step_seconds, found.peak_mb) == (0.125, 9000.0)
    assert not tree.exists()
    listed = subprocess.run(
        ["git", "-C", tmp_path / "repository", "worktree", "list"], capture_output=True, text=True
    )
    assert len(listed.stdout.splitlines()) == 1


def test_a_revision_that_does_not_exist_is_refused(tmp_path):
    repository(tmp_path, 1)
    with pytest.raises(TrackerError, match="name a commit, branch or tag"):
        commit_of(tmp_path, "nowhere")


def test_changes_that_are_not_committed_are_other_code(tmp_path):
    repository(tmp_path, 1)
    before = code_of(tmp_path)
    (tmp_path / "run_tracker.py").write_text("pass")
    assert code_of(tmp_path).startswith(before)
    assert code_of(tmp_path) != before
    changed = code_of(tmp_path)
    (tmp_path / "notes.log").write_text("what is not code does not count")
    assert code_of(tmp_path) == changed
    (tmp_path / "new.py").write_text("x = 1\n")
    assert code_of(tmp_path) != changed


def test_the_command_measures_each_stage_once_and_goes_on_where_it_was(tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    small = ["working_size.height=64", "working_size.width=128", "features.extractor=patch"]
    call = [*TINY, "--device", "cpu", "--repeats", "1", "--steps", "2", "--only", "frames"]
    call += ["--out", str(tmp_path / "out"), "--set", *small]
    assert main([*call, "--into", str(page)]) == 0
    (row,) = (tmp_path / "out" / "results.jsonl").read_text().splitlines()[1:]
    run = json.loads(row)["measurement"]
    assert {"features", "flow", "trajectories", "adaptation", "tracking", "outputs"} <= set(run["seconds"])
    assert 0 < sum(run["seconds"].values()) < run["wall_seconds"]
    assert run["peak_mb"] > 100
    text = page.read_text()
    assert text.startswith(f"before\n{BEGIN}\n\n")
    assert text.endswith(f"{END}\nafter\n")
    assert "| 4 | 3 | 64x96 | default | cpu |" in text
    assert "old" not in text
    capsys.readouterr()
    assert main(call) == 0
    assert "run 1" not in capsys.readouterr().out
    assert len((tmp_path / "out" / "results.jsonl").read_text().splitlines()) == 2


def test_a_run_that_fails_is_told_and_the_others_go_on(tmp_path, capsys):
    call = [*TINY, "--channels", "64", "--device", "cpu", "--repeats", "1", "--steps", "2"]
    assert main([*call, "--only", "frames", "--out", str(tmp_path), "--set", "adaptation.width=13"]) == 1
    told = capsys.readouterr().out
    assert "adaptation.width must be" in told
    assert "not measured: 4 frames, 3 points, 64x96" in told
