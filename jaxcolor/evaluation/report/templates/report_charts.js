/* Distributions: a histogram of each system over one axis, and any value against any other. */

const points = { list: [] }; /* where each photo is drawn: [x, y, row] in CSS pixels */

const finite = (values) => values.filter(Number.isFinite);
function quantile(ordered, share) {
  const at = share * (ordered.length - 1);
  const low = Math.floor(at);
  return ordered[low] + (at - low) * ((ordered[low + 1] ?? ordered[low]) - ordered[low]);
}

/* Round numbers from low to high, about as many as asked for. */
function ticks(low, high, count) {
  const raw = (high - low || 1) / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = power * [1, 2, 2.5, 5, 10].find((f) => f * power >= raw);
  const list = [];
  for (let at = Math.ceil(low / step - 1e-9) * step; at <= high + step * 1e-6; at += step) list.push(at);
  let digits = 0;
  while (digits < 8 && Math.abs(step * 10 ** digits - Math.round(step * 10 ** digits)) > 1e-6) digits++;
  return list.map((at) => [at, written(at, digits)]);
}

function escaped(text) {
  return make("span", { textContent: text }).innerHTML;
}

function drawHistogram() {
  const metric = METRICS.get(state.metric);
  byId("histogram-title").textContent = `${metric.title}, photos of each system`;
  const all = SYSTEMS.map((s) => finite(DATA.scores[s][state.metric]).sort((a, b) => a - b));
  const filled = all.filter((v) => v.length);
  if (!filled.length) { byId("histogram").textContent = "Not defined for any photo."; return; }
  /* A few far outliers must not press everything else together. */
  let low = Math.min(...filled.map((v) => quantile(v, 0.005)));
  let high = Math.max(...filled.map((v) => quantile(v, 0.995)));
  if (high <= low) [low, high] = [low - 0.5, high + 0.5];
  const most = Math.max(...filled.map((v) => v.length));
  const binCount = Math.max(8, Math.min(48, Math.round(2 * Math.sqrt(most))));
  const [width, row, left] = [520, Math.max(30, Math.min(64, 260 / SYSTEMS.length)), 8];
  const scale = (v) => left + ((v - low) / (high - low)) * (width - 2 * left);
  const height = SYSTEMS.length * (row + 16) + 24;
  const parts = ticks(low, high, 6).map(([at, text]) => `<line x1="${scale(at)}" x2="${scale(at)}" y1="0" y2="${height - 20}" stroke="var(--line)" stroke-width="1"/><text x="${scale(at)}" y="${height - 6}" text-anchor="middle">${text}</text>`);
  SYSTEMS.forEach((system, i) => {
    const bins = new Array(binCount).fill(0);
    for (const v of all[i]) bins[Math.max(0, Math.min(binCount - 1, Math.floor(((v - low) / (high - low)) * binCount)))]++;
    const top = Math.max(...bins, 1);
    const base = (i + 1) * (row + 16);
    const step = (width - 2 * left) / binCount;
    const bars = bins.map((n, k) => `<rect x="${(left + k * step + 0.5).toFixed(2)}" y="${(base - (n / top) * row).toFixed(2)}" width="${(step - 1).toFixed(2)}" height="${((n / top) * row).toFixed(2)}"><title>${written(low + (k / binCount) * (high - low), metric.digits)} to ${written(low + ((k + 1) / binCount) * (high - low), metric.digits)}: ${n.toLocaleString("en")}</title></rect>`);
    parts.push(`<g fill="${colorOf(system)}" opacity=".85">${bars.join("")}</g><line x1="${left}" x2="${width - left}" y1="${base}" y2="${base}" stroke="var(--line)"/>`);
    if (all[i].length) {
      const middle = quantile(all[i], 0.5);
      parts.push(`<line x1="${scale(middle)}" x2="${scale(middle)}" y1="${base - row - 2}" y2="${base}" stroke="var(--ink)" stroke-width="1.5" stroke-dasharray="3 2"/>`);
      parts.push(`<text class="label" x="${left}" y="${base - row - 3}">${escaped(titleOf(system))}<tspan font-weight="400" fill="var(--faint)"> median ${written(middle, metric.digits)}</tspan></text>`);
    }
  });
  byId("histogram").innerHTML = `<svg viewBox="0 0 ${width} ${height}" role="img" aria-label="Histograms of ${escaped(metric.title)}">${parts.join("")}</svg>`;
}

/* Median of y in groups of x: by number where there are few, else in tenths of the photos. */
function trend(pairs) {
  const groups = new Map();
  const few = new Set(pairs.map((p) => p[0])).size <= 12;
  pairs.sort((a, b) => a[0] - b[0]).forEach((p, i) => {
    const key = few ? p[0] : Math.floor((i / pairs.length) * 10);
    groups.set(key, [...(groups.get(key) ?? []), p]);
  });
  return [...groups.values()].map((g) => [quantile(g.map((p) => p[0]).sort((a, b) => a - b), 0.5), quantile(g.map((p) => p[1]).sort((a, b) => a - b), 0.5)]);
}

function drawScatter() {
  const canvas = byId("scatter");
  const { width, height } = canvas.getBoundingClientRect();
  if (!width) return;
  const ratio = window.devicePixelRatio || 1;
  [canvas.width, canvas.height] = [Math.round(width * ratio), Math.round(height * ratio)];
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  const style = getComputedStyle(document.documentElement);
  const color = (name) => style.getPropertyValue(name).trim();
  const [xKey, yKey] = [byId("scatter-x").value, byId("scatter-y").value];
  const [xs, ys] = [columnOf(xKey), columnOf(yKey)];
  const rows = xs.map((_, i) => i).filter((i) => Number.isFinite(xs[i]) && Number.isFinite(ys[i]));
  points.list = [];
  canvas.setAttribute("aria-label", `${columnTitle(yKey)} against ${columnTitle(xKey)}, ${rows.length} photos`);
  context.font = `11px ${getComputedStyle(document.body).fontFamily}`;
  context.fillStyle = color("--faint");
  if (!rows.length) { context.fillText("Not defined for any photo.", 20, 30); return; }
  const [left, bottom, top, right] = [46, height - 34, 10, width - 10];
  const range = (values) => {
    const [low, high] = values.reduce(([a, b], v) => [Math.min(a, v), Math.max(b, v)], [Infinity, -Infinity]);
    const margin = (high - low || 1) * 0.04;
    return [low - margin, high + margin];
  };
  const [[xLow, xHigh], [yLow, yHigh]] = [range(rows.map((i) => xs[i])), range(rows.map((i) => ys[i]))];
  const px = (v) => left + ((v - xLow) / (xHigh - xLow)) * (right - left);
  const py = (v) => bottom - ((v - yLow) / (yHigh - yLow)) * (bottom - top);
  context.strokeStyle = color("--line");
  context.textAlign = "right";
  context.textBaseline = "middle";
  for (const [at, text] of ticks(yLow, yHigh, 5)) {
    context.beginPath(); context.moveTo(left, py(at)); context.lineTo(right, py(at)); context.stroke();
    context.fillText(text, left - 6, py(at));
  }
  context.textAlign = "center";
  context.textBaseline = "top";
  const whole = xKey === "boxes";
  for (const [at, text] of ticks(xLow, xHigh, 6)) if (!whole || Number.isInteger(at)) context.fillText(whole ? at : text, px(at), bottom + 6);
  context.fillText(columnTitle(xKey), (left + right) / 2, bottom + 20);
  context.fillStyle = color("--accent");
  context.globalAlpha = Math.max(0.12, Math.min(0.7, 60 / Math.sqrt(rows.length) / 2));
  for (const i of rows) {
    /* Whole numbers lie on lines; spread them a little, always the same way. */
    const x = px(xs[i] + (whole ? (((i * 0.6180339887) % 1) - 0.5) * 0.5 : 0));
    points.list.push([x, py(ys[i]), i]);
    context.beginPath(); context.arc(x, py(ys[i]), rows.length > 1000 ? 2 : 3, 0, 7); context.fill();
  }
  context.globalAlpha = 1;
  context.strokeStyle = color("--ink");
  context.lineWidth = 1.5;
  context.beginPath();
  trend(rows.map((i) => [xs[i], ys[i]])).forEach(([x, y], k) => (k ? context.lineTo(px(x), py(y)) : context.moveTo(px(x), py(y))));
  context.stroke();
}

function nearest(event) {
  const { left, top } = byId("scatter").getBoundingClientRect();
  const [x, y] = [event.clientX - left, event.clientY - top];
  let [best, found] = [144, null];
  for (const point of points.list) {
    const distance = (point[0] - x) ** 2 + (point[1] - y) ** 2;
    if (distance < best) [best, found] = [distance, point];
  }
  return found;
}

function drawTip(event) {
  const [tip, found] = [byId("tip"), nearest(event)];
  tip.hidden = !found;
  if (!found) return;
  const [x, y, row] = found;
  tip.textContent = `${DATA.names[row]}: ${shown(byId("scatter-y").value, row)} at ${shown(byId("scatter-x").value, row)}`;
  const wide = byId("scatter").clientWidth;
  tip.style.left = x < wide / 2 ? `${x + 10}px` : "auto";
  tip.style.right = x < wide / 2 ? "auto" : `${wide - x + 10}px`;
  tip.style.top = `${Math.max(0, y - 28)}px`;
}

function openPoint(event) {
  const found = nearest(event);
  if (!found) return;
  if (pictured(found[2])) return openViewer(found[2]);
  /* No pictures: show its row. */
  byId("reset").click();
  byId("name").value = DATA.names[found[2]];
  changed();
  byId("name").scrollIntoView({ block: "center" });
}

function axes() {
  const of = (metric) => [...(GAIN ? [`gain/${metric}`] : []), ...SYSTEMS.map((s) => `score/${s}/${metric}`)];
  const facets = DATA.facets.map((f) => f.key);
  const pair = (key) => [key, columnTitle(key)];
  /* What was chosen stays chosen for another metric. */
  const kept = (id, otherwise) => {
    const value = byId(id).value;
    return /^(gain|score)\//.test(value) ? value.replace(/[^/]*$/, state.metric) : value || otherwise;
  };
  const [y, x] = [kept("scatter-y", of(state.metric)[0]), kept("scatter-x", facets.includes("covered") ? "covered" : "boxes")];
  options(byId("scatter-y"), [...of(state.metric), ...facets].map(pair), y);
  options(byId("scatter-x"), ["boxes", ...facets, ...of(state.metric).slice(GAIN ? 1 : 0)].map(pair), x);
}

function startCharts() {
  const scatter = byId("scatter");
  byId("scatter-x").onchange = byId("scatter-y").onchange = drawScatter;
  scatter.onpointermove = drawTip;
  scatter.onpointerleave = () => { byId("tip").hidden = true; };
  scatter.onclick = openPoint;
  let drawn = "";
  const draw = () => { axes(); drawHistogram(); drawScatter(); };
  listeners.push(() => { if (drawn !== state.metric) { drawn = state.metric; draw(); } });
  window.addEventListener("resize", drawScatter);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawScatter);
}
