/* The page's data: what every part reads, and how values are looked up and written. */

const byId = (id) => document.getElementById(id);
const DATA = JSON.parse(byId("data").textContent);
const PHOTOS = DATA.names.length;
const NUMBER = { inf: Infinity, "-inf": -Infinity };
for (const group of [DATA.values, ...Object.values(DATA.scores)]) {
  for (const key of Object.keys(group)) group[key] = group[key].map((v) => (v === null ? NaN : NUMBER[v] ?? v));
}
const METRICS = new Map(DATA.metrics.map((m) => [m.key, m]));
const FACETS = new Map(DATA.facets.map((f) => [f.key, f]));
const SYSTEMS = DATA.systems.map((s) => s.key);
const GAIN = "fused" in DATA.scores && "full" in DATA.scores; /* what fusion changes can be asked */

const titleOf = (system) => DATA.titles[system] ?? system;
const colorOf = (system) => `var(--s${SYSTEMS.indexOf(system) % 8})`;
const pictured = (row) => row in DATA.pictures;

/* A column of values is named by a key: name, boxes, gain/METRIC, score/SYSTEM/METRIC, or a facet's. */
const gains = new Map();
function columnOf(key) {
  if (key === "boxes") return DATA.boxes;
  if (key in DATA.values) return DATA.values[key];
  const [kind, ...rest] = key.split("/");
  if (kind === "gain") {
    const metric = rest[0];
    if (!gains.has(metric)) {
      const [fused, full] = [DATA.scores.fused[metric], DATA.scores.full[metric]];
      gains.set(metric, fused.map((v, i) => (v === full[i] ? 0 : v - full[i])));
    }
    return gains.get(metric);
  }
  /* A system may be named by a path. */
  const metric = rest.at(-1);
  return DATA.scores[rest.slice(0, -1).join("/")][metric];
}

function columnTitle(key) {
  if (key === "name") return "photo";
  if (key === "boxes") return "boxes";
  if (FACETS.has(key)) return FACETS.get(key).title;
  const [kind, ...rest] = key.split("/");
  const metric = METRICS.get(rest.at(-1)).title;
  return kind === "gain" ? `${metric}: fused − full` : `${metric}: ${titleOf(rest.slice(0, -1).join("/"))}`;
}

/* One number for reading; sure of itself about minus signs and what is not there. */
function written(value, digits, signed = false) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  const text = Math.abs(value).toFixed(digits);
  const sign = Number(text) === 0 ? (signed ? "±" : "") : value < 0 ? "−" : signed ? "+" : "";
  return sign + text;
}

function shown(key, row) {
  if (key === "name") return DATA.names[row];
  if (key === "boxes") return String(DATA.boxes[row]);
  const value = columnOf(key)[row];
  if (FACETS.has(key)) {
    return FACETS.get(key).unit === "of the photo" ? (Number.isNaN(value) ? "–" : `${written(100 * value, 1)}%`) : written(value, 2);
  }
  const metric = METRICS.get(key.split("/").at(-1));
  return written(value, metric.digits, key.startsWith("gain/"));
}

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

function options(select, pairs, chosen) {
  select.replaceChildren(...pairs.map(([value, text]) => make("option", { value, textContent: text, selected: value === chosen })));
}

/* A photo's pictures stay text until they are asked for; the last few are kept. */
const parsed = new Map();
function picturesOf(row) {
  if (!parsed.has(row)) {
    if (parsed.size > 40) parsed.delete(parsed.keys().next().value);
    parsed.set(row, JSON.parse(byId(`pictures-${row}`).textContent));
  }
  return parsed.get(row);
}

const listeners = [];
const state = { metric: DATA.metrics[0]?.key, system: DATA.main, sort: "", descending: false, preset: "", page: 0, cards: 12, rows: [] };
/* Tell every part that the state has changed. */
const changed = () => listeners.forEach((listener) => listener());

function start() {
  if (!PHOTOS || !state.metric) return;
  byId("photos").hidden = byId("distributions").hidden = false;
  startPhotos();
  startViewer();
  startCharts();
  changed();
}
