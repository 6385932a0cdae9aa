"""A study shows what it should, hides what it must, and counts its answers rightly."""

import json
import math
from collections import Counter
from pathlib import Path

import av
import numpy as np
import pytest
from tiny_generated import BASELINES, MODELS, OURS, write_generated, write_record
from tiny_videos import moving_square, write_video

from t4g_tracker.__main__ import main as t4g
from t4g_tracker.errors import StudyError, TrackerWarning, VideoError
from t4g_tracker.inputs.video import read_video
from t4g_tracker.outputs.generated import GeneratedFolder, Scene, read_generated
from t4g_tracker.study.answers import Answer, Key, KeyTrial, Participant, read_answers, read_key
from t4g_tracker.study.media import copy_video
from t4g_tracker.study.publishing import QUESTIONS
from t4g_tracker.study.tally import ALL, Share, attentive, tally
from t4g_tracker.study.trials import PAIR, SAME, SPOILT, choose_trials
from t4g_tracker.visualize.encoding import write_picture

IMAGES = ("cow", "dog", "fox", "hen")
SCENES = [
    Scene(image, seed, Path(image), {model: Path(image) / model / f"{seed}" for model in MODELS})
    for image in IMAGES
    for seed in range(60)
]


def choose(pairs=40, checks=2, seed=0, scenes=SCENES):
    return choose_trials(GeneratedFolder(Path(), list(MODELS), scenes), OURS, BASELINES, pairs, checks, seed)


def of_kind(trials, kind):
    return [trial for trial in trials if trial.kind == kind]


def test_the_same_seed_makes_the_same_trials():
    assert choose(seed=3) == choose(seed=3)
    assert choose(seed=3) != choose(seed=4)


@pytest.mark.parametrize("pairs", [1, 39, 40, 41])
def test_baselines_and_images_come_up_equally_often(pairs):
    chosen = of_kind(choose(pairs), PAIR)
    baselines = Counter(trial.baseline for trial in chosen)
    images = Counter(trial.scene.image for trial in chosen)
    for counts in ([baselines[name] for name in BASELINES], [images[name] for name in IMAGES]):
        assert max(counts) - min(counts) <= 1
        assert sum(counts) == pairs


def test_no_pair_comes_up_twice_even_if_all_are_asked_for():
    scenes = SCENES[:7]
    chosen = of_kind(choose(21, scenes=scenes), PAIR)
    assert len({(trial.scene.image, trial.scene.seed, trial.baseline) for trial in chosen}) == 21
    with pytest.raises(StudyError, match="have 7 scenes in common, too few"):
        choose(22, scenes=scenes)


def test_ours_is_listed_first_about_half_of_the_time():
    chosen = of_kind(choose(600), PAIR)
    first = sum(trial.sides[0].model == OURS for trial in chosen)
    assert abs(first - 300) < 3.5 * math.sqrt(150)
    assert all({side.model for side in trial.sides} == {OURS, trial.baseline} for trial in chosen)


def test_checks_are_one_video_twice_or_with_its_spoilt_self():
    trials = choose(checks=3)
    for kind, spoilt in ((SAME, 0), (SPOILT, 1)):
        found = of_kind(trials, kind)
        assert len(found) == 3
        for trial in found:
            assert trial.sides[0].model == trial.sides[1].model
            assert sum(side.spoilt for side in trial.sides) == spoilt


@pytest.mark.parametrize(
    ("ours", "baselines", "message"),
    [
        (
            "track4gem",
            ["finetuned-model"],
            "track4gem: has no generated videos; models are pretrained-model, fine",
        ),
        (OURS, ["finetuned-model", "finetuned-model"], "a model is named twice"),
        (OURS, [OURS], "a model is named twice"),
    ],
)
def test_models_that_are_not_there_are_told(ours, baselines, message):
    with pytest.raises(StudyError, match=message):
        choose_trials(GeneratedFolder(Path(), list(MODELS), SCENES), ours, baselines, 1, 0, 0)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A study of a small folder of generated videos."""
    folder = tmp_path_factory.mktemp("made")
    runs = write_generated(folder / "runs")
    command = ["study", "make", "--runs", runs, "--ours", OURS, "--baselines", *BASELINES, "--pairs", 7]
    assert t4g([*map(str, command), "--out", str(folder / "study")]) == 0
    return folder


def content_of(made):
    page = (made / "study" / "page" / "index.html").read_text()
    return json.loads(page.split('id="content">')[1].split("</script>")[0])


def test_nothing_that_is_published_says_which_model_or_image_it_shows(made):
    published = [path for path in (made / "study" / "page").rglob("*") if path.is_file()]
    assert len(published) == 1 + 3 * (7 + 4)
    for path in published:
        for name in (*MODELS, "cow", "dog", "seed-1", "spoilt", "baseline"):
            assert name not in path.as_posix().removeprefix(made.as_posix())
            assert name.encode() not in path.read_bytes()
    assert not (made / "study" / "page" / "key.json").exists()


def test_a_page_needs_nothing_from_elsewhere(made):
    page = (made / "study" / "page" / "index.html").read_text()
    assert "http" not in page
    assert "//" not in page.split("<script>")[0].replace("<!--", "")
    for trial in content_of(made)["trials"]:
        for what in ("input", "a", "b"):
            assert (made / "study" / "page" / trial[what]).is_file()


def test_the_key_says_what_every_file_shows(made):
    key = json.loads((made / "study" / "key.json").read_text())
    entries = {entry["id"]: entry for entry in key["trials"]}
    for trial in content_of(made)["trials"]:
        entry = entries[trial["id"]]
        for side in ("a", "b"):
            shown = read_video(made / "study" / "page" / trial[side]).frames
            source = made / "runs" / entry["image"] / entry[side] / f"seed-{entry['seed']}.mp4"
            same = np.array_equal(shown, read_video(source).frames)
            assert same == (entry["spoilt"] != side)


def test_a_study_is_made_again_in_its_folder_but_not_over_something_else(made, tmp_path, capsys):
    command = ["study", "make", "--runs", str(made / "runs"), "--ours", OURS, "--baselines", *BASELINES[:1]]
    again = [*command, "--pairs", "1", "--checks", "0", "--out", str(tmp_path / "study")]
    assert t4g(again) == t4g(again) == 0
    assert len(list((tmp_path / "study" / "page" / "media").iterdir())) == 3
    (tmp_path / "other" / "page").mkdir(parents=True)
    assert t4g([*again[:-1], str(tmp_path / "other")]) == 2
    assert "is in the way and no page of a study" in capsys.readouterr().err


def test_studies_that_show_other_pictures_or_ask_something_else_have_other_names(tmp_path, monkeypatch):
    command = ["study", "make", "--runs", str(tmp_path / "runs"), "--ours", OURS, "--baselines", BASELINES[0]]

    def made():
        assert t4g([*command, "--pairs", "1", "--checks", "0", "--out", str(tmp_path / "study")]) == 0
        content = content_of(tmp_path)
        return [content["study"], *sorted(path for path in content["trials"][0].values())]

    write_generated(tmp_path / "runs", images=("cow",), seeds=(1,), frames=2)
    names = [made()]
    assert made() == names[0]
    write_video(tmp_path / "runs" / "cow" / OURS / "seed-1.mp4", moving_square(3, 64, 96), pixels="yuv420p")
    names.append(made())
    write_picture(tmp_path / "runs" / "cow" / "input.png", np.full((64, 96, 3), 9, np.uint8))
    names.append(made())
    monkeypatch.setattr("t4g_tracker.study.publishing.QUESTIONS", QUESTIONS[:1])
    names.append(made())
    assert len({name for each in names for name in each}) == 4 * len(names[0])


def test_pairs_that_were_not_generated_alike_are_told(tmp_path, capsys):
    write_generated(tmp_path / "runs", images=("cow",), models=("ours", "svd"), seeds=(1,), frames=2)
    write_record(tmp_path / "runs", {"ours": {}, "svd": {"steps": 10, "fps": 9}})
    command = ["study", "make", "--runs", str(tmp_path / "runs"), "--ours", "ours", "--baselines", "svd"]
    command += ["--pairs", "1", "--checks", "0", "--out", str(tmp_path / "study")]
    assert t4g(command) == 0
    assert "differ in fps (1 of them), steps (1 of them), such as those of cow with seed 1" in (
        capsys.readouterr().err
    )
    write_record(tmp_path / "runs", {"ours": {}, "svd": {}})
    assert t4g(command) == 0
    assert capsys.readouterr().err == ""


def test_a_copied_video_keeps_its_pictures_and_loses_what_its_file_says(tmp_path):
    source = write_video(tmp_path / "source.mp4", moving_square(5))
    told = tmp_path / "told.mp4"
    with av.open(str(source)) as read, av.open(str(told), "w") as written:
        written.metadata["comment"] = "made by track4gen-model"
        stream = written.add_stream_from_template(read.streams.video[0])
        stream.metadata["handler_name"] = "track4gen-model"
        for packet in read.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                written.mux(packet)
    assert b"track4gen-model" in told.read_bytes()
    copy_video(told, tmp_path / "copy.mp4")
    assert b"track4gen" not in (tmp_path / "copy.mp4").read_bytes()
    np.testing.assert_array_equal(read_video(tmp_path / "copy.mp4").frames, read_video(source).frames)


def test_a_folder_without_videos_or_input_is_told(tmp_path):
    with pytest.raises(VideoError, match="no such folder"):
        read_generated(tmp_path / "none")
    with pytest.raises(VideoError, match="holds no video IMAGE/MODEL/seed-N"):
        read_generated(tmp_path)
    write_generated(tmp_path, images=("cow",), models=("svd",), seeds=(1,), frames=2)
    assert [(scene.image, scene.seed, list(scene.videos)) for scene in read_generated(tmp_path).scenes] == [
        ("cow", 1, ["svd"])
    ]
    (tmp_path / "cow" / "input.png").unlink()
    with pytest.raises(VideoError, match=r"has videos but no input image; put it there as input\.png"):
        read_generated(tmp_path)


KEY = Key(
    "study-1",
    "ours",
    ("svd", "tuned"),
    {
        "t1": KeyTrial(PAIR, {"a": "ours", "b": "svd"}, "svd", ""),
        "t2": KeyTrial(PAIR, {"a": "tuned", "b": "ours"}, "tuned", ""),
        "t3": KeyTrial(SAME, {"a": "ours", "b": "ours"}, "", ""),
        "t4": KeyTrial(SPOILT, {"a": "svd", "b": "svd"}, "", "b"),
    },
)


def answer(trial, order, identity, motion, seconds=4.0):
    return Answer(trial, order, {"identity": identity, "motion": motion}, seconds)


ANN = Participant(
    "ann",
    (
        answer("t1", "ab", 1, 2, 3.0),  # ours, svd
        answer("t2", "ab", 2, 2, 5.0),  # ours, ours
        answer("t3", "ba", 1, 1),
        answer("t4", "ba", 2, 2),  # not spoilt, twice
    ),
)
BOB = Participant(
    "bob",
    (
        answer("t1", "ba", 2, 2),  # ours, ours
        answer("t2", "ba", 2, 1),  # tuned, ours
        answer("t3", "ab", 2, 1),
        answer("t4", "ab", 1, 2),  # not spoilt, spoilt
    ),
)


def test_preferences_are_counted_whichever_side_was_shown_first():
    found = {(row.question, row.baseline): row.share for row in tally([ANN, BOB], KEY).preferences}
    assert found == {
        ("identity", "svd"): Share(2, 2),
        ("identity", "tuned"): Share(1, 2),
        ("identity", ALL): Share(3, 4),
        ("motion", "svd"): Share(1, 2),
        ("motion", "tuned"): Share(2, 2),
        ("motion", ALL): Share(3, 4),
    }


def test_agreement_bias_and_attention_of_two_people():
    result = tally([ANN, BOB], KEY)
    agreements = {row.question: row for row in result.agreements}
    assert agreements["identity"].share == agreements["motion"].share == Share(1, 2)
    # 3 of 4 answers are for ours: by chance 9/16 + 1/16 agree
    assert agreements["identity"].kappa == pytest.approx((0.5 - 0.625) / 0.375)
    assert result.first == {"identity": Share(1, 4), "motion": Share(1, 4)}
    assert result.first_of_same == {"identity": Share(1, 2), "motion": Share(2, 2)}
    ann, bob = result.people
    assert (ann.agrees, ann.passed, bob.passed) == (Share(2, 4), Share(2, 2), Share(1, 2))
    assert (ann.first, bob.first, ann.seconds) == (Share(1, 4), Share(1, 4), 4.0)
    assert (attentive(ANN, KEY), attentive(BOB, KEY)) == (True, False)


def test_one_participant_agrees_with_nobody_and_all_alike_with_everybody():
    assert math.isnan(tally([ANN], KEY).agreements[0].kappa)
    twin = Participant("twin", ANN.answers)
    assert [row.kappa for row in tally([ANN, twin], KEY).agreements] == [1, 1]


def test_intervals_are_wilson_s():
    low, high = Share(8, 10).interval()
    z, share, count = 1.959964, 0.8, 10
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * math.sqrt(share * 0.2 / count + z**2 / (4 * count**2))
    assert (low, high) == pytest.approx((100 * (middle - half), 100 * (middle + half)), abs=1e-3)
    assert Share(8, 10).p_value() == pytest.approx(2 * (45 + 10 + 1) / 1024)
    assert Share(0, 0).interval() == (0, 100)


@pytest.fixture
def files(tmp_path):
    """A study's folder with its key and the answers of Ann and Bob."""
    trials = [
        {"id": name, "kind": trial.kind, **trial.models, "baseline": trial.baseline, "spoilt": trial.spoilt}
        for name, trial in KEY.trials.items()
    ]
    key = {"format": 1, "study": KEY.study, "ours": KEY.ours, "baselines": KEY.baselines, "trials": trials}
    (tmp_path / "key.json").write_text(json.dumps(key))
    for one in (ANN, BOB):
        answers = [
            {"trial": a.trial, "order": a.order, **a.chosen, "seconds": a.seconds} for a in one.answers
        ]
        record = {"format": 1, "study": KEY.study, "participant": one.name, "answers": answers}
        (tmp_path / f"{one.name}.json").write_text(json.dumps(record))
    return tmp_path


def run_tally(files, *more):
    return t4g(["study", "tally", *map(str, sorted(files.glob("*b*.json"))), str(files / "ann.json"), *more])


def test_tally_reads_what_was_saved_and_writes_tables(files, capsys):
    assert read_key(files / "key.json") == KEY
    assert read_answers([files / "bob.json", files / "ann.json"], KEY) == [ANN, BOB]
    assert run_tally(files, "--key", str(files / "key.json")) == 0
    told = capsys.readouterr()
    assert "bob: preferred a spoilt video" in told.err
    record = json.loads((files / "tally" / "tally.json").read_text())
    both = next(row for row in record["preferences"] if row["against"] == ALL)
    assert (both["question"], both["count"], both["total"]) == ("identity", 3, 4)
    assert both["low"] == pytest.approx(30.06, abs=0.01)
    assert "| identity | svd | 2 | 100.0 | 34.2 | 100.0 |" in (files / "tally" / "tally.md").read_text()
    for name in ("preferences", "agreement", "participants"):
        assert (files / "tally" / f"{name}.csv").is_file()


def test_answers_of_the_inattentive_can_be_left_out(files):
    assert run_tally(files, "--key", str(files / "key.json"), "--attentive-only") == 0
    record = json.loads((files / "tally" / "tally.json").read_text())
    assert record["left_out"] == ["bob"]
    assert [one["name"] for one in record["participants"]] == ["ann"]


def test_pairs_that_could_not_be_shown_are_told(files):
    record = json.loads((files / "ann.json").read_text())
    (files / "ann.json").write_text(
        json.dumps({**record, "answers": record["answers"][1:], "failed": ["t1"]})
    )
    with pytest.warns(TrackerWarning, match="1 pairs could not be shown to ann"):
        (ann,) = read_answers([files / "ann.json"], KEY)
    assert ann.answers == ANN.answers[1:]


def test_of_two_files_of_one_person_the_fuller_counts(files):
    record = json.loads((files / "ann.json").read_text())
    (files / "more.json").write_text(json.dumps({**record, "answers": record["answers"][:1]}))
    with pytest.warns(TrackerWarning, match="a second file of participant ann"):
        assert read_answers([files / "ann.json", files / "more.json"], KEY) == [ANN]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"study": "another"}, "is of another study"),
        ({"format": 2}, "is not of format 1"),
        ({"participant": ""}, "has no participant"),
        ({"answers": 3}, "has no participant or no answers"),
        ({"answers": ["x"]}, "answer 0 is damaged"),
        ({"answers": [{"trial": "t9", "order": "ab", "identity": 1, "motion": 1, "seconds": 1}]}, "damaged"),
        ({"answers": [{"trial": "t1", "order": "aa", "identity": 1, "motion": 1, "seconds": 1}]}, "damaged"),
        ({"answers": [{"trial": "t1", "order": "ab", "identity": 3, "motion": 1, "seconds": 1}]}, "damaged"),
        ({"answers": [{"trial": "t1", "order": "ab", "identity": 1, "seconds": 1}]}, "damaged"),
        ({"answers": [{"trial": "t1", "order": "ab", "identity": 1, "motion": 1}]}, "damaged"),
    ],
)
def test_answers_that_cannot_be_counted_are_told(files, change, message):
    record = json.loads((files / "ann.json").read_text())
    (files / "ann.json").write_text(json.dumps({**record, **change}))
    with pytest.raises(StudyError, match=message):
        read_answers([files / "ann.json"], KEY)


def test_a_key_that_is_none_is_told(files):
    with pytest.raises(StudyError, match="is not the key of a study"):
        read_key(files / "ann.json")
    with pytest.raises(StudyError, match="no such file"):
        read_key(files / "none.json")
    key = json.loads((files / "key.json").read_text())
    key["trials"][0]["baseline"] = "none"
    (files / "key.json").write_text(json.dumps(key))
    with pytest.raises(StudyError, match="trial t1 is damaged"):
        read_key(files / "key.json")


def test_an_action_must_be_one_of_two(capsys):
    with pytest.raises(SystemExit):
        t4g(["study", "mke"])
    assert "did you mean make?" in capsys.readouterr().err
