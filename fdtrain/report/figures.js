// Charts that were made in Python: schedules, bytes, networks.

function inked(trace, others) {
  const ink = trace.meta && trace.meta.ink;
  if (ink === "edge") return { ...trace, line: { ...trace.line, color: variable("edge") } };
  if (ink === "outline") return { ...trace, marker: { ...trace.marker, line: { color: variable("ground"), width: 0.8 } } };
  if (ink === undefined) return trace;
  if (!(ink in INKS) && !others.includes(ink)) others.push(ink);
  const number = ink in INKS ? INKS[ink] : 4 + (others.indexOf(ink) % 3);
  return { ...trace, marker: { ...trace.marker, color: colourOf(number) } };
}

function drawFigure(div) {
  const figure = DATA.figures[div.dataset.figure];
  if (!figure) return;
  const others = [], own = figure.layout;
  let traces = figure.data;
  const kept = div.dataset.drawn && div.layout ? { ...own.xaxis, range: div.layout.xaxis.range } : own.xaxis;
  const all = layout({ ...own, xaxis: own.xaxis && own.xaxis.range ? kept : own.xaxis });
  if (div.dataset.figure === "bytes") {
    const narrow = narrowed(div), sums = {}, labels = own.yaxis.categoryarray;
    traces.forEach((trace) => trace.y.forEach((label, k) => { sums[label] = (sums[label] ?? 0) + trace.x[k]; }));
    const unit = unitOf(Object.values(sums).reduce((a, b) => Math.max(a, b), 1));
    traces = traces.map((trace) => ({ ...trace, x: trace.x.map((size) => size / unit.size) }));
    const short = (label) => (narrow && label.length > 18 ? `${label.slice(0, 8)}…${label.slice(-8)}` : label);
    Object.assign(all.xaxis, { title: { text: `${own.xaxis.title.text} (${unit.name})` }, nticks: narrow ? 4 : 8 });
    Object.assign(all.yaxis, { tickvals: labels, ticktext: labels.map((label) => plain(short(label))) });
  }
  if (narrowed(div)) {
    if (div.dataset.figure !== "bytes") all.height = Math.min(all.height, 1.15 * div.clientWidth);
    if (own.xaxis.rangeslider && !div.dataset.drawn) all.xaxis.range = [own.xaxis.range[0], own.xaxis.range[1] / 2];
  }
  Plotly.react(div, traces.map((trace) => inked(trace, others)), all, configOf(div));
  if (own.xaxis.rangeslider && !div.dataset.drawn) div.on("plotly_relayout", () => fitRounds(div));
  div.dataset.drawn = "yes";
  if (own.xaxis.rangeslider) fitRounds(div);
}

// Messages of different rounds differ a hundredfold: the vertical axis is that of the rounds in sight.
function fitRounds(div) {
  const [from, to] = div.layout.xaxis.range, rounds = div.data[0].x;
  div.dataset.rounds = [Math.ceil(from), Math.floor(to)].join(" to ");
  const widths = rounds.map((round, k) => (round >= from && round <= to ? div.data.reduce((sum, trace) => sum + trace.y[k], 0) : 0));
  const top = 1.06 * Math.max(1, ...widths);
  if (!div.layout.yaxis.range || Math.abs(div.layout.yaxis.range[1] - top) > 1e-6 * top) Plotly.relayout(div, { "yaxis.range": [0, top] });
}

function showRounds(button) {
  const div = button.closest(".panel").querySelector(".chart");
  const [first, last] = div.layout.xaxis.rangeslider.range, window = Math.min(narrowed(div) ? 24 : 48, last - first);
  const ranges = { first: [first, first + window], last: [last - window, last], all: [first, last] };
  Plotly.relayout(div, { "xaxis.range": ranges[button.dataset.show] });
}

const visible = (div) => !div.closest("[hidden]");
const drawFigures = (again) => find("[data-figure]").filter((d) => visible(d) && (again || !d.dataset.drawn)).forEach(drawFigure);

function pick(what, key) {
  find(`[data-panel="${what}"]`).forEach((panel) => { panel.hidden = panel.dataset.key !== key; });
  find(`[data-pick="${what}"]`).forEach((select) => { select.value = key; });
  state[what] = key;
  drawFigures(false);
}
