/* The viewer: one photo's pictures to flip through or compare, its boxes, and its weight maps layer by layer. */

const VIRIDIS = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]];
const viewer = { row: -1, panel: "", held: false, tap: "", map: 0, sprite: null };

function colorMap() {
  const table = new Uint8ClampedArray(256 * 3);
  for (let i = 0; i < 256; i++) {
    const at = (i / 255) * (VIRIDIS.length - 1);
    const k = Math.min(Math.floor(at), VIRIDIS.length - 2);
    for (let c = 0; c < 3; c++) table[3 * i + c] = VIRIDIS[k][c] + (at - k) * (VIRIDIS[k + 1][c] - VIRIDIS[k][c]);
  }
  return table;
}
const COLORS = colorMap();

const description = () => DATA.pictures[viewer.row];
const tapNow = () => description().taps.find((t) => t.name === viewer.tap);
const mapName = (map) => (map === 0 ? "W_F" : `W_I ${map}`);

/* The photos that arrow keys go through: those with pictures, as they are ordered and filtered now. */
const order = () => (state.withPictures.includes(viewer.row) ? state.withPictures : [viewer.row, ...state.withPictures]);

function openViewer(row) {
  const dialog = byId("viewer");
  viewer.row = row;
  const { panels, taps } = description();
  if (!panels.includes(viewer.panel)) viewer.panel = panels.includes(DATA.main) ? DATA.main : panels[0];
  if (taps && !taps.some((t) => t.name === viewer.tap)) viewer.tap = taps.at(-1).name;
  viewer.map = Math.min(viewer.map, taps ? taps[0].ranges.length - 1 : 0);
  viewer.held = false;
  viewer.sprite = null;
  byId("viewer-name").textContent = DATA.names[row];
  const place = order().indexOf(row);
  byId("viewer-place").textContent = `${place + 1} of ${order().length}`;
  byId("viewer-before").disabled = place === 0;
  byId("viewer-after").disabled = place === order().length - 1;
  byId("panels").replaceChildren(...panels.map((panel, i) => {
    const button = make("button", { type: "button", textContent: titleOf(panel), title: `key ${i + 1}`, onclick: () => flip(panel) });
    button.dataset.panel = panel;
    return button;
  }));
  const other = byId("compare-with").value;
  options(byId("compare-with"), panels.map((p) => [p, titleOf(p)]), panels.includes(other) ? other : "truth");
  byId("annotated-tool").hidden = !description().annotated;
  byId("weights").hidden = !taps;
  for (const id of ["image", "other"]) byId(id).className = Math.max(...description().extent) < 512 ? "pixels" : "";
  byId("stage").style.setProperty("--aspect", description().extent[0] / description().extent[1]);
  drawStage();
  drawScores();
  if (taps) loadWeights(row);
  if (!dialog.open) dialog.showModal();
}

function flip(panel) {
  viewer.panel = panel;
  drawStage();
  drawScores();
}

function step(by) {
  const next = order()[order().indexOf(viewer.row) + by];
  if (next !== undefined) openViewer(next);
}

function drawStage() {
  const pictures = picturesOf(viewer.row);
  const comparing = byId("compare").checked;
  const panel = viewer.held && !comparing ? "truth" : viewer.panel;
  byId("image").src = pictures[panel];
  byId("image").alt = `${titleOf(panel)}, photo ${DATA.names[viewer.row]}`;
  for (const button of byId("panels").children) button.setAttribute("aria-pressed", String(button.dataset.panel === panel));
  byId("other").hidden = byId("split").hidden = !comparing;
  byId("split-at").disabled = !comparing;
  if (comparing) {
    const with_ = byId("compare-with").value;
    const at = byId("split-at").value;
    byId("other").src = pictures[with_];
    byId("other").alt = `${titleOf(with_)}, for comparison`;
    byId("other").style.clipPath = `inset(0 0 0 ${at}%)`;
    byId("split").style.left = `${at}%`;
  }
  drawBoxes();
  drawMap();
}

/* Only numbers go into this markup. */
function drawBoxes() {
  const { extent: [across, high], boxes, annotated } = description();
  const unit = Math.max(across, high) / 100;
  const frame = ([x, y, width, height], style) => `<rect x="${+x}" y="${+y}" width="${+width}" height="${+height}" fill="none" vector-effect="non-scaling-stroke" ${style}/>`;
  const parts = [];
  if (byId("show-annotated").checked && annotated) {
    for (const box of annotated) parts.push(frame(box, 'stroke="#000" stroke-width="3.5"'), frame(box, 'stroke="#ffd84a" stroke-width="1.6" stroke-dasharray="5 3" class="annotated"'));
  }
  if (byId("show-boxes").checked) {
    boxes.forEach((box, i) => {
      const wide = byId("show-weights").checked && viewer.map === i + 1;
      parts.push(frame(box, `stroke="#000" stroke-width="${wide ? 6 : 3.5}"`), frame(box, `stroke="#fff" stroke-width="${wide ? 3 : 1.4}" class="box"`));
      const score = box[4] === null ? "" : ` ${(+box[4]).toFixed(2)}`;
      parts.push(`<text x="${+box[0] + unit}" y="${+box[1] + 4 * unit}" font-size="${3.4 * unit}" font-weight="600" fill="#fff" stroke="#000" stroke-width="${0.7 * unit}" paint-order="stroke" style="font-family:var(--font)">${i + 1}:${score}</text>`);
    });
  }
  byId("boxes-drawn").innerHTML = `<svg viewBox="0 0 ${+across} ${+high}" aria-hidden="true">${parts.join("")}</svg>`;
}

function drawScores() {
  const { panels } = description();
  const systems = SYSTEMS.filter((s) => s in DATA.scores);
  const best = new Map(DATA.metrics.filter((m) => m.better).map((m) => {
    const values = systems.map((s) => m.better * DATA.scores[s][m.key][viewer.row]).filter((v) => !Number.isNaN(v));
    return [m.key, m.better * Math.max(...values)];
  }));
  const on = (system) => (system === viewer.panel ? "on" : "");
  const heads = systems.map((system) => {
    const name = titleOf(system);
    return make("th", { scope: "col", className: on(system) }, panels.includes(system) ? make("button", { type: "button", textContent: name, onclick: () => flip(system) }) : name);
  });
  const lines = DATA.metrics.map((m) => {
    const cells = systems.map((system) => {
      const value = DATA.scores[system][m.key][viewer.row];
      const best_ = systems.length > 1 && value === best.get(m.key) ? " best" : "";
      return make("td", { textContent: written(value, m.digits), className: on(system) + best_ });
    });
    return make("tr", {}, make("th", { scope: "row", textContent: m.title }), ...cells);
  });
  byId("viewer-scores").replaceChildren(make("thead", {}, make("tr", {}, make("th"), ...heads)), make("tbody", {}, ...lines));
  const facts = [`${DATA.boxes[viewer.row]} ${DATA.boxes[viewer.row] === 1 ? "box" : "boxes"}`];
  for (const facet of DATA.facets) {
    const unit = facet.unit === "of the photo" ? "" : ` ${facet.unit}`;
    const value = shown(facet.key, viewer.row);
    if (value !== "–") facts.push(`${facet.title} ${value}${unit}`);
  }
  byId("viewer-facets").textContent = facts.join(" · ");
}

/* ---- weight maps */

async function loadWeights(row) {
  const image = new Image();
  image.src = picturesOf(row).weights;
  await image.decode();
  if (viewer.row !== row) return; /* another photo was opened meanwhile */
  const canvas = new OffscreenCanvas(image.naturalWidth, image.naturalHeight);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  viewer.sprite = context.getImageData(0, 0, canvas.width, canvas.height);
  drawWeights();
}

/* Fill a canvas with one map. Values are those of the file: 0 … 255 between the lowest and the highest of the map. */
function paint(canvas, tap, map) {
  const { tile } = description();
  const { data, width } = viewer.sprite;
  const [low, high] = tap.ranges[map];
  const stretch = byId("stretch").checked;
  canvas.width = canvas.height = tap.side;
  const context = canvas.getContext("2d");
  const out = context.createImageData(tap.side, tap.side);
  for (let y = 0, o = 0; y < tap.side; y++) {
    for (let x = 0; x < tap.side; x++, o += 4) {
      const level = data[4 * ((tap.y + y) * width + map * tile + x)];
      const value = stretch ? level : Math.round(low * 255 + (high - low) * level);
      for (let c = 0; c < 3; c++) out.data[o + c] = COLORS[3 * value + c];
      out.data[o + 3] = 255;
    }
  }
  context.putImageData(out, 0, 0);
}

function thumbnail(tap, map, label, chosen, onclick) {
  const canvas = make("canvas");
  paint(canvas, tap, map);
  const button = make("button", { type: "button", onclick, title: `${mapName(map)} at ${tap.name}` }, canvas, label);
  button.setAttribute("aria-pressed", String(chosen));
  return button;
}

function drawWeights() {
  if (!viewer.sprite) return;
  const { taps } = description();
  const inside = document.activeElement?.closest?.(".strip")?.id;
  byId("maps").replaceChildren(...tapNow().ranges.map((_, map) => thumbnail(tapNow(), map, mapName(map), map === viewer.map, () => chooseMap(map))));
  byId("taps").replaceChildren(...taps.map((tap) => thumbnail(tap, viewer.map, tap.name, tap.name === viewer.tap, () => chooseTap(tap.name))));
  if (inside) byId(inside).querySelector("[aria-pressed=true]")?.focus();
  const [low, high] = tapNow().ranges[viewer.map];
  const what = viewer.map === 0 ? "W_F, the full image's weight" : `W_I of box ${viewer.map}`;
  byId("weight-description").textContent = `${what} at ${viewer.tap} (${tapNow().grid}×${tapNow().grid}): ${written(low, 3)} to ${written(high, 3)}`;
  const stretch = byId("stretch").checked;
  byId("legend-low").textContent = written(stretch ? low : 0, stretch ? 3 : 0);
  byId("legend-high").textContent = written(stretch ? high : 1, stretch ? 3 : 0);
  drawMap();
  drawBoxes();
}

function drawMap() {
  const canvas = byId("map");
  canvas.hidden = !(byId("show-weights").checked && viewer.sprite && description().taps);
  if (canvas.hidden) return;
  paint(canvas, tapNow(), viewer.map);
  canvas.style.opacity = byId("opacity").value / 100;
  canvas.className = "pixels";
}

function chooseMap(map) {
  viewer.map = (map + tapNow().ranges.length) % tapNow().ranges.length;
  byId("show-weights").checked = true;
  drawWeights();
}

function chooseTap(name) {
  viewer.tap = name;
  byId("show-weights").checked = true;
  drawWeights();
}

function stepTap(by) {
  const { taps } = description();
  const at = taps.findIndex((t) => t.name === viewer.tap) + by;
  chooseTap(taps[(at + taps.length) % taps.length].name);
}

/* ---- keys and pointers */

const toggle = (id) => { byId(id).checked = !byId(id).checked; byId(id).dispatchEvent(new Event("input")); };

function hold(held) {
  if (viewer.held === held) return;
  viewer.held = held;
  drawStage();
}

function onKey(event) {
  const control = event.target.closest("input[type=range], select");
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const { panels, taps } = description();
  const keys = {
    ArrowLeft: () => step(-1),
    ArrowRight: () => step(1),
    b: () => toggle("show-boxes"),
    a: () => description().annotated && toggle("show-annotated"),
    c: () => toggle("compare"),
    ...(taps && viewer.sprite && {
      w: () => toggle("show-weights"),
      "[": () => stepTap(-1),
      "]": () => stepTap(1),
      ",": () => chooseMap(viewer.map - 1),
      ".": () => chooseMap(viewer.map + 1),
    }),
  };
  const panel = /^[1-9]$/.test(event.key) ? panels[Number(event.key) - 1] : undefined;
  if (panel) flip(panel);
  else if (event.key === " " && !event.target.closest("button, input, select")) hold(true);
  else if (event.key in keys && !(control && event.key.startsWith("Arrow"))) keys[event.key]();
  else return;
  event.preventDefault();
}

function startViewer() {
  const [dialog, stage] = [byId("viewer"), byId("stage")];
  byId("viewer-close").onclick = () => dialog.close();
  byId("viewer-before").onclick = () => step(-1);
  byId("viewer-after").onclick = () => step(1);
  dialog.onclick = (event) => { if (event.target === dialog) dialog.close(); };
  dialog.onclose = () => byId("cards").querySelector(`[data-row="${viewer.row}"]`)?.focus();
  dialog.onkeydown = onKey;
  dialog.onkeyup = (event) => { if (event.key === " ") hold(false); };
  for (const id of ["show-boxes", "show-annotated", "compare", "compare-with", "split-at", "opacity", "show-weights"]) byId(id).oninput = drawStage;
  byId("stretch").oninput = drawWeights;
  const split = (event) => {
    const { left, width } = stage.getBoundingClientRect();
    byId("split-at").value = (100 * (event.clientX - left)) / width;
    drawStage();
  };
  stage.onpointerdown = (event) => {
    stage.setPointerCapture(event.pointerId);
    if (byId("compare").checked) split(event);
    else hold(true);
  };
  stage.onpointermove = (event) => { if (byId("compare").checked && event.buttons) split(event); };
  stage.onpointerup = stage.onpointercancel = () => hold(false);
  stage.oncontextmenu = (event) => event.preventDefault(); /* a long touch holds */
  const legend = byId("legend").getContext("2d");
  for (let i = 0; i < 128; i++) {
    legend.fillStyle = `rgb(${COLORS.slice(6 * i, 6 * i + 3).join(" ")})`;
    legend.fillRect(i, 0, 1, 1);
  }
}
