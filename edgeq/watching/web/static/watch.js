// Shows the state that edgeq sends. Everything from outside (labels, file names, reasons) is set as text, never as HTML.
"use strict";

const LONGEST_RETRY_MS = 10000;
const SPEAK_EVERY_MS = 4000; // a screen reader shall not talk all the time
const STEPS = ["waiting", "decode", "preprocess", "invoke"];

const at = (id) => document.getElementById(id);
const percent = (share) => (share === null ? "–" : `${(100 * share).toFixed(1)}\u00a0%`);
const milliseconds = (ms) => `${ms.toFixed(1)}\u00a0ms`;
const nameOf = (label) => label ?? "(unsure)";

let pictureUrl = null;
let shownFrame = null;
let running = null; // an AbortController while the page is visible

// Elements. Those that are there are used again: a selection, and a screen reader's place, survive an update.

function element(tag, className, ...children) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

function setText(target, text) {
  if (target.textContent !== text) target.textContent = text;
}

function update(parent, items, make, fill) {
  while (parent.children.length > items.length) parent.lastElementChild.remove();
  while (parent.children.length < items.length) parent.append(make());
  items.forEach((item, place) => fill(parent.children[place], item));
}

function setTexts(row, texts) {
  texts.forEach((text, place) => setText(row.children[place], text));
}

const entry = () => element("div", "", element("dt"), element("dd"));

function fillEntry(row, [name, value, className]) {
  row.className = className ?? "";
  setTexts(row, [name, value]);
}

// The state

function show(state) {
  setText(at("source"), state.source);
  setText(at("model"), state.model);
  at("actions").hidden = !state.keeps_photos;
  notify(problem(state));
  if (state.latest) showLatest(state.latest);
  update(at("figures"), figures(state), entry, fillEntry);
  showSummary(state.summary);
  update(at("events"), state.events, eventRow, fillEvent);
}

function problem({ interruption: lost, summary }) {
  if (lost) return `The source failed: ${lost.reason}. Next attempt after ${lost.wait_s.toFixed(0)} s.`;
  const deviation = summary.expected?.deviation;
  return deviation && `${deviation.reason} (As of ${new Date(1000 * deviation.until).toLocaleTimeString()}.)`;
}

function showLatest(latest) {
  const name = nameOf(latest.label);
  setText(at("label"), name);
  at("label").classList.toggle("unsure", latest.label === null);
  at("label").classList.toggle("clipped", name.length > 60);
  setText(at("probability"), `${percent(latest.probability)}, mean of the last frames`);
  document.title = `${name} – edgeq watch`;
  speak(name, latest.probability);
  update(at("bars"), latest.predictions, barRow, fillBar);
  setText(at("file"), latest.file ?? "");
  showTimes(latest.times_ms);
}

function barRow() {
  const bar = element("div", "bar", element("i"));
  bar.setAttribute("aria-hidden", "true");
  return element("li", "", element("bdi"), element("span"), bar);
}

function fillBar(row, prediction) {
  setTexts(row, [prediction.label, percent(prediction.probability)]);
  row.title = prediction.label;
  row.querySelector("i").style.width = `${100 * prediction.probability}%`;
}

function showTimes(times) {
  const waiting = Math.max(0, times.latency - times.decode - times.preprocess - times.invoke);
  const all = { ...times, waiting };
  const rows = STEPS.map((step) => [step, milliseconds(all[step]), step]);
  update(at("times"), [...rows, ["capture to result", milliseconds(times.latency), "total"]], entry, fillEntry);
  update(at("split"), STEPS, () => element("i"), (part, step) => {
    part.className = step;
    part.style.flexGrow = all[step];
  });
}

function figures(state) {
  const rows = [];
  const latest = state.latest;
  if (latest) {
    rows.push(
      ["frames per second", latest.frames_per_second.toFixed(1)],
      ["latency", milliseconds(latest.times_ms.latency)],
      ["dropped frames", String(latest.dropped)],
      ["damaged frames", String(latest.damaged)],
      ["interruptions", String(latest.interruptions)],
    );
    if (latest.temperature_c !== null) rows.push(["temperature", `${latest.temperature_c.toFixed(0)}\u00a0°C`]);
  }
  if (state.throttling !== null) {
    const problems = state.throttling.join(", ");
    rows.push(["power and heat", problems || "good", problems ? "alert" : ""]);
  }
  return rows;
}

function showSummary(summary) {
  const beside = summary.expected; // the photos of a comparison
  at("beside").hidden = !beside;
  if (beside) {
    const [camera, photos] = [beside.mean_probability, beside.expected_mean_probability].map(percent);
    setText(at("beside"), `Each frame alone, beside ${beside.images} photos. Mean probability ${camera}, photos ${photos}.`);
  }
  const labels = beside?.labels ?? summary.labels.map((seen) => ({ ...seen, share: seen.frames / summary.frames }));
  update(at("summary"), labels, summaryRow, fillSummary);
}

function summaryRow() {
  const name = element("th", "", element("bdi"));
  name.scope = "row";
  const number = (...children) => element("td", "number", ...children);
  return element("tr", "", name, number(), ...[1, 2].map(() => number(element("span"), element("small"))));
}

function fillSummary(row, seen) {
  const [name, frames, share, probability] = row.children;
  setText(name.firstChild, nameOf(seen.label));
  setText(frames, String(seen.frames));
  const photos = (value) => (value === undefined ? "" : `photos ${percent(value)}`);
  setTexts(share, [percent(seen.share), photos(seen.expected_share)]);
  setTexts(probability, [percent(seen.mean_probability), photos(seen.expected_mean_probability)]);
}

const eventRow = () => element("li", "", element("time"), element("bdi"), element("span"), element("bdi", "file"));

function fillEvent(row, event) {
  const lost = event.event === "interruption";
  const date = new Date(1000 * event.time);
  row.className = lost ? "lost" : "";
  row.children[0].dateTime = date.toISOString();
  const texts = lost ? [event.reason, "", ""] : [nameOf(event.label), percent(event.probability), event.file ?? ""];
  setTexts(row, [date.toLocaleTimeString(), ...texts]);
}

function notify(text) {
  at("notice").hidden = !text;
  setText(at("notice"), text || "");
}

// Says a new label, at most one every few seconds: the newest one.
const speech = { said: null, newest: null, timer: null, last: -SPEAK_EVERY_MS };

function speak(name, probability) {
  speech.newest = { name, text: `${name}, ${percent(probability)}` };
  if (name === speech.said || speech.timer) return;
  const wait = speech.last + SPEAK_EVERY_MS - performance.now();
  speech.timer = setTimeout(() => {
    speech.timer = null;
    if (speech.newest.name === speech.said) return; // it changed back
    speech.last = performance.now();
    speech.said = speech.newest.name;
    setText(at("spoken"), speech.newest.text);
  }, Math.max(0, wait));
}

// Pictures: a Motion JPEG stream whose parts name their frame, so that the frame that is kept is the one on the screen.

async function watchPictures(signal) {
  for (let wait = 500; !signal.aborted; wait = Math.min(2 * wait, LONGEST_RETRY_MS)) {
    try {
      const response = await fetch("stream.mjpg", { signal });
      if (response.ok) {
        for await (const [frame, jpeg] of parts(response.body.getReader())) {
          wait = 500;
          await showPicture(frame, jpeg);
        }
      }
    } catch {
      // the connection broke, or the page was hidden
    }
    await new Promise((resolve) => setTimeout(resolve, wait));
  }
}

async function* parts(reader) {
  let buffer = new Uint8Array(0);
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const joined = new Uint8Array(buffer.length + value.length);
    joined.set(buffer);
    joined.set(value, buffer.length);
    buffer = joined;
    for (let part = partOf(buffer); part; part = partOf(buffer)) {
      yield [part.frame, buffer.slice(part.start, part.end)];
      buffer = buffer.slice(part.end + 2);
    }
  }
}

function partOf(buffer) {
  const head = new TextDecoder("latin1").decode(buffer.subarray(0, 400));
  const headEnd = head.indexOf("\r\n\r\n");
  if (headEnd < 0) return null;
  const start = headEnd + 4;
  const end = start + Number(/content-length: (\d+)/i.exec(head)[1]);
  return buffer.length < end + 2 ? null : { frame: Number(/x-frame: (\d+)/i.exec(head)[1]), start, end };
}

async function showPicture(frame, jpeg) {
  const url = URL.createObjectURL(new Blob([jpeg], { type: "image/jpeg" }));
  const picture = at("picture");
  picture.src = url;
  try {
    await picture.decode();
  } catch {
    URL.revokeObjectURL(url); // damaged
    return;
  }
  picture.hidden = false;
  at("waiting").hidden = true;
  if (pictureUrl && at("corrected").src !== pictureUrl) URL.revokeObjectURL(pictureUrl);
  pictureUrl = url;
  shownFrame = frame;
  setText(at("frame"), `Frame ${frame}`);
}

// State

function watchState(signal) {
  if (signal.aborted) return;
  const source = new EventSource("api/events");
  signal.addEventListener("abort", () => source.close());
  source.addEventListener("message", (message) => show(JSON.parse(message.data)));
  source.addEventListener("error", () => {
    if (signal.aborted) return;
    notify("The connection to edgeq is lost. Trying again.");
    if (source.readyState !== EventSource.CLOSED) return; // the browser tries again
    reportRefusal(signal);
    setTimeout(() => watchState(signal), LONGEST_RETRY_MS);
  });
}

// An EventSource does not say why it was refused.
async function reportRefusal(signal) {
  const answer = await fetch("api/state", { signal }).catch(() => null);
  if (answer?.status === 401) notify("edgeq was started again. Open the new address that it printed.");
}

// Keeping

async function send(what, content) {
  try {
    const response = await fetch(`api/${what}`, { method: "POST", body: JSON.stringify(content) });
    const answer = await response.json();
    if (answer.error) setText(at("kept"), `Not kept: ${answer.error}`);
    else if (what !== "hold") setText(at("kept"), `Kept: ${answer.file}`);
  } catch {
    setText(at("kept"), "Not kept: the connection to edgeq is lost");
  }
}

let labels = null;
let correctedFrame = null;

function offerLabels() {
  const wanted = at("search").value.trim().toLowerCase();
  const found = labels.filter((label) => label.toLowerCase().includes(wanted));
  at("choice").replaceChildren(...found.map((label) => new Option(label, label)));
  if (found.length) at("choice").selectedIndex = 0;
}

async function openDialog() {
  if (shownFrame === null) return;
  correctedFrame = shownFrame;
  at("corrected").src = pictureUrl;
  send("hold", { frame: correctedFrame });
  labels ??= await fetch("api/labels").then((answer) => answer.json()).then((answer) => answer.labels).catch(() => null);
  if (!labels) return; // what was sent before has said why
  at("search").value = "";
  offerLabels();
  at("dialog").showModal();
  at("search").focus();
}

at("keep").addEventListener("click", () => shownFrame !== null && send("keep", { frame: shownFrame }));
at("correct").addEventListener("click", openDialog);
at("search").addEventListener("input", offerLabels);
at("cancel").addEventListener("click", () => at("dialog").close());
at("dialog").addEventListener("close", () => {
  if (at("corrected").src !== pictureUrl) URL.revokeObjectURL(at("corrected").src);
  at("corrected").removeAttribute("src");
});
at("form").addEventListener("submit", (event) => {
  event.preventDefault();
  send("label", { frame: correctedFrame, label: at("choice").value });
  at("dialog").close();
});

// A hidden page asks for nothing: it would use the device's time, and one of the browser's few connections.
function follow() {
  running?.abort();
  running = document.hidden ? null : new AbortController();
  if (!running) return;
  watchState(running.signal);
  watchPictures(running.signal);
}

document.addEventListener("visibilitychange", follow);
follow();
