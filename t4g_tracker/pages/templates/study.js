"use strict";
const content = JSON.parse(document.getElementById("content").textContent);
const names = content.questions.map((question) => question.name);
const element = (id) => document.getElementById(id);
const players = [element("video1"), element("video2")];

// ---- who takes part: the name in the page's address also decides the order

function participantOf(address) {
  const given = new URLSearchParams(address).get("participant");
  return given === null ? "" : given.trim().slice(0, 80);
}

function randomName() {
  const digits = crypto.getRandomValues(new Uint32Array(2));
  return "p" + [...digits].map((digit) => digit.toString(36)).join("").slice(0, 10);
}

// FNV-1a, a hash of 32 bits; then mulberry32, which makes numbers from 0 to 1 of it.
function hashed(text) {
  let hash = 0x811c9dc5;
  for (const mark of text) hash = Math.imul(hash ^ mark.codePointAt(0), 0x01000193);
  return hash >>> 0;
}

function chanceOf(text) {
  let state = hashed(text);
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

// Trials in this participant's order, each with the side that is shown as video 1, and that as video 2.
function orderFor(participant) {
  const chance = chanceOf(content.study + " " + participant);
  const trials = content.trials.map((trial) => ({ ...trial, order: chance() < 0.5 ? "ab" : "ba" }));
  for (let last = trials.length - 1; last > 0; last--) {
    const other = Math.floor(chance() * (last + 1));
    [trials[last], trials[other]] = [trials[other], trials[last]];
  }
  return trials;
}

// ---- what is kept: every answer, at once, so that closing the page loses nothing

function stored(key, value) {
  try {
    if (value === undefined) return localStorage.getItem(key);
    localStorage.setItem(key, value);
  } catch (error) { /* a browser that keeps nothing; the page works until it is closed */ }
  return null;
}

const prefix = "t4g-study:" + content.study;
let participant = participantOf(location.search);
if (participant === "") {
  participant = stored(prefix) || randomName();
  const query = new URLSearchParams(location.search);
  query.set("participant", participant);
  location.replace("?" + query.toString());
}
stored(prefix, participant);

const trials = orderFor(participant);
let state = { started: null, finished: null, position: -1, answers: {} };
try {
  state = { ...state, ...JSON.parse(stored(prefix + ":" + participant) || "{}") };
} catch (error) { /* not ours; begin anew */ }

function keep() {
  stored(prefix + ":" + participant, JSON.stringify(state));
}

function answerOf(trial) {
  return (state.answers[trial.id] ||= { seconds: 0, loops: 0, errors: 0 });
}

const complete = (trial) => names.every((name) => state.answers[trial.id] && state.answers[trial.id][name]);
const failed = (trial) => !complete(trial) && answerOf(trial).errors > 0; // may be skipped

function report() {
  const answers = trials.map((trial, index) => {
    const { seconds, loops, errors, ...given } = answerOf(trial);
    return { trial: trial.id, number: index + 1, order: trial.order, ...given, seconds: Math.round(seconds * 10) / 10, loops, errors };
  });
  return {
    format: content.format, study: content.study, participant, started: state.started, finished: state.finished,
    user_agent: navigator.userAgent, window: [innerWidth, innerHeight],
    failed: trials.filter(failed).map((trial) => trial.id), answers: answers.filter((answer) => names.every((name) => answer[name])),
  };
}

// ---- time that a pair is on screen, while the page is

let since = null;

function countSeconds(goOn) {
  const now = performance.now();
  if (since !== null && state.position >= 0 && state.position < trials.length) {
    answerOf(trials[state.position]).seconds += (now - since) / 1000;
  }
  since = goOn ? now : null;
}

document.addEventListener("visibilitychange", () => {
  countSeconds(!document.hidden);
  keep();
});

// ---- two videos that begin together, and begin again together when both have ended

const LONGEST_WAIT = 8000; // ms; then both are played as they are
let playing = 0; // counts the pairs shown, so that what an earlier pair still waits for does nothing
const watched = new Set(); // players that have played this pair

function playTogether() {
  const turn = ++playing;
  rewind();
  const waiting = players.filter((player) => player.readyState < 3).map(loaded);
  if (waiting.length === 0) return begin();
  const late = new Promise((go) => setTimeout(go, LONGEST_WAIT));
  Promise.race([Promise.all(waiting), late]).then(() => {
    if (turn !== playing) return;
    rewind();
    begin();
  });
}

function rewind() {
  for (const player of players) {
    player.pause();
    player.currentTime = 0;
  }
}

function begin() {
  playing++; // nobody waits any more
  for (const player of players) play(player);
}

// Phones load nothing until a video is played, which they may refuse outside of a click.
function play(player) {
  player.play().catch((error) => {
    if (error.name === "NotAllowedError") tell("This browser does not begin by itself: press Play again.");
  });
}

// Asks for a video by playing it at once; it waits for the other one as soon as it could go on.
function loaded(player) {
  const turn = playing;
  const ready = new Promise((go) => player.addEventListener("canplay", go, { once: true }));
  play(player);
  return ready.then(() => { if (turn === playing) player.pause(); });
}

function tell(trouble) {
  element("trouble").textContent = trouble;
  element("trouble").hidden = trouble === "";
}

for (const player of players) {
  player.addEventListener("playing", () => {
    watched.add(player);
    if (watched.size === players.length) tell("");
    refresh();
  });
  player.addEventListener("ended", () => {
    if (!players.every((other) => other.ended)) return;
    if (state.position < trials.length) answerOf(trials[state.position]).loops += 1;
    const turn = playing;
    setTimeout(() => { if (turn === playing) playTogether(); }, 400);
  });
  player.addEventListener("error", () => {
    if (state.position >= trials.length) return;
    answerOf(trials[state.position]).errors += 1;
    tell("A video cannot be shown. Load the page again, since your answers are kept; if that does not help, go on.");
    keep();
    refresh();
  });
}

// ---- one pair on the screen

function show(position) {
  countSeconds(!document.hidden);
  state.position = Math.min(Math.max(position, 0), trials.length);
  const atEnd = state.position === trials.length;
  element("intro").hidden = true;
  element("trial").hidden = atEnd;
  element("end").hidden = !atEnd;
  if (atEnd) showEnd();
  else showTrial(trials[state.position]);
  keep();
  scrollTo(0, 0);
}

function showTrial(trial) {
  tell("");
  watched.clear();
  element("input").src = trial.input;
  players.forEach((player, index) => { player.src = trial[trial.order[index]]; });
  const answer = answerOf(trial);
  for (const radio of document.querySelectorAll("input[type=radio]")) {
    radio.checked = String(answer[radio.name]) === radio.value;
  }
  element("position").textContent = `${state.position + 1} of ${trials.length}`;
  document.activeElement.blur();
  refresh();
  playTogether();
  fetchAhead(trials[state.position + 1]);
}

// Loads the videos of the next pair while this one is looked at.
let ahead = [];
function fetchAhead(trial) {
  ahead = trial ? [trial.a, trial.b].map((source) => {
    const video = document.createElement("video");
    video.preload = "auto";
    video.src = source;
    return video;
  }) : [];
}

// Nobody can choose between videos that have not played.
const canChoose = (trial) => complete(trial) || watched.size === players.length;
const canGoOn = (trial) => complete(trial) || failed(trial);

function refresh() {
  if (state.position >= trials.length) return;
  const trial = trials[state.position];
  for (const question of document.querySelectorAll("fieldset")) question.disabled = !canChoose(trial);
  element("progress").value = trials.filter(complete).length / trials.length;
  element("back").disabled = state.position === 0;
  element("next").disabled = !canGoOn(trial);
  element("next").textContent = state.position + 1 === trials.length ? "Finish" : "Next";
}

function choose(name, place) {
  answerOf(trials[state.position])[name] = place;
  countSeconds(!document.hidden);
  keep();
  refresh();
}

function goOn() {
  if (canGoOn(trials[state.position])) show(state.position + 1);
}

function showEnd() {
  for (const player of players) player.pause();
  playing++;
  state.finished ||= new Date().toISOString();
  const answered = trials.filter(complete).length;
  element("answered").textContent = answered === trials.length ? `All ${answered}` : `${answered} of ${trials.length}`;
  element("text").value = JSON.stringify(report(), null, 1);
}

function save() {
  const file = new Blob([JSON.stringify(report(), null, 1) + "\n"], { type: "application/json" });
  const link = document.createElement("a");
  link.href = URL.createObjectURL(file);
  link.download = `answers-${participant.replace(/[^\w-]/g, "_")}.json`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  element("saved").textContent = `Saved as ${link.download}, where this browser keeps downloads.`;
}

// ---- buttons and keys

element("start").addEventListener("click", () => {
  state.started ||= new Date().toISOString();
  show(0);
});
element("back").addEventListener("click", () => show(state.position - 1));
element("review").addEventListener("click", () => show(trials.length - 1));
element("again").addEventListener("click", playTogether);
element("save").addEventListener("click", save);
element("form").addEventListener("submit", (event) => { event.preventDefault(); goOn(); });
element("form").addEventListener("change", (event) => {
  choose(event.target.name, Number(event.target.value));
  const next = document.querySelector(`[data-question="${currentQuestion()}"]`);
  next.scrollIntoView({ block: "nearest", behavior: "smooth" }); // on a phone it may be below
});

// The first question without an answer; once all have one, the one that the focus is in, or the last.
function currentQuestion() {
  const answer = answerOf(trials[state.position]);
  const inside = document.activeElement.closest("fieldset");
  return names.find((name) => !answer[name]) || (inside ? inside.dataset.question : names[names.length - 1]);
}

document.addEventListener("keydown", (event) => {
  if (element("trial").hidden || event.ctrlKey || event.altKey || event.metaKey) return;
  if (event.repeat) { // a key that is held counts once
    if (event.key === "Enter") event.preventDefault();
    return;
  }
  const onButton = document.activeElement.tagName === "BUTTON";
  if (event.key === "1" || event.key === "2") {
    if (!canChoose(trials[state.position])) return;
    const name = currentQuestion();
    const radio = document.querySelector(`input[name="${name}"][value="${event.key}"]`);
    radio.checked = true;
    radio.focus({ preventScroll: true });
    choose(name, Number(event.key));
  } else if (event.key === "Enter" && !onButton) {
    event.preventDefault();
    goOn();
  } else if (event.key === "Backspace") {
    show(state.position - 1);
  } else if (event.key === "r" || event.key === "R") {
    playTogether();
  }
});

element("count").textContent = trials.length;
for (const place of document.querySelectorAll(".participant")) place.textContent = participant;
if (state.position >= 0) show(state.position);
else element("intro").hidden = false;
