"""The engine behind batches: a journal that survives, processes that die, a cluster that loses a machine."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import ray
import torch
from ray.cluster_utils import Cluster

from t4g_tracker.batch.cluster import cluster_device, connect, measure_on_ray
from t4g_tracker.batch.html_report import Setup, incomparable, write_report
from t4g_tracker.batch.journal import Journal
from t4g_tracker.batch.machines import Machines
from t4g_tracker.batch.outcomes import ClipOutcome
from t4g_tracker.batch.published import PUBLISHED, published_for
from t4g_tracker.batch.run import run_batch
from t4g_tracker.batch.summary import means, summary_rows, summary_table, write_summary
from t4g_tracker.batch.worker_progress import clip_bar
from t4g_tracker.batch.workers import Share, measure_all
from t4g_tracker.commands.bench import parse_bench, varied
from t4g_tracker.datasets.protocols import WorstTrack
from t4g_tracker.errors import CacheError, ConfigError, OutputError, TrackerWarning, VideoError, warn
from t4g_tracker.hardware import cores
from t4g_tracker.results import Result

MEASURES = ("AJ", "OA")


def outcome(clip: str, score: float = 50.0, **more) -> ClipOutcome:
    result = Result("tracker", measures={"AJ": score, "OA": 90.0}, seconds=1.5, peak_memory_mb=100.0)
    return ClipOutcome(clip, (result,), **more)


def journal(folder: Path, clips=("a", "b", "c"), identity=None, fresh=False) -> Journal:
    return Journal(folder, identity or {"seed": 0}, clips, MEASURES, fresh)


def test_a_journal_takes_up_what_an_earlier_one_left(tmp_path):
    with journal(tmp_path) as first:
        first.add(outcome("b", worst=(WorstTrack("nose", 12.5),)))
    with journal(tmp_path) as second:
        assert second.missing() == ["a", "c"]
        assert second.outcomes["b"] == outcome("b", worst=(WorstTrack("nose", 12.5),))


def test_results_are_in_the_data_sets_order_whatever_ended_first(tmp_path):
    for folder, order in ((tmp_path / "x", "abc"), (tmp_path / "y", "cab")):
        with journal(folder) as kept:
            for name in order:
                kept.add(outcome(name))
    assert (tmp_path / "x" / "results.csv").read_bytes() == (tmp_path / "y" / "results.csv").read_bytes()


def test_a_line_cut_short_costs_its_clip_alone(tmp_path):
    with journal(tmp_path) as first:
        first.add(outcome("a"))
        first.add(outcome("b"))
    path = tmp_path / "journal.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    with journal(tmp_path) as second:
        assert second.missing() == ["b", "c"]
        second.add(outcome("b"))
    with journal(tmp_path) as third:
        assert third.missing() == ["c"]


METHOD = {"method": "x", "measures": {"AJ": 5.0, "OA": 90.0}, "seconds": 1.0, "peak_memory_mb": None}
LINE = {"clip": "a", "methods": [METHOD], "worst": [], "frames": 7, "overlay": "", "error": "", "trace": ""}
DEEP = b"[" * 100_000


def changed(**values):
    """A line whose method has other values."""
    return {"methods": [METHOD | values]}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ({"methods": []}, "it has neither results nor an error"),
        ({"clip": ["a"]}, "its clip is of another type"),
        ({"clip": 5}, "its clip is of another type"),
        ({"frames": "7"}, "its frames is of another type"),
        ({"error": 5}, "its error is of another type"),
        ({"warnings": [5]}, "a warning is no text"),
        ({"more": 1}, "'more' is unknown"),
        ({"methods": [5]}, "it is not a record"),
        ({"worst": [{"track": "a", "error_px": "far"}]}, "the error of a track is no distance"),
        (changed(measures={"AJ": "5", "OA": 90.0}), "a measure is not a percentage"),
        (changed(measures={"AJ": 10**400, "OA": 90.0}), "a measure is not a percentage"),
        (changed(measures={"AJ": float("inf"), "OA": 90.0}), "a measure is not a percentage"),
        (changed(measures={"AJ": 1e9, "OA": 90.0}), "a measure is not a percentage"),
        (changed(measures={"AJ": True, "OA": 90.0}), "a measure is not a percentage"),
        (changed(measures={"AJ": 5.0}), "a method is not measured by AJ, OA"),
        (changed(measures=[5.0]), "its measures is of another type"),
        (changed(seconds="1"), "its seconds are no number"),
        (changed(method=None), "its method is of another type"),
        (DEEP, "recursion"),
        (b"1" * 10_000, "4300 digits"),
        (b'{"clip": "\xe9"}', "'utf-8' codec"),
        (b"[1]", "it is not a record"),
        (b'{"clip": "a"', "Expecting"),
    ],
)
def test_a_damaged_line_is_named_and_its_clip_is_not_done(tmp_path, line, said):
    with journal(tmp_path) as first:
        first.add(outcome("b"))
    path = tmp_path / "journal.jsonl"
    damaged = line if isinstance(line, bytes) else json.dumps(LINE | line).encode()
    path.write_bytes(damaged + b"\n" + path.read_bytes())
    where = re.escape(f"{path}: line 1 is damaged")
    with pytest.warns(
        TrackerWarning, match=rf"^{where} \(.*{said}.*\) and ignored; if its clip has no other"
    ):
        second = journal(tmp_path).__enter__()
    assert second.missing() == ["a", "c"]
    assert {row.split(",")[0] for row in (tmp_path / "results.csv").read_text().split()[1:]} == {"b"}
    second.__exit__(None, None, None)


def test_a_line_as_it_is_written_counts(tmp_path):
    (tmp_path / "journal.jsonl").write_text(
        json.dumps(LINE | changed(measures={"AJ": float("nan"), "OA": 0}))
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):  # the second time with an end of line
            with journal(tmp_path) as found:
                assert found.missing() == ["b", "c"]


def test_of_many_damaged_lines_the_first_are_named(tmp_path):
    (tmp_path / "journal.jsonl").write_text("x\n" * 9)
    with pytest.warns(TrackerWarning) as told, journal(tmp_path):
        pass
    assert len(told) == 4
    assert "6 more lines are damaged" in str(told[-1].message)


@pytest.mark.parametrize(
    "content", [b'{"seed": "\xe9"}', b"[]", b"1" * 10_000, DEEP, b'{"a":' * 990 + b"1" + b"}" * 990]
)
def test_a_damaged_record_of_a_batch_is_one_short_line(tmp_path, content):
    (tmp_path / "batch.json").write_bytes(content)
    with pytest.raises(
        CacheError, match=r"batch\.json: (is damaged|was made with a\.a).*; choose another --out"
    ) as told:
        journal(tmp_path).__enter__()
    assert len(str(told.value)) < 500


@pytest.mark.parametrize("name", ["batch.json", "journal.jsonl", ".lock"])
def test_a_folder_in_place_of_a_file_is_named(tmp_path, name):
    (tmp_path / name).mkdir()
    with pytest.raises((CacheError, OutputError), match=rf"/{name}: .*; .*choose another --out"):
        journal(tmp_path).__enter__()
    (tmp_path / name).rmdir()
    with journal(tmp_path):
        pass  # the lock was let go


def test_a_failed_clip_is_tried_again(tmp_path):
    with journal(tmp_path) as first:
        first.add(ClipOutcome("a", error="broken"))
        assert [failed.clip for failed in first.failures()] == ["a"]
    with journal(tmp_path) as second:
        assert "a" in second.missing()
        second.add(outcome("a"))
        assert second.failures() == []


def test_a_journal_has_the_figures_of_each_method_and_not_its_tracks(tmp_path):
    with journal(tmp_path) as first:
        first.add(outcome("a", frames=7))
    assert json.loads((tmp_path / "journal.jsonl").read_text()) == {
        "clip": "a",
        "methods": [
            {
                "method": "tracker",
                "measures": {"AJ": 50.0, "OA": 90.0},
                "seconds": 1.5,
                "peak_memory_mb": 100.0,
            }
        ],
        "worst": [],
        "frames": 7,
        "overlay": "",
        "error": "",
        "trace": "",
        "warnings": [],
        "diagnosis": None,
    }
    assert (tmp_path / "results.csv").read_bytes() == b"clip,method,AJ,OA,error\r\na,tracker,50.00,90.00,\r\n"
    assert (tmp_path / "timings.csv").read_bytes() == b"clip,method,seconds,peak MB\r\na,tracker,1.5,100\r\n"


def test_two_runs_refuse_each_others_folder(tmp_path):
    with journal(tmp_path), pytest.raises(OutputError, match="another run is writing to it"):
        journal(tmp_path).__enter__()
    with journal(tmp_path):
        pass  # the lock is gone with its run


def test_a_lock_does_not_outlive_a_killed_run(tmp_path):
    child = os.fork()
    if child == 0:
        try:
            with journal(tmp_path):
                os.kill(os.getpid(), signal.SIGKILL)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    with journal(tmp_path):
        pass


def test_other_settings_are_refused_until_told_to_begin_anew(tmp_path):
    with journal(tmp_path) as first:
        first.add(outcome("a"))
    said = r"batch\.json: was made with seed=0 and not 1; choose another --out, or --fresh to start over"
    with pytest.raises(CacheError, match=said):
        journal(tmp_path, identity={"seed": 1}).__enter__()
    with pytest.raises(CacheError, match=r"was made with no threads \(now 2\); choose another --out"):
        journal(tmp_path, identity={"seed": 0, "threads": 2}).__enter__()  # of an older version
    (tmp_path / "batch.json").write_text('{"seed"')
    with pytest.raises(CacheError, match=r"batch\.json: is damaged; choose another --out"):
        journal(tmp_path).__enter__()
    with journal(tmp_path, identity={"seed": 1}, fresh=True) as anew:
        assert anew.missing() == ["a", "b", "c"]


@dataclass(frozen=True)
class Chores:
    """Measures clips named after what is to happen."""

    folder: Path

    def __call__(self, name: str, device: str) -> ClipOutcome:
        if name == "bad":
            raise VideoError("frame 3 is not a picture")
        if name == "doubtful":
            warn("frame 3\nis dark; look at it")
            warn("frame 3 is dark; look at it")
        if name == "bug":
            raise KeyError("x")
        if name == "tells":
            clock = iter([10.0, 10.1])  # the second report follows at once
            with pytest.MonkeyPatch.context() as patched, clip_bar(name, "flow", "pair") as report:
                fake = SimpleNamespace(monotonic=clock.__next__)
                patched.setattr("t4g_tracker.batch.worker_progress.time", fake)
                report(1, 4)
                report(2, 4)
        if name == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        if name.startswith("long"):
            (self.folder / f"{name}-begun").write_text(str(os.getpid()))
            time.sleep(600)
        if name.startswith("slow"):
            (self.folder / f"{name}-begun").touch()
            time.sleep(1.0)
        (self.folder / f"{name}-{os.getpid()}").touch()
        return outcome(name)


def test_a_clip_that_raises_or_kills_its_process_fails_alone(tmp_path):
    names = ["fine", "bad", "dies", "bug", "good"]
    found = {result.clip: result for result in measure_all(names, Chores(tmp_path), Share(2, 1, "cpu"))}
    assert sorted(found) == sorted(names)
    assert found["bad"].error == "frame 3 is not a picture"
    assert "its process was killed" in found["dies"].error
    assert found["bug"].error.startswith("KeyError")
    assert "raise KeyError" in found["bug"].trace
    assert found["fine"] == outcome("fine")
    assert found["good"] == outcome("good")


@pytest.mark.parametrize("in_process", [True, False])
def test_a_clip_in_hand_tells_how_far_it_is(tmp_path, in_process):
    told = []

    def tell(clip, where):
        told.append((clip, where))

    list(measure_all(["tells"], Chores(tmp_path), Share(1, 1, "cpu", in_process), tell))
    deadline = time.monotonic() + 120  # what a process reports may come in after its result
    while len(told) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert told == [("tells", "flow"), ("tells", "flow 25 %")]  # the last comes too soon to be shown


@pytest.mark.parametrize("in_process", [True, False])
def test_a_warning_comes_back_with_its_clip(tmp_path, in_process):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = list(measure_all(["doubtful", "fine"], Chores(tmp_path), Share(1, 1, "cpu", in_process)))
    assert [result.warnings for result in found] == [("frame 3 is dark; look at it",), ()]


def test_a_warning_is_printed_recorded_and_reported(tmp_path, capsys):
    with journal(tmp_path, ["doubtful", "fine"]) as kept:
        run_batch(kept, Chores(tmp_path), Machines(workers=1), "cpu", quiet=True)
        outcomes = kept.ordered()
    line = "doubtful: frame 3 is dark; look at it"
    assert capsys.readouterr().err == f"warning: {line}\n"
    with journal(tmp_path, ["doubtful", "fine"]) as again:
        assert again.ordered() == outcomes
    rows = write_summary(tmp_path, outcomes, MEASURES, {"title": "a title"})
    write_report(tmp_path, outcomes, rows, MEASURES, setup(clips=2))
    assert f"- warning: {line}" in (tmp_path / "results.md").read_text()
    assert "<td>doubtful</td><td>frame 3 is dark; look at it</td>" in (tmp_path / "report.html").read_text()
    assert json.loads((tmp_path / "summary.json").read_text())["warnings"] == [
        {"clip": "doubtful", "warning": "frame 3 is dark; look at it"}
    ]


def test_one_worker_may_be_this_process(tmp_path):
    list(measure_all(["one"], Chores(tmp_path), Share(1, 1, "cpu", in_process=True)))
    assert (tmp_path / f"one-{os.getpid()}").exists()


def test_one_worker_of_its_own_may_die(tmp_path):
    found = list(measure_all(["dies", "fine"], Chores(tmp_path), Share(1, 1, "cpu")))
    assert [bool(result.error) for result in found] == [True, False]


def test_workers_end_when_the_run_is_killed(tmp_path):
    """Two workers in the middle of a clip are gone soon after the process that gave it to them."""
    program = (
        "from pathlib import Path; from tests.test_batch import Chores, Share, measure_all; "
        f"list(measure_all(['long-1', 'long-2'], Chores(Path({str(tmp_path)!r})), Share(2, 1, 'cpu')))"
    )
    run = subprocess.Popen([sys.executable, "-c", program], cwd=Path(__file__).parents[1])
    begun = [tmp_path / f"long-{number}-begun" for number in (1, 2)]
    while not all(file.exists() and file.read_text() for file in begun):
        assert run.poll() is None
        time.sleep(0.02)
    workers = [psutil.Process(int(file.read_text())) for file in begun]
    run.kill()
    run.wait()
    _, alive = psutil.wait_procs(workers, timeout=120)
    assert alive == []


def test_workers_never_have_more_threads_than_there_are_cores(monkeypatch):
    monkeypatch.setattr("t4g_tracker.hardware.cores", lambda: 16)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    assert Machines().workers_here(torch.device("cuda")) == 8
    assert Machines(threads=4).workers_here(torch.device("cuda")) == 4
    assert Machines().workers_here(torch.device("cuda:1")) == 1


def test_more_threads_than_cores_are_refused():
    with pytest.raises(ConfigError, match="more than the"):
        Machines(workers=cores(), threads=2)
    with pytest.raises(ConfigError, match="at least 1"):
        Machines(threads=0)


@pytest.fixture
def cluster():
    """Two machines of one core each, as far as Ray can tell."""
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    second = made.add_node(wait=False, num_cpus=1)
    made.wait_for_nodes(timeout=120)
    yield made, second
    ray.shutdown()
    made.shutdown()
    ray.cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


def test_a_cluster_that_loses_a_machine_half_way_still_ends_complete(cluster, tmp_path):
    made, second = cluster
    names = [f"slow-{number}" for number in range(6)] + ["bad"]
    found = []
    for result in measure_on_ray(names, Chores(tmp_path), 1, "cpu", made.address):
        found.append(result)
        if len(found) == 2:
            made.remove_node(second, allow_graceful=False)
    assert sorted(result.clip for result in found) == sorted(names)
    assert {result.clip: result.error for result in found} == {
        name: "frame 3 is not a picture" if name == "bad" else "" for name in names
    }


def test_a_cluster_that_loses_its_only_machine_for_a_clip_says_so(cluster, tmp_path, monkeypatch):
    made, _ = cluster
    monkeypatch.setattr("t4g_tracker.batch.cluster.CHECK_EVERY_S", 1.0)
    only = made.add_node(wait=False, num_cpus=3)
    made.wait_for_nodes(timeout=120)
    coming = measure_on_ray(["slow-1", "long-2"], Chores(tmp_path), 3, "cpu", made.address)
    assert next(coming).clip == "slow-1"
    made.remove_node(only, allow_graceful=False)
    with pytest.raises(ConfigError, match="no machine of the cluster has 3 cores"):
        next(coming)


def test_devices_of_a_cluster(cluster):
    made, _ = cluster
    assert cluster_device(made.address, "auto") == "cpu"
    assert cluster_device(made.address, "cuda") == "cuda"
    with pytest.raises(ConfigError, match="Ray chooses which GPU"):
        cluster_device(made.address, "cuda:1")


def test_a_cluster_too_small_for_a_clip_is_told_before_any_work(cluster):
    made, _ = cluster
    with pytest.raises(ConfigError, match="no machine of the cluster has 64 cores"):
        next(measure_on_ray(["a"], Chores(Path()), 64, "cpu", made.address))


def test_an_address_without_a_cluster_is_refused_before_ray_tries_for_minutes(monkeypatch):
    monkeypatch.setattr(ray, "init", lambda *_, **__: pytest.fail("Ray is to connect where nobody listens"))
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # not listening
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
        with pytest.raises(ConfigError, match=f"--ray {address}: nothing answers"):
            connect(address)
        with pytest.raises(ConfigError, match="nothing answers"):
            cluster_device(address, "cpu")


def test_means_count_each_clip_once_and_leave_out_what_counts_nothing():
    rows = means(summary_rows([outcome("a", 40.0), outcome("b", 60.0), outcome("c", float("nan"))])[:3])
    assert rows[0].result.measures == {"AJ": 50.0, "OA": 90.0}
    lines = summary_table(summary_rows([outcome("c", float("nan"))]), MEASURES).console()
    assert lines[-1].split() == ["mean", "of", "1", "tracker", "-", "90.0", "2", "100"]


def setup(**changes) -> Setup:
    values = {
        "title": "tapvid-davis <first>",
        "dataset": "tapvid-davis",
        "mode": "strided",
        "resolution": "480p",
        "first_frames": 0,
        "clips": 30,
        "all_clips": 30,
    }
    return Setup(**(values | changes))


def test_a_published_score_under_the_same_protocol_needs_no_warning():
    dino = next(row for row in PUBLISHED if row.tracker == "DINO-Tracker" and row.dataset == "tapvid-davis")
    assert incomparable(setup(), dino, 104) == []
    for changes, longest, said in (
        ({"first_frames": 24}, 24, "length: first 24 frames here"),
        ({}, 32, "length: at most 32 frames here"),
        ({"resolution": "256"}, 104, "resolution: 256 here, 480p there"),
        ({"mode": "first"}, 104, "queries: first here, strided there"),
        ({"clips": 8}, 104, "clips: 8 of 30"),
    ):
        found = incomparable(setup(**changes), dino, longest)
        assert [entry[: len(said)] for entry in found] == [said]


def test_scores_of_the_same_query_mode_come_first():
    rows = published_for("tapvid-davis", "first")
    assert [row.tracker for row in rows][:2] == ["CoTracker3", "Track-On-R"]
    assert all(
        "queries: first here, strided there" in incomparable(setup(mode="first"), row, 104)
        for row in rows[2:]
    )
    assert published_for("rgb-stacking", "strided") == []


def test_the_report_has_the_worst_tracks_first_and_hides_no_markup(tmp_path):
    outcomes = [
        outcome("a", worst=(WorstTrack("mild", 2.0),), overlay="overlays/a.mp4", frames=32),
        outcome("b", worst=(WorstTrack("<wild>", 90.0),), frames=32),
        ClipOutcome("c", error="cut & short"),
    ]
    rows = write_summary(tmp_path, outcomes, MEASURES, {"title": "a title"})
    write_report(tmp_path, outcomes, rows, MEASURES, setup(clips=3))
    page = (tmp_path / "report.html").read_text()
    assert 0 < page.index("&lt;wild&gt;") < page.index("mild")
    assert "<wild>" not in page
    assert "cut &amp; short" in page
    assert "length: at most 32 frames here, up to 104 there" in page
    assert 'src="overlays/a.mp4"' in page
    assert "1 failed" in page
    assert "means over 2 clips" in page
    assert "clips: 2 of 30" in page
    said = (tmp_path / "results.md").read_text()
    assert "| mean of 2 | tracker |" in said
    assert "- failed: c: cut & short" in said


def test_where_every_clip_failed_there_is_no_table(tmp_path):
    outcomes = [ClipOutcome("c", error="cut short")]
    rows = write_summary(tmp_path, outcomes, MEASURES, {"title": "a title"})
    write_report(tmp_path, outcomes, rows, MEASURES, setup(clips=1, all_clips=1))
    assert rows == []
    assert (tmp_path / "results.md").read_text() == "a title\n\n- failed: c: cut short\n"
    page = (tmp_path / "report.html").read_text()
    assert "<h2>Clips</h2>" not in page
    assert "means over" not in page
    assert "frames here" not in page


def test_settings_are_varied_in_all_combinations():
    assert varied([["a=1", "a=2"], ["b=3"]]) == {"a=1 b=3": ["a=1", "b=3"], "a=2 b=3": ["a=2", "b=3"]}
    assert varied([]) == {}
    request = parse_bench(["--data", "x", "--vary", "trajectories.direct_gaps=[4,8],[]"])
    assert request.vary == [["trajectories.direct_gaps=[4,8]", "trajectories.direct_gaps=[]"]]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--dataset", "badja", "--path", "x", "--mode", "first"],
        ["--dataset", "robotap"],
        ["--dataset", "synthetic-val", "--path", "x"],
        ["--data", "x", "--vary", "steps"],
        ["--data", "x", "--first-frames", "1"],
    ],
)
def test_arguments_that_would_have_no_effect_are_refused(arguments):
    with pytest.raises(SystemExit) as stopped:
        parse_bench(arguments)
    assert stopped.value.code == 2


def test_workers_are_not_asked_for_beside_a_cluster():
    with pytest.raises(ConfigError, match="leave it out with --ray"):
        Machines(workers=2, ray="auto")
