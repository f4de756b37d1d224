/* Photos: presets, filters, cards with pictures, and the table of all scores, a page at a time. */

const PAGE = 25;
const CARDS = 12;
const INPUTS = ["name", "boxes-low", "boxes-high", "covered-low", "covered-high", "metric-low", "metric-high", "pictured"];

function presets() {
  const { metric, system } = state;
  const down = METRICS.get(metric).better >= 0;
  const about = METRICS.get(metric).title;
  const score = `score/${system}/${metric}`;
  const list = [
    { key: "all", title: "All", sort: "", description: "In the order of the set." },
    { key: "best", title: "Best", sort: score, descending: down, description: `Best ${about} of ${titleOf(system)} first.` },
    { key: "worst", title: "Worst", sort: score, descending: !down, description: `Worst ${about} of ${titleOf(system)} first.` },
  ];
  if (METRICS.get(metric).better === 0) {
    Object.assign(list[1], { title: "Highest", description: `Highest ${about} of ${titleOf(system)} first.` });
    Object.assign(list[2], { title: "Lowest", description: `Lowest ${about} of ${titleOf(system)} first.` });
  }
  if (GAIN) {
    list.push({ key: "helped", title: "Fusion helped", sort: `gain/${metric}`, descending: down, description: `Where ${about} is changed most for the better, fused against full.` });
    list.push({ key: "hurt", title: "Fusion hurt", sort: `gain/${metric}`, descending: !down, description: `Where ${about} is changed most for the worse, fused against full.` });
  }
  for (const facet of DATA.facets.filter((f) => f.failure)) {
    const title = facet.title[0].toUpperCase() + facet.title.slice(1);
    list.push({ key: facet.key, title, sort: facet.key, descending: true, failure: true, description: `${facet.description} In ${facet.unit === "of the photo" ? "per cent of the photo" : facet.unit}.` });
  }
  return list;
}

function select(preset) {
  Object.assign(state, { preset: preset.key, sort: preset.sort, descending: Boolean(preset.descending), page: 0, cards: CARDS });
}

const limit = (id, otherwise, scale = 1) => (byId(id).value === "" ? otherwise : Number(byId(id).value) * scale);

function filtered() {
  const part = byId("name").value.trim().toLowerCase();
  const [boxLow, boxHigh] = [limit("boxes-low", -Infinity), limit("boxes-high", Infinity)];
  const [coverLow, coverHigh] = [limit("covered-low", -Infinity, 0.01), limit("covered-high", Infinity, 0.01)];
  const [low, high] = [limit("metric-low", -Infinity), limit("metric-high", Infinity)];
  const any = low === -Infinity && high === Infinity;
  const scores = columnOf(`score/${state.system}/${state.metric}`);
  const covered = DATA.values.covered;
  const only = byId("pictured").checked;
  const rows = [];
  for (let row = 0; row < PHOTOS; row++) {
    if (part && !DATA.names[row].toLowerCase().includes(part)) continue;
    if (DATA.boxes[row] < boxLow || DATA.boxes[row] > boxHigh) continue;
    if (covered && (covered[row] < coverLow || covered[row] > coverHigh)) continue;
    if (!any && !(scores[row] >= low && scores[row] <= high)) continue; /* NaN is in no range */
    if (only && !pictured(row)) continue;
    rows.push(row);
  }
  return sorted(rows);
}

/* Rows without a value come last, whichever way. */
function sorted(rows) {
  if (!state.sort) return rows;
  const sign = state.descending ? -1 : 1;
  if (state.sort === "name") {
    const names = new Intl.Collator(undefined, { numeric: true });
    return rows.sort((a, b) => sign * names.compare(DATA.names[a], DATA.names[b]) || a - b);
  }
  const values = columnOf(state.sort);
  return rows.sort((a, b) => {
    const [x, y] = [values[a], values[b]];
    if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y) || a - b;
    return x === y ? a - b : sign * (x < y ? -1 : 1);
  });
}

/* Pictures are decoded when their card comes into view. */
const seen = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (!isIntersecting) continue;
    seen.unobserve(target);
    const pictures = picturesOf(Number(target.dataset.row));
    for (const image of target.querySelectorAll("img")) image.src = pictures[image.dataset.panel];
  }
}, { rootMargin: "300px" });

function card(row) {
  const { panels, extent } = DATA.pictures[row];
  const systems = panels.filter((p) => p !== "truth");
  const three = [...new Set([...systems.filter((p) => p === "full" || p === "fused" || p === state.system), ...systems.slice(-2)])].slice(0, 2);
  const button = make("button", { type: "button", className: "card photo", onclick: () => openViewer(row) });
  button.dataset.row = row;
  const pictures = [...three, "truth"].map((panel) => {
    const image = make("img", { alt: `${titleOf(panel)}, photo ${DATA.names[row]}`, className: Math.max(...extent) < 192 ? "pixels" : "" });
    image.dataset.panel = panel;
    return make("span", {}, image, titleOf(panel));
  });
  const description = [columnTitleAndValue(`score/${state.system}/${state.metric}`, row)];
  if (state.sort && state.sort !== "name" && !state.sort.startsWith("score/")) description.unshift(columnTitleAndValue(state.sort, row));
  button.append(make("span", { className: "three" }, ...pictures), make("span", { className: "title", textContent: DATA.names[row], title: DATA.names[row] }));
  button.append(make("span", { className: "description", textContent: description.join(" · ") }));
  seen.observe(button);
  return button;
}

const columnTitleAndValue = (key, row) => `${columnTitle(key)} ${shown(key, row)}`;

function drawCards() {
  /* Where nothing is wrong there is no failure to show. */
  const values = state.sort && FACETS.get(state.sort)?.failure ? columnOf(state.sort) : null;
  state.withPictures = state.rows.filter((row) => pictured(row) && (!values || values[row] > 0));
  byId("cards").replaceChildren(...state.withPictures.slice(0, state.cards).map(card));
  byId("more").hidden = state.withPictures.length <= state.cards;
}

function columns() {
  const scores = SYSTEMS.map((s) => `score/${s}/${state.metric}`);
  return ["name", "boxes", ...(FACETS.has("covered") ? ["covered"] : []), ...scores, ...(GAIN ? [`gain/${state.metric}`] : []), ...DATA.facets.filter((f) => f.failure).map((f) => f.key)];
}

function drawTable() {
  const keys = columns();
  const heads = keys.map((key) => {
    const [kind, ...rest] = key.split("/");
    const text = kind === "score" ? titleOf(rest.slice(0, -1).join("/")) : kind === "gain" ? "fused − full" : columnTitle(key);
    const mark = state.sort === key ? (state.descending ? " ↓" : " ↑") : "";
    const button = make("button", { type: "button", textContent: text + mark, title: FACETS.get(key)?.description ?? columnTitle(key), onclick: () => sortBy(key) });
    const head = make("th", { scope: "col" }, button);
    if (state.sort === key) head.setAttribute("aria-sort", state.descending ? "descending" : "ascending");
    return head;
  });
  byId("rows").tHead.replaceChildren(make("tr", {}, ...heads));
  const pages = Math.max(1, Math.ceil(state.rows.length / PAGE));
  state.page = Math.min(state.page, pages - 1);
  const lines = state.rows.slice(state.page * PAGE, (state.page + 1) * PAGE).map((row) => {
    const name = DATA.names[row];
    const inner = pictured(row) ? make("button", { type: "button", textContent: name, onclick: () => openViewer(row) }) : name;
    const cells = keys.slice(1).map((key) => make("td", { textContent: shown(key, row) }));
    return make("tr", {}, make("th", { scope: "row", title: name }, inner), ...cells);
  });
  byId("rows").tBodies[0].replaceChildren(...lines);
  byId("page").textContent = `page ${state.page + 1} of ${pages.toLocaleString("en")}`;
  byId("first").disabled = byId("before").disabled = state.page === 0;
  byId("last").disabled = byId("after").disabled = state.page === pages - 1;
}

function sortBy(key) {
  const descending = state.sort === key ? !state.descending : key !== "name";
  Object.assign(state, { sort: key, descending, preset: "", page: 0, cards: CARDS });
  changed();
  byId("rows").tHead.querySelector("[aria-sort] button")?.focus();
}

function drawPhotos() {
  const list = presets();
  const current = list.find((p) => p.key === state.preset);
  if (current) Object.assign(state, { sort: current.sort, descending: Boolean(current.descending) }); /* follows the metric */
  else if (/^(score|gain)\//.test(state.sort)) {
    const parts = state.sort.split("/");
    state.sort = [...parts.slice(0, -1), state.metric].join("/");
  }
  const focused = document.activeElement?.dataset?.preset;
  byId("presets").replaceChildren(...list.map((preset) => {
    const button = make("button", { type: "button", textContent: preset.title, onclick: () => { select(preset); changed(); } });
    button.dataset.preset = preset.key;
    button.setAttribute("aria-pressed", String(preset.key === state.preset));
    return button;
  }));
  if (focused) byId("presets").querySelector(`[data-preset="${focused}"]`)?.focus();
  byId("description").textContent = current ? current.description : `By ${columnTitle(state.sort)}, ${state.descending ? "highest" : "lowest"} first.`;
  byId("metric-range").textContent = `${METRICS.get(state.metric).title}, ${titleOf(state.system)}`;
  state.rows = filtered();
  drawCards();
  drawTable();
  const [all, found] = [PHOTOS.toLocaleString("en"), state.rows.length.toLocaleString("en")];
  const pictures = state.withPictures.length;
  byId("count").textContent = `${found} of ${all} photos; ${pictures ? pictures.toLocaleString("en") : "none"} of them with pictures${FACETS.get(state.sort)?.failure ? " and a score above 0" : ""}.`;
}

function startPhotos() {
  const embedded = Object.keys(DATA.pictures).length;
  byId("photos-lead").textContent = `Scores of all ${PHOTOS.toLocaleString("en")} photos; pictures and weight maps of ${embedded === PHOTOS ? "each" : embedded.toLocaleString("en")}. A click on a picture opens the viewer.`;
  options(byId("metric"), DATA.metrics.map((m) => [m.key, m.title]), state.metric);
  options(byId("system"), DATA.systems.map((s) => [s.key, s.title]), state.system);
  byId("metric").onchange = () => { state.metric = byId("metric").value; byId("metric-low").value = byId("metric-high").value = ""; changed(); };
  byId("system").onchange = () => { state.system = byId("system").value; changed(); };
  byId("covered").hidden = !FACETS.has("covered");
  for (const id of INPUTS) byId(id).oninput = () => { state.page = 0; drawPhotos(); };
  byId("reset").onclick = () => {
    for (const id of INPUTS) { byId(id).value = ""; byId(id).checked = false; }
    select(presets()[0]);
    changed();
  };
  byId("more").onclick = () => { state.cards += 2 * CARDS; drawCards(); };
  const turn = { first: () => 0, before: (p) => p - 1, after: (p) => p + 1, last: () => Infinity };
  for (const [id, to] of Object.entries(turn)) byId(id).onclick = () => { state.page = to(state.page); drawTable(); };
  select(presets()[0]);
  listeners.push(drawPhotos);
}
