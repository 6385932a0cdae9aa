"""A gallery of small runs: what it shows is there, and it opens from its folder."""

import json
import re
import shutil

import pytest
from browser import DESKTOP, PHONE, complaints, opened_browser, until
from tiny_generated import write_generated, write_record

from t4g_tracker.__main__ import main as t4g
from t4g_tracker.outputs.track_files import read_tracks_npz, write_tracks_npz


@pytest.fixture(scope="module")
def results(slide, save_frames, tmp_path_factory, tiny_settings):
    """Results of a run with a truth in which one point reappears elsewhere, of a comparison, and videos."""
    folder = tmp_path_factory.mktemp("results")
    clip = slide(frame_count=12, size=(64, 128))
    save_frames(clip, folder / "clip")
    (folder / "q.json").write_text(json.dumps({"queries": [[0, 40, 40], [2, 80.5, 30]]}))
    settings = [value for value in tiny_settings if not value.startswith("outputs.progress")]
    where = ["--video", str(folder / "clip"), "--queries", str(folder / "q.json"), "--quiet"]
    where += ["--cache", str(folder / "cache"), "--device", "cpu"]
    track = ["track", *where, "--out", str(folder / "outputs" / "clip" / "q"), "--set", *settings]
    assert t4g(track) == 0
    tracks, queries, size, fps = read_tracks_npz(folder / "outputs" / "clip" / "q" / "tracks.npz")
    tracks.visibility[:] = True
    tracks.visibility[0, 3:8] = False
    tracks.xy[0, 8:, 1] += 20
    write_tracks_npz(folder / "truth.npz", tracks, queries, size, fps)
    assert t4g([*track, "--gt", str(folder / "truth.npz")]) == 0
    compare = ["compare-features", *where, "--out", str(folder / "outputs" / "clip-features" / "q")]
    assert t4g([*compare, "--features", "patch", "--set", *tiny_settings[1:3]]) == 0
    # names that are no addresses as they stand
    images = ("cow #1", "50%25")
    write_generated(folder / "outputs" / "generated", images, models=("svd", "ours"), seeds=(1, 12))
    return folder


@pytest.fixture(scope="module")
def site(results):
    command = ["gallery", results / "outputs", "--out", results / "site", "--cache", results / "cache"]
    assert t4g([*map(str, command), "--title", "Mine & <yours>"]) == 0
    return results / "site"


def strings(value):
    """All texts of a JSON value."""
    if isinstance(value, dict | list):
        inner = value.values() if isinstance(value, dict) else value
        return [text for entry in inner for text in strings(entry)]
    return [value] if isinstance(value, str) else []


def test_all_that_the_list_and_the_page_name_is_there(site):
    content = json.loads((site / "gallery.json").read_text())
    named = {text for text in strings(content) if text.startswith("media/")}
    page = (site / "index.html").read_text()
    linked = set(re.findall(r'(?:src|href)="([^"#]+)"', page))
    files = {path.relative_to(site).as_posix() for path in (site / "media").rglob("*") if path.is_file()}
    assert named == linked == files
    assert "http" not in page
    assert {row["seed"] for row in content["generated"][0]["rows"]} == {1, 12}
    assert content["generated"][0]["models"] == ["ours", "svd"]
    for target in re.findall(r'href="#([^"]+)"', page):
        assert f'id="{target}"' in page


def test_it_says_nothing_of_the_machine_it_was_made_on(site, results):
    for file in ("index.html", "gallery.json"):
        assert str(results) not in (site / file).read_text()
    assert "Mine &amp; &lt;yours&gt;" in (site / "index.html").read_text()


def test_the_failure_that_was_made_by_hand_is_found_with_truth_and_cost_maps(site):
    content = json.loads((site / "gallery.json").read_text())
    found = {section["kind"]: section["found"] for section in content["failures"]}
    (failure,) = found["reappeared"]
    assert (failure["run"], failure["frame"]) == ("clip / q", 8)
    # 20 px of a frame 64 high are 80 of 256
    assert re.search(
        r"is seen again in frame 8, after 5 hidden ones, and is found 80\.\d px off", failure["text"]
    )
    assert content["notes"] == []


def test_a_run_whose_cache_and_truth_are_gone_is_shown_with_a_note(results, tmp_path, capsys):
    outputs = tmp_path / "outputs"
    shutil.copytree(results / "outputs" / "clip", outputs / "clip")
    record = json.loads((outputs / "clip" / "q" / "run.json").read_text())
    record["arguments"]["truth"] = str(tmp_path / "gone.npz")
    (outputs / "clip" / "q" / "run.json").write_text(json.dumps(record))
    command = ["gallery", str(outputs), "--out", str(tmp_path / "site"), "--cache", str(tmp_path / "cache")]
    assert t4g(command) == 0
    content = json.loads((tmp_path / "site" / "gallery.json").read_text())
    assert len(content["notes"]) == 2
    assert "gone.npz: no such file" in capsys.readouterr().err
    record["video"]["digest"] = "0"
    (outputs / "clip" / "q" / "run.json").write_text(json.dumps(record))
    assert t4g(command) == 0
    content = json.loads((tmp_path / "site" / "gallery.json").read_text())
    assert content["notes"] == ["clip / q: was not searched for failures, since its inputs cannot be read."]
    assert content["runs"][0]["progress_png"] == "media/run-1/progress.png"


def test_folders_without_results_and_pages_of_others_are_told(results, tmp_path, capsys):
    assert t4g(["gallery", str(tmp_path), "--out", str(tmp_path / "site")]) == 2
    assert "no results there" in capsys.readouterr().err
    (tmp_path / "site").mkdir(exist_ok=True)
    (tmp_path / "site" / "index.html").write_text("mine")
    generated = str(results / "outputs" / "generated")
    assert t4g(["gallery", generated, "--out", str(tmp_path / "site")]) == 2
    assert "is in the way and no gallery" in capsys.readouterr().err
    (tmp_path / "half" / "clip").mkdir(parents=True)
    (tmp_path / "half" / "clip" / "run.json").write_text('{"finished": false}')
    assert t4g(["gallery", str(tmp_path / "half"), generated, "--out", str(tmp_path / "other")]) == 0
    assert "its run has not finished" in capsys.readouterr().err


def test_results_of_a_bench_have_a_page_of_their_own_and_are_left_out(results, tmp_path, capsys):
    for name, what in (("bench", "bench"), ("other", "something")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "summary.json").write_text(json.dumps({"what": what}))
    page = tmp_path / "bench" / "report.html"
    for more, code in (([], 2), ([str(results / "outputs" / "generated")], 0)):
        assert t4g(["gallery", str(tmp_path), *more, "--out", str(tmp_path / "site")]) == code
        told = capsys.readouterr().err
        assert (
            f"{page.parent}: is left out, t4g bench keeps no tracks and has its own page; open {page}" in told
        )
        assert "other: is left out" not in told


def test_films_of_a_row_begin_together_when_one_comes_in_sight(site, tmp_path):
    with opened_browser(DESKTOP, tmp_path) as browser:
        browser.get((site / "index.html").as_uri())
        browser.execute_script("films[0].scrollIntoView({block: 'center'});")
        until(browser, "shown.has(films[0]) && shown.has(films[1]) && films[0].readyState >= 1")
        browser.execute_script("paused = true; refresh(); films[1].style.display = 'none';")
        until(browser, "!shown.has(films[1])")
        browser.execute_script("films[0].currentTime = 0.3;")
        until(browser, "films[0].currentTime === 0.3 && !films[0].seeking")
        browser.execute_script("films[1].style.display = '';")
        until(browser, "shown.has(films[1]) && films[0].currentTime === 0")


def test_a_row_says_what_its_record_tells_of_it_and_nothing_else(tmp_path):
    outputs = write_generated(tmp_path / "runs", images=("cow",), models=("a", "b"), seeds=(1,), frames=2)
    said = []
    for changed in (None, {}, {"steps": 10}, {"frames": 9}):
        if changed is not None:
            write_record(outputs, {"a": {}, "b": changed})
        assert t4g(["gallery", str(outputs), "--out", str(tmp_path / "site")]) == 0
        assert ("same noise" in (tmp_path / "site" / "index.html").read_text()) == (changed == {})
        said.append(gallery_list(tmp_path)["generated"][0]["rows"][0]["note"])
    assert said == [
        "",
        "all from the same noise",
        "these differ in steps",
        "these differ in frames, noise",
    ]


def gallery_list(folder):
    return json.loads((folder / "site" / "gallery.json").read_text())


def test_generated_videos_without_their_input_are_left_out_and_the_others_shown(tmp_path, capsys):
    for name in ("whole", "broken"):
        write_generated(tmp_path / "runs" / name, images=("cow",), models=("a",), seeds=(1,), frames=2)
    (tmp_path / "runs" / "broken" / "cow" / "input.png").unlink()
    (tmp_path / "runs" / "x" / "y").mkdir(parents=True)
    (tmp_path / "runs" / "x" / "y" / "seed-best.mp4").touch()
    assert t4g(["gallery", str(tmp_path / "runs"), "--out", str(tmp_path / "site")]) == 0
    assert [folder["name"] for folder in gallery_list(tmp_path)["generated"]] == ["whole"]
    told = capsys.readouterr().err
    assert "broken: is left out" in told
    assert "has videos but no input image" in told
    shutil.rmtree(tmp_path / "runs" / "whole")
    assert t4g(["gallery", str(tmp_path / "runs"), "--out", str(tmp_path / "other")]) == 2


def test_a_run_of_a_device_that_is_not_here_says_so(results, tmp_path):
    outputs = tmp_path / "outputs"
    shutil.copytree(results / "outputs" / "clip", outputs / "clip")
    record = json.loads((outputs / "clip" / "q" / "run.json").read_text())
    record["device"] = "cuda:77"
    (outputs / "clip" / "q" / "run.json").write_text(json.dumps(record))
    command = ["gallery", str(outputs), "--out", str(tmp_path / "site"), "--cache", str(results / "cache")]
    assert t4g(command) == 0
    assert gallery_list(tmp_path)["notes"] == [
        "clip / q: features and flow are of a device that is not here, cuda:77, so look-alikes were not "
        "looked for."
    ]


@pytest.mark.parametrize("window", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_it_opens_from_its_folder(site, tmp_path, window):
    with opened_browser(window, tmp_path) as browser:
        browser.get((site / "index.html").as_uri())
        assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")
        browser.execute_script("for (const image of document.images) image.loading = 'eager';")
        sizes = browser.execute_async_script(
            "const done = arguments[0]; Promise.all([...document.images].map(i => i.decode()))"
            ".then(() => done([...document.images].map(i => i.naturalWidth)));"
        )
        assert len(sizes) >= 6
        assert all(sizes)
        assert browser.execute_script("return films.length") == 8
        until(
            browser,
            "[...document.querySelectorAll('video')].every(film => film.readyState >= 1 && !film.error)",
        )
        browser.find_element("id", "pause").click()
        assert browser.find_element("id", "pause").text == "Play"
        assert complaints(browser) == []
