"""The page of a study, driven in a browser as a participant would, at the widths of a desk and a phone."""

import json
import time

import pytest
from browser import DESKTOP, PHONE, complaints, opened_browser, until
from tiny_generated import BASELINES, OURS, write_generated

from t4g_tracker.__main__ import main as t4g
from t4g_tracker.study.answers import read_answers, read_key

PAIRS, CHECKS = 3, 1
TRIALS = PAIRS + 2 * CHECKS


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    runs = write_generated(folder / "runs", seeds=(1,))
    command = ["study", "make", "--runs", runs, "--ours", OURS, "--baselines", *BASELINES]
    assert t4g([*map(str, command), "--pairs", str(PAIRS), "--checks", "1", "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module", params=[DESKTOP, PHONE], ids=["desktop", "phone"])
def browser(request, tmp_path_factory):
    """A browser, and the folder where it saves."""
    downloads = tmp_path_factory.mktemp("downloads")
    with opened_browser(request.param, downloads) as opened:
        yield opened, downloads


@pytest.fixture
def page(browser):
    return Page(browser[0])


class Page:
    """What a participant does and sees."""

    def __init__(self, browser):
        self.browser = browser

    def open(self, study, query):
        self.browser.get(f"{(study / 'page' / 'index.html').as_uri()}{query}")

    def find(self, selector):
        return self.browser.find_element("css selector", selector)

    def press(self, selector):
        self.find(selector).click()

    def wait_for_videos(self):
        """Until both have played, and choices count."""
        self.until("!document.querySelector('fieldset').disabled")

    def choose(self, question, place):
        self.wait_for_videos()
        label = self.find(f"fieldset[data-question={question}] label:nth-child({place})")
        self.browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", label)
        label.click()

    def keys(self, *keys):
        for key in keys:
            self.find("body").send_keys(key)

    def run(self, script):
        return self.browser.execute_script(script)

    @property
    def position(self):
        return self.find("#position").text

    @property
    def chosen(self):
        return self.run("return [...document.querySelectorAll(':checked')].map(r => [r.name, r.value])")

    def until(self, script):
        until(self.browser, script)


def saved(folder, name):
    """The file that the browser saves, once it is whole."""
    end = time.monotonic() + 20
    while not (folder / name).is_file():
        assert time.monotonic() < end, name
        time.sleep(0.05)
    return folder / name


def test_a_study_is_played_through(study, browser, page):
    opened, downloads = browser
    page.open(study, "?participant=ann")
    assert page.find("#count").text == str(TRIALS)
    page.press("#start")
    assert page.position == f"1 of {TRIALS}"
    page.until("players.every(player => player.readyState >= 3)")
    assert page.find("#input").get_property("naturalWidth") == 96
    assert not page.find("#next").is_enabled()
    page.choose("identity", 2)
    assert not page.find("#next").is_enabled()
    page.choose("motion", 1)
    page.press("#next")
    page.choose("identity", 1)

    opened.refresh()  # the half-answered pair is still there, and the one before
    assert page.position == f"2 of {TRIALS}"
    assert page.chosen == [["identity", "1"]]
    page.press("#back")
    assert page.chosen == [["identity", "2"], ["motion", "1"]]
    page.press("#next")
    page.choose("motion", 1)
    for _ in range(TRIALS - 2):
        page.press("#next")
        page.choose("identity", 2)
        page.choose("motion", 2)
    assert page.find("#next").text == "Finish"
    page.press("#next")
    page.press("#save")

    file = saved(downloads, "answers-ann.json")
    record = json.loads(file.read_text())
    assert record["user_agent"] == page.run("return navigator.userAgent")
    (one,) = read_answers([file], read_key(study / "key.json"))
    places = [(a.chosen["identity"], a.chosen["motion"]) for a in one.answers]
    assert places == [(2, 1), (1, 1), *[(2, 2)] * (TRIALS - 2)]
    assert [a.trial for a in one.answers] == page.run("return trials.map(trial => trial.id)")
    assert [a.order for a in one.answers] == page.run("return trials.map(trial => trial.order)")
    assert all(a.seconds > 0 for a in one.answers)
    assert complaints(opened) == []


def test_keys_alone_answer_and_move(study, page):
    page.open(study, "?participant=keys")
    page.press("#start")
    page.wait_for_videos()
    page.keys("2", "1")
    assert page.chosen == [["identity", "2"], ["motion", "1"]]
    page.keys("2")  # corrects the last one
    assert page.chosen == [["identity", "2"], ["motion", "2"]]
    page.keys("\ue007")
    assert page.position == f"2 of {TRIALS}"
    page.keys("\ue007")  # not answered yet
    assert page.position == f"2 of {TRIALS}"
    page.keys("\ue003")
    assert page.position == f"1 of {TRIALS}"


def press_key(page, key, repeat):
    page.run(f"document.dispatchEvent(new KeyboardEvent('keydown', {{key: '{key}', repeat: {repeat}}}))")


def test_a_key_that_is_held_counts_once(study, page):
    page.open(study, "?participant=held")
    page.press("#start")
    page.wait_for_videos()
    press_key(page, "1", "false")
    press_key(page, "1", "true")
    assert page.chosen == [["identity", "1"]]


def test_a_pair_whose_video_fails_to_load_cannot_be_voted_on_but_left_out(study, page):
    page.open(study, "?participant=failing")
    page.run("trials[0].a = 'media/gone.mp4'")
    page.press("#start")
    page.until("!document.getElementById('trouble').hidden")
    assert "cannot be shown" in page.find("#trouble").text
    page.keys("1", "2")
    assert page.chosen == []
    page.press("#next")
    for _ in range(TRIALS - 1):
        page.choose("identity", 1)
        page.choose("motion", 1)
        page.press("#next")
    assert page.find("#end p").text.startswith(f"{TRIALS - 1} of {TRIALS} pairs are answered")
    record = page.run("return report()")
    assert record["failed"] == [page.run("return trials[0].id")]
    assert len(record["answers"]) == TRIALS - 1
    assert page.run("return answerOf(trials[0]).errors") >= 1
    page.browser.get_log("browser")  # with the complaint about the missing file


def test_seconds_while_the_page_is_hidden_do_not_count(study, page):
    page.open(study, "?participant=hidden")
    page.press("#start")
    page.wait_for_videos()
    page.run(
        "Object.defineProperty(document, 'hidden', {value: true, configurable: true});"
        "document.dispatchEvent(new Event('visibilitychange')); window.before = answerOf(trials[0]).seconds;"
    )
    page.choose("identity", 1)  # as a script would
    time.sleep(0.3)
    page.choose("motion", 1)
    assert page.run("return answerOf(trials[0]).seconds === window.before")
    page.press("#next")
    time.sleep(0.3)
    page.run("countSeconds(false)")
    assert page.run("return answerOf(trials[1]).seconds") == 0


def test_videos_begin_where_a_browser_loads_nothing_before_they_are_played(study, page):
    page.open(study, "?participant=lazy")
    page.run("for (const player of players) player.preload = 'none'")
    page.press("#start")
    page.wait_for_videos()
    page.until("answerOf(trials[0]).loops >= 1")


def test_a_browser_that_refuses_to_play_gets_a_hint_and_a_click_begins(study, page):
    page.open(study, "?participant=refused")
    page.run(
        "for (const player of players) { player.preload = 'none';"
        "player.play = () => Promise.reject(new DOMException('', 'NotAllowedError')); }"
    )
    page.press("#start")
    page.until("!document.getElementById('trouble').hidden")
    assert "press Play again" in page.find("#trouble").text
    assert page.run("return [...document.querySelectorAll('fieldset')].every(each => each.disabled)")
    page.run("for (const player of players) delete player.play")
    page.press("#again")
    page.wait_for_videos()
    assert page.find("#trouble").text == ""


def test_both_videos_begin_together_and_again_once_both_have_ended(study, page):
    page.open(study, "?participant=loops")
    page.press("#start")
    page.until("answerOf(trials[0]).loops >= 2")
    page.until("players.every(player => !player.paused && player.currentTime > 0)")
    apart = page.run("return Math.abs(players[0].currentTime - players[1].currentTime)")
    assert apart < 0.2
    assert page.run("return players.every(player => player.muted)")


def test_nothing_is_wider_than_the_window_and_videos_are_large(study, browser, page):
    page.open(study, "?participant=sizes")
    assert page.run("return document.documentElement.scrollWidth <= innerWidth")
    page.press("#start")
    assert page.run("return document.documentElement.scrollWidth <= innerWidth")
    width = page.run("return innerWidth")
    wide = page.find("#video1").size["width"]
    assert wide > (0.9 if width < 500 else 0.3) * width
    lowest = min(page.run("return [...document.querySelectorAll('button')].map(b => b.offsetHeight || 99)"))
    assert lowest >= 44  # for a finger


def test_the_name_in_the_address_decides_order_and_sides_and_is_made_up_if_missing(study, page):
    shown = []
    for name in ("ann", "bob", "ann", "cid", "dan"):
        page.open(study, f"?participant={name}")
        shown.append(page.run("return trials.map(trial => trial.id + trial.order)"))
    assert shown[0] == shown[2]
    assert len({tuple(order) for order in shown}) > 2
    page.run("localStorage.clear()")
    page.open(study, "")
    page.until("location.search.length > 13")
    made_up = page.run("return participant")
    page.open(study, "")
    page.until("location.search.length > 13")
    assert page.run("return participant") == made_up


def test_sides_are_swapped_for_about_half_of_the_participants(study, page):
    page.open(study, "?participant=ann")
    first = page.run(
        "let first = 0; for (let i = 0; i < 400; i++) first += orderFor('p' + i).find(t => t.id === "
        "content.trials[0].id).order === 'ab'; return first;"
    )
    assert abs(first - 200) < 3.5 * 10
