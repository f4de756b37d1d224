// The page: what a person wants of a photo (boxes, hints, strength), its history, and what the server makes of it.

import * as server from "./server.js";
import { Stage } from "./stage.js";

const $ = (id) => document.getElementById(id);
const HISTORY = 200;
const COMMON = {
  red: "#b3261e", orange: "#d9822b", yellow: "#d9b92b", green: "#4f8a3a", teal: "#2f8f8b", blue: "#3a66b0",
  purple: "#7a4a9e", pink: "#d98aa5", brown: "#7a5230", skin: "#d9a482", sand: "#c9b48a", gray: "#8a8a8a",
};

let about = {};
let photo = null; // {id, name, width, height, file}
let wish = { boxes: [], hints: [], vivid: null };
let past = [];
let future = [];
let number = 0; // of the state that is wanted
let shown = 0; // of the state that is shown
let running = false;
let opened = 0; // how many photos were opened: answers for earlier ones are dropped

const stage = new Stage($("stage"), {
  pick: (x, y) => openPalette({ x, y }),
  addBox: (box) => change("Object added", (next) => next.boxes.push(box)),
  changeBox: (i, box) => change(null, (next) => (next.boxes[i] = box)),
  openBox: (i) => openPalette({ object: i }),
  removeBox,
  moveHint: (i, x, y) => change(null, (next) => Object.assign(next.hints[i], { x, y })),
  openHint: (i) => openPalette(wish.hints[i], i),
  removeHint: (i) => change("Color removed", (next) => next.hints.splice(i, 1)),
});

// ---- photos

async function open(file) {
  const turn = ++opened;
  if (about.most_bytes && file.size > about.most_bytes) {
    say(`${file.name} is larger than ${about.most_bytes / 2 ** 20} MiB, which is the most that is taken.`, true);
    return;
  }
  say(`Reading ${file.name} …`);
  document.body.classList.add("busy");
  let added;
  try {
    added = await server.upload(file);
  } catch (error) {
    if (turn === opened) say(`${file.name}: ${error.message}`, true);
    return;
  } finally {
    document.body.classList.remove("busy");
  }
  if (turn !== opened) return server.forget(added.id);
  if (photo) server.forget(photo.id);
  photo = { ...added, file };
  wish = { boxes: added.boxes, hints: [], vivid: about.vivid };
  past = [];
  future = [];
  $("samples").replaceChildren();
  $("empty").hidden = true;
  $("work").hidden = $("panel").hidden = false;
  stage.at = null;
  document.title = `${photo.name} – jaxcolor`;
  for (const id of ["colored", "gray"]) show($(id), file, true);
  // Until the first colors are there the photo is shown gray.
  setWipe(100);
  update();
  const fresh = photo;
  try {
    const gray = await picture({ gray: true });
    if (fresh === photo) show($("gray"), gray);
  } catch (error) {
    say(error.message, true);
  }
}

// Show a file in an image; the one that was shown before is let go.
function show(image, blob, raw = false) {
  const before = image.src;
  image.src = URL.createObjectURL(blob);
  image.classList.toggle("raw", raw);
  image.style.aspectRatio = `${photo.width} / ${photo.height}`;
  if (before) URL.revokeObjectURL(before);
  return image.decode().catch(() => {}); // a TIFF, which browsers do not show: the server's picture comes
}

async function picture(what) {
  return (await asked("show", what)).blob();
}

// Ask about the photo; one that the server has forgotten is sent again.
async function asked(what, wanted) {
  const of = photo;
  try {
    return await server.ask(of.id, what, wanted);
  } catch (error) {
    if (error.status !== 404) throw error;
    Object.assign(of, await server.upload(of.file));
    return server.ask(of.id, what, wanted);
  }
}

// ---- what is wanted, and its history

function change(text, edit) {
  past = [...past, JSON.stringify(wish)].slice(-HISTORY);
  future = [];
  wish = JSON.parse(JSON.stringify(wish));
  edit(wish);
  if (text) say(text);
  update();
}

function step(from, to) {
  if (!from.length) return;
  to.push(JSON.stringify(wish));
  wish = JSON.parse(from.pop());
  update();
}

function removeBox(i) {
  change("Object removed", (next) => {
    next.boxes.splice(i, 1);
    next.hints = next.hints.filter((hint) => hint.object !== i);
    for (const hint of next.hints) if (hint.object > i) hint.object--;
  });
}

function update() {
  $("undo").disabled = !past.length;
  $("redo").disabled = !future.length;
  if (wish.vivid !== null) $("vivid").value = wish.vivid;
  stage.draw(photo, wish.boxes, wish.hints);
  listHints();
  listBoxes();
  number++;
  refresh();
}

// Ask for the newest state, one request at a time; what was wanted in between is never asked for.
async function refresh() {
  if (running) return;
  running = true;
  $("stage").classList.add("waiting");
  while (shown < number) {
    const now = number;
    const of = photo;
    const begun = performance.now();
    if (!$("status").classList.contains("error")) say("Coloring …");
    try {
      const colored = await picture(wish);
      if (of === photo) {
        const first = $("colored").classList.contains("raw");
        await show($("colored"), colored);
        if (first) setWipe(0);
        say(`Colored in ${((performance.now() - begun) / 1000).toFixed(1)} s`);
      }
    } catch (error) {
      if (of === photo) say(error.message, true);
    }
    shown = now;
  }
  $("stage").classList.remove("waiting");
  running = false;
}

// ---- lists

function item(text, swatch, ...buttons) {
  const entry = document.createElement("li");
  if (swatch) entry.append(chip(swatch));
  const name = document.createElement("span");
  name.textContent = text;
  entry.append(name, ...buttons.filter(Boolean));
  return entry;
}

function chip(rgb) {
  const mark = document.createElement("span");
  mark.className = "chip";
  mark.style.background = rgb;
  return mark;
}

function button(text, label, does) {
  const made = document.createElement("button");
  made.type = "button";
  made.textContent = text;
  made.setAttribute("aria-label", label);
  made.addEventListener("click", does);
  return made;
}

function listHints() {
  $("no-hints").hidden = wish.hints.length > 0;
  $("hints").replaceChildren(
    ...wish.hints.map((hint, i) => {
      const place = hint.object === undefined ? `At ${Math.round(hint.x)}, ${Math.round(hint.y)}` : `Object ${hint.object + 1}`;
      return item(
        place,
        hint.rgb,
        button("Change", `Change the color: ${place}`, () => openPalette(hint, i)),
        button("Remove", `Remove the color: ${place}`, () => stage.does.removeHint(i)),
      );
    }),
  );
}

function listBoxes() {
  const most = about.boxes_per_photo;
  $("boxes-note").textContent = about.uses_boxes
    ? `Objects are colored on their own. Draw a box around each${most ? `; the first ${most} count` : ""}.`
    : "A box gives a whole object one color. These weights color photos as a whole.";
  $("boxes").replaceChildren(
    ...wish.boxes.map((box, i) =>
      item(
        `Object ${i + 1}`,
        null,
        button("Colors", `Colors of object ${i + 1}`, () => openPalette({ object: i })),
        button("Remove", `Remove object ${i + 1}`, () => removeBox(i)),
      ),
    ),
  );
}

// ---- the palette

let target = null; // {at, i: the hint that is changed, or null, object: the one there, or null, point}

function smallestBox({ x, y }) {
  const area = ([x0, y0, x1, y1]) => (x1 - x0) * (y1 - y0);
  const around = wish.boxes
    .map((box, i) => ({ box, i }))
    .filter(({ box: [x0, y0, x1, y1] }) => x0 <= x && x < x1 && y0 <= y && y < y1);
  return around.length ? around.sort((a, b) => area(a.box) - area(b.box))[0].i : null;
}

function openPalette(at, i = null) {
  const point = at.object === undefined ? { x: at.x, y: at.y } : null;
  const object = point ? smallestBox(point) : at.object;
  const has = i === null && object !== null ? wish.hints.findIndex((hint) => hint.object === object) : -1;
  target = { i, point, object, objectHint: has };
  const choice = i === null && point && object !== null;
  $("scope").hidden = !choice;
  for (const radio of document.getElementsByName("scope")) radio.checked = radio.value === "object";
  target.scope = (choice || !point) && object !== null ? "object" : "point";
  $("remove").hidden = current() === null;
  if (at.rgb) $("any").value = at.rgb;
  const name = target.scope === "object" ? `Color of object ${object + 1}` : "Color here";
  $("palette-title").textContent = name;
  if (!$("palette").open) $("palette").showModal();
  fillPalette();
}

// The hint that a choice would change; null: it makes one.
function current() {
  if (target.i !== null) return target.i;
  return target.scope === "object" && target.objectHint >= 0 ? target.objectHint : null;
}

async function fillPalette() {
  const mine = target;
  const scope = target.scope;
  if (!about.palettes) {
    $("swatches").textContent = "These weights know no palettes; pick any color.";
    return;
  }
  $("swatches").textContent = "Looking for plausible colors …";
  const hints = wish.hints.filter((_, i) => i !== current()); // what is plausible without this color
  const at = scope === "object" ? { object: mine.object } : mine.point;
  try {
    const { colors } = await (await asked("palette", { boxes: wish.boxes, hints, at })).json();
    if (mine !== target || scope !== mine.scope) return;
    $("swatches").replaceChildren(
      ...colors.map(({ rgb, probability }) => {
        const share = `${Math.round(100 * probability)} %`;
        const made = button("", `Color ${rgb}, ${share} likely`, () => choose(rgb));
        const sample = document.createElement("i");
        sample.style.background = rgb;
        made.append(sample, share);
        made.dataset.rgb = rgb;
        return made;
      }),
    );
    $("swatches").querySelector("button")?.focus();
  } catch (error) {
    if (mine === target) $("swatches").textContent = error.message;
  }
}

function choose(rgb) {
  const i = current();
  const place = target.scope === "object" ? { object: target.object } : target.point;
  $("palette").close();
  change(null, (next) => {
    if (i === null) next.hints.push({ ...place, rgb });
    else next.hints[i].rgb = rgb;
  });
}

// ---- other versions, saving, sessions

async function showSamples() {
  const of = photo;
  $("sample").disabled = true;
  $("samples").textContent = "Coloring …";
  try {
    const { samples } = await (await asked("samples", { ...wish, count: 4 })).json();
    if (of !== photo) return;
    $("samples").replaceChildren(
      ...samples.map(({ hints, picture: source }, i) => {
        const made = button("", `Use version ${i + 1}`, () =>
          change(`Version ${i + 1}`, (next) => (next.hints = JSON.parse(JSON.stringify(hints)))),
        );
        const image = document.createElement("img");
        image.src = source;
        image.alt = "";
        made.append(image);
        return made;
      }),
    );
    say(`${samples.length} other ${samples.length === 1 ? "version" : "versions"}`);
  } catch (error) {
    $("samples").textContent = "";
    say(error.message, true);
  } finally {
    $("sample").disabled = false;
  }
}

function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

async function download() {
  $("download").disabled = true;
  say("Coloring at full size …");
  try {
    const response = await asked("download", { ...wish, format: $("format").value });
    const name = decodeURIComponent(response.headers.get("content-disposition").split("''")[1]);
    save(await response.blob(), name);
    say(`Saved as ${name}`);
  } catch (error) {
    say(error.message, true);
  } finally {
    $("download").disabled = false;
  }
}

function saveSession() {
  const { boxes, hints, vivid } = wish;
  const text = JSON.stringify({ [photo.name]: { boxes, hints, ...(vivid === null ? {} : { vivid }) } }, null, 1);
  save(new Blob([text], { type: "application/json" }), `${photo.name.replace(/\.[^.]*$/, "")}.hints.json`);
}

async function openSession(file) {
  try {
    const all = JSON.parse((await file.text()).replace(/^\ufeff/, ""));
    const stem = photo.name.replace(/\.[^.]*$/, "");
    const found = all[photo.name] ?? all[stem];
    if (!found) throw new Error(`it does not name ${photo.name}`);
    const { boxes = [], hints = [], vivid = wish.vivid } = Array.isArray(found) ? { hints: found } : found;
    await asked("show", { boxes, hints, vivid }); // says what is wrong with it
    change(`Session ${file.name}`, (next) => Object.assign(next, { boxes, hints: hints.map(withText), vivid }));
  } catch (error) {
    say(`${file.name}: ${error.message}`, true);
  }
}

function withText(hint) {
  const hex = (value) => value.toString(16).padStart(2, "0");
  return typeof hint.rgb === "string" ? hint : { ...hint, rgb: `#${hint.rgb.map(hex).join("")}` };
}

// ---- the rest

function say(text, isError = false) {
  $("work").hidden ? ($("empty").querySelector("p").textContent = text) : ($("status").textContent = text);
  $("status").classList.toggle("error", isError);
}

function setWipe(percent) {
  $("wipe").value = percent;
  $("stage").style.setProperty("--wipe", `${percent}%`);
  $("stage").classList.toggle("whole", Number(percent) === 0 || Number(percent) === 100);
}

function setMode() {
  const objects = document.querySelector("input[name=mode]:checked").value === "objects";
  $("stage").classList.toggle("objects", objects);
  $("stage").setAttribute("aria-label", photo ? `${photo.name}, ${photo.width} by ${photo.height} pixels` : "Photo");
  $("advice").textContent = objects
    ? "Draw a box around an object; drag it or its corners. A click shows its colors. Keys: arrows, Shift and arrows, Delete."
    : "Click what has a wrong color and pick a better one; drag dots to move them. Keys: arrows and Enter.";
}

function pickFile(input, does) {
  input.addEventListener("change", () => {
    if (input.files.length) does(input.files[0]);
    input.value = "";
  });
}

function addBoxByKey() {
  const { width, height } = photo;
  const box = [width / 4, height / 4, (3 * width) / 4, (3 * height) / 4].map(Math.floor);
  change("Object added in the middle; arrow keys move it, Shift and arrow keys change its size", (next) => next.boxes.push(box));
  document.querySelector("input[name=mode][value=objects]").click();
  $("overlay").querySelector(`[data-mark="box ${wish.boxes.length - 1}"]`).focus();
}

async function start() {
  setMode();
  pickFile($("file"), open);
  pickFile($("session"), openSession);
  document.querySelectorAll("input[name=mode]").forEach((radio) => radio.addEventListener("change", setMode));
  document.querySelectorAll("input[name=scope]").forEach((radio) =>
    radio.addEventListener("change", () => {
      target.scope = radio.value;
      $("palette-title").textContent = radio.value === "object" ? `Color of object ${target.object + 1}` : "Color here";
      $("remove").hidden = current() === null;
      fillPalette();
    }),
  );
  $("undo").addEventListener("click", () => step(past, future));
  $("redo").addEventListener("click", () => step(future, past));
  $("marks").addEventListener("change", () => $("stage").classList.toggle("no-marks", !$("marks").checked));
  $("wipe").addEventListener("input", () => setWipe($("wipe").value));
  $("vivid").addEventListener("input", () => {
    wish = { ...wish, vivid: Number($("vivid").value) };
    number++;
    refresh();
  });
  let vividBefore = null; // where the slider was when it was touched: one step of the history
  const remember = () => (vividBefore ??= JSON.stringify(wish));
  $("vivid").addEventListener("pointerdown", remember);
  $("vivid").addEventListener("keydown", remember);
  $("vivid").addEventListener("change", () => {
    if (vividBefore) past = [...past, vividBefore].slice(-HISTORY);
    vividBefore = null;
    future = [];
    $("undo").disabled = !past.length;
    $("redo").disabled = true;
  });
  for (const [name, rgb] of Object.entries(COMMON)) {
    const made = button("", name, () => choose(rgb));
    made.style.background = rgb;
    made.title = name;
    $("common").append(made);
  }
  $("use-any").addEventListener("click", () => choose($("any").value));
  $("remove").addEventListener("click", () => {
    const i = current();
    $("palette").close();
    stage.does.removeHint(i);
  });
  $("add-box").addEventListener("click", addBoxByKey);
  $("sample").addEventListener("click", showSamples);
  $("download").addEventListener("click", download);
  $("save-session").addEventListener("click", saveSession);
  document.addEventListener("keydown", (event) => {
    if (!(event.ctrlKey || event.metaKey) || event.key.toLowerCase() !== "z" || !photo || $("palette").open) return;
    event.preventDefault();
    event.shiftKey ? step(future, past) : step(past, future);
  });
  for (const name of ["dragover", "dragleave", "drop"])
    window.addEventListener(name, (event) => {
      event.preventDefault();
      document.body.classList.toggle("dropping", name === "dragover");
      if (name === "drop" && event.dataTransfer.files.length) open(event.dataTransfer.files[0]);
    });
  window.addEventListener("paste", (event) => event.clipboardData.files.length && open(event.clipboardData.files[0]));
  try {
    about = await server.about();
  } catch (error) {
    say(error.message, true);
  }
  $("vivid-section").hidden = about.vivid === null;
  $("samples-section").hidden = !about.palettes;
}

start();
