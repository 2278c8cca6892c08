// Curves: traces of the runs that are shown, against what is chosen.

const measures = DATA.curves.y.map((y) => ({ ...y, columns: [y.key] }));
const has = (key) => measures.some((measure) => measure.key === key);
const TESTS = DATA.curves.measures.map((told) => told.test), TRAINS = DATA.curves.measures.map((told) => told.train);
for (const { name, title, unit, train, test } of DATA.curves.measures.toReversed())
  if (has(train) && has(test) && groups.length <= 7) {
    const label = `train and test ${title}`, { linear } = measures.find((measure) => measure.key === test);
    measures.unshift({ key: name, label, axis: unit ? `${label} (${unit})` : label, linear, columns: [train, test] });
  }
const axes = DATA.curves.x.filter((x) => !["rounds", "bytes"].includes(x.column) || runs.some((run) => !run.silent));
const NAMES = { epoch: "epoch", rounds: "rounds", messages: "messages", bytes: "bytes over links", seconds: "seconds" };
DATA.curves.y.forEach((y) => { NAMES[y.key] = y.label; });
const state = { x: axes[0].key, y: measures[0].key, scale: "", run: DATA.chosen, schedule: "0", hidden: new Set() };
const FIRST = axes[0].column === "minibatches" ? TRAINS[0] : TESTS[0];
if (runs.length > 1 && has(FIRST)) state.y = FIRST;
const groupOf = runs.map((_, r) => groups.findIndex((group) => group.members.includes(r)));
const membersOf = (row) => (row.dataset.group === undefined ? [Number(row.dataset.run)] : groups[row.dataset.group].members);
const MANY = 12; // settings
const BASELINES = [2, 3, 6, 5, 4], BASELINE_DASHES = ["dash", "dashdot", "dot", "longdashdot"]; // colours as in the run's minibatches.png
const CROWDED = `More than ${MANY} settings with repetitions are in sight: their means alone are drawn. Hide some to see the single runs.`;

function hoverOf(run) {
  const names = Object.keys(NAMES).filter((name) => run.columns[name]);
  const format = (name) => (name === "seconds" ? ":,.2f" : ["epoch", "rounds", "messages", "bytes"].includes(name) ? ":," : ":.6g");
  run.customdata ??= run.columns.epoch.map((_, k) => names.map((name) => run.columns[name][k] ?? "not finite"));
  const lines = names.map((name, k) => `${plain(NAMES[name])} %{customdata[${k}]${format(name)}}`);
  return `<b>${plain(run.label)}</b><br>${lines.join("<br>")}<extra></extra>`;
}

/** Of train and test in one picture, those that are dashed: the ones without many ups and downs. */
const dashedOf = (axis) => (axis.column === "minibatches" ? TESTS : TRAINS);

/** A run against mini-batches: its training as a running mean, what else there is at the ends of its epochs. */
function minibatchTrace(run, trace, column) {
  const told = run.minibatches;
  if (!told) return null;
  const hovertemplate = `<b>${plain(run.label)}</b><br>mini-batch %{x:,}<br>${plain(NAMES[column])}, mean of the last ${told.window.toLocaleString("en")}: %{y:.6g}<extra></extra>`;
  if (column === told.column) return { ...trace, mode: "lines", x: told.x, y: told.y, hovertemplate };
  if (!told.of_epoch) return null;
  return { ...trace, mode: "lines+markers", marker: { ...trace.marker, size: 8 }, cliponaxis: false, x: run.columns.epoch.map((epoch) => epoch * told.of_epoch), y: run.columns[column], customdata: run.customdata };
}

/** What other methods reach on the mini-batches of the only run in sight, and that run's single mini-batches. */
function baselineTraces(axis, measure, said) {
  const shown = runs.filter((run, r) => !state.hidden.has(r) && run.minibatches);
  if (axis.column !== "minibatches" || !shown.length) return [];
  const told = shown[0].minibatches;
  if (!measure.columns.includes(told.column)) return [];
  said.add(`Training against mini-batches: the mean of the last ${[...new Set(shown.map((run) => run.minibatches.window.toLocaleString("en")))].join(" or ")}.`);
  if (shown.length > 1) {
    if (shown.some((run) => run.minibatches.baselines.length)) said.add("What other methods reach on the same mini-batches is drawn where only one run is shown.");
    return [];
  }
  const colour = (k) => colours()[BASELINES[k % BASELINES.length]];
  const lines = told.baselines.map(({ label, x, y }, k) => ({ type: "scatter", mode: x.length > 1 ? "lines" : "markers", x, y, name: plain(label), showlegend: true,
    line: { color: colour(k), width: 1.6, dash: BASELINE_DASHES[k % BASELINE_DASHES.length] }, marker: { color: colour(k), size: 7 }, meta: {}, hovertemplate: `<b>${plain(label)}</b><br>mini-batch %{x:,}<br>running mean %{y:.6g}<extra></extra>` }));
  if (!told.single) return lines;
  const single = { type: "scatter", mode: "markers", ...told.single, showlegend: false, hoverinfo: "skip", meta: {}, marker: { size: 3, opacity: 0.22, color: colours()[1] } };
  return [single, ...lines];
}

/** What other methods reach on the test samples, where all runs in sight have the same. */
function testedTraces(measure, reach) {
  const shown = runs.filter((run, r) => !state.hidden.has(r)), told = shown[0]?.tested ?? [];
  if (!measure.columns.some((column) => TESTS.includes(column))) return [];
  if (shown.some((run) => JSON.stringify(run.tested) !== JSON.stringify(told))) return [];
  return told.map(({ label, y }, k) => ({ type: "scatter", mode: "lines", x: [0, reach], y: [y, y], name: plain(label), showlegend: true,
    line: { color: variable("dim"), width: 1.4, dash: BASELINE_DASHES[k % BASELINE_DASHES.length] }, meta: {}, hovertemplate: `<b>${plain(label)}</b><extra></extra>` }));
}

function memberTrace(r, g, axis, column, style, reach) {
  const run = runs[r], xs = run.columns[axis.column], ys = run.columns[column];
  if (!ys) return null;
  const trace = { type: "scatter", mode: ys.length <= 30 ? "lines+markers" : "lines", hovertemplate: hoverOf(run), meta: { run: r },
    marker: { size: 5, color: style.color }, line: { color: style.color, width: style.width, dash: style.dash }, opacity: style.opacity };
  if (axis.column === "minibatches") return minibatchTrace(run, trace, column);
  if (run.silent && ["rounds", "bytes"].includes(axis.column)) {
    const last = ys.length - 1, ends = [run.customdata[last], run.customdata[last]];
    return { ...trace, mode: "lines", x: [0, reach], y: [ys[last], ys[last]], customdata: ends, line: { ...trace.line, dash: style.both && TESTS.includes(column) ? "longdash" : "dash" } };
  }
  return xs ? { ...trace, x: xs, y: ys, customdata: run.customdata } : null;
}

function meanTrace(traces, label, style) {
  const lengths = traces.map((t) => { const bad = t.y.indexOf(null); return bad < 0 ? t.y.length : bad; });
  const mean = (key, k) => traces.reduce((sum, t) => sum + t[key][k], 0) / traces.length;
  const ks = [...Array(Math.min(...lengths)).keys()];
  return { type: "scatter", mode: ks.length > 1 ? "lines" : "markers", marker: { size: 10, color: style.color }, x: ks.map((k) => mean("x", k)), y: ks.map((k) => mean("y", k)),
    line: { color: style.color, width: style.width, dash: style.dash }, meta: { mean: true },
    hovertemplate: `<b>${plain(label)}</b><br>mean of ${traces.length}: %{y:.6g}<extra></extra>` };
}

/** The end of the horizontal axis. */
function reachOf(axis) {
  const along = (run) => (axis.column === "minibatches" ? run.minibatches?.x : run.columns[axis.column]);
  const ends = runs.map((run, r) => (state.hidden.has(r) || !along(run) ? 0 : along(run).at(-1)));
  return Math.max(1, ...ends.filter((end) => end !== undefined));
}

function curveTraces(axis, measure, said) {
  const shown = groups.map((group) => group.members.filter((r) => !state.hidden.has(r)));
  const columns = measure.columns;
  const reach = reachOf(axis);
  const thin = [], thick = [], crowded = shown.filter((members) => members.length > 1).length > MANY;
  if (crowded) said.add(CROWDED);
  shown.forEach((members, g) => columns.forEach((column) => {
    const single = runs.length === 1;
    const style = { color: colours()[single && !TESTS.includes(column) ? (column === "disagreement" ? 2 : 1) : g % colours().length],
      dash: columns.length > 1 ? (dashedOf(axis).includes(column) ? "dash" : "solid") : dashOf(g), both: columns.length > 1, width: members.length > 1 ? 1 : 2, opacity: members.length > 1 ? 0.5 : 1 };
    const drawn = members.filter((r) => !(column === "disagreement" && runs[r].silent));
    if (drawn.length < members.length) said.add("Runs that send nothing have one set of parameters, so no disagreement: not drawn.");
    const traces = drawn.map((r) => memberTrace(r, g, axis, column, style, reach));
    const unknown = drawn.filter((r, k) => !traces[k] && runs[r].columns.epoch.length);
    if (unknown.length) said.add(`Not drawn, as their files do not say: ${unknown.map((r) => runs[r].label).join(", ")}.`);
    const good = traces.filter(Boolean);
    good.forEach((trace) => { if (members.length > 1 && trace.x.length > 1) trace.mode = "lines"; });
    if (good.length > 1) thick.push(meanTrace(good, groups[g].label, { ...style, width: crowded ? 1.6 : 2.6 }));
    if (good.length === 1 || !crowded) thin.push(...good);
  }));
  return [...thin, ...thick];
}

function divergedMarks(traces) {
  const ends = [];
  traces.forEach((t) => {
    const run = t.meta.run !== undefined && runs[t.meta.run];
    if (!run || run.status !== "diverged" || !t.y.includes(null)) return;
    const last = t.y.indexOf(null) - 1;
    if (last >= 0) ends.push({ x: t.x[last], y: t.y[last], label: run.label, color: t.line.color });
  });
  if (!ends.length) return [];
  return [{ type: "scatter", mode: "markers", x: ends.map((e) => e.x), y: ends.map((e) => e.y), text: ends.map((e) => plain(e.label)),
    marker: { symbol: "x", size: 9, color: ends.map((e) => e.color) }, hovertemplate: "%{text}<br>diverged after this epoch<extra></extra>", meta: {} }];
}

function notesOn(axis, log, traces, said) {
  if (!said.has(CROWDED) && groups.some((group) => group.members.filter((r) => !state.hidden.has(r)).length > 1))
    said.add("Runs that differ in nothing but the seed have one colour: thin lines, and their mean as a thick one.");
  const silent = runs.some((run, r) => run.silent && !state.hidden.has(r));
  if (silent && ["rounds", "bytes"].includes(axis.column))
    said.add("Centralized runs send nothing: a dashed horizontal line is their value after the last epoch, whatever that cost.");
  if (silent && !["rounds", "bytes"].includes(axis.column) && axes.length < DATA.curves.x.length)
    said.add("Centralized training sends nothing, so there is no curve against rounds or bytes.");
  if (log && traces.some((t) => t.y.some((y) => y !== null && y <= 0))) said.add("Values of 0 have no place on a logarithmic scale: not drawn.");
  runs.forEach((run, r) => {
    if (run.status === "diverged" && !state.hidden.has(r)) {
      const measure = measures.find((m) => m.key === state.y).columns.slice(-1)[0];
      const bad = (run.columns[measure] || []).indexOf(null);
      if (bad >= 0) said.add(`${run.label} diverged in epoch ${run.columns.epoch[bad].toLocaleString("en")}${bad === 0 ? ": it has no finite value to draw" : ""}.`);
    }
  });
  if (DATA.curves.step > 1) said.add(`To keep the page small, one epoch in ${DATA.curves.step} is drawn, and the last.`);
  const list = document.getElementById("curve-notes");
  list.replaceChildren(...[...said].map((text) => Object.assign(document.createElement("li"), { textContent: text })));
}

function drawCurves() {
  const axis = axes.find((x) => x.key === state.x), measure = measures.find((y) => y.key === state.y), said = new Set();
  const traces = curveTraces(axis, measure, said);
  const values = traces.flatMap((t) => t.y).filter((y) => y !== null && y > 0);
  const low = values.reduce((a, b) => Math.min(a, b), Infinity), high = values.reduce((a, b) => Math.max(a, b), 0);
  const log = state.scale ? state.scale === "log" : !measure.linear && high / low >= 8;
  const unit = unitOf(axis.column === "bytes" ? reachOf(axis) : 1);
  const beside = [...baselineTraces(axis, measure, said), ...testedTraces(measure, reachOf(axis) / unit.size)];
  notesOn(axis, log, traces, said);
  const div = document.getElementById("curve"), both = measure.columns.length > 1, named = both || beside.length > 0;
  const bytes = axis.column === "bytes";
  const keys = both ? (axis.column === "minibatches" ? ["dash", "solid"] : ["solid", "dash"]).map((dash, k) => ({ type: "scatter", mode: "lines", x: [null], y: [null], name: ["test", "train"][k], showlegend: true,
    line: { dash, width: 2, color: runs.length === 1 ? colours()[k] : variable("dim") }, meta: {}, hoverinfo: "skip" })) : [];
  const own = {
    height: Math.max(340, Math.min(520, 0.42 * div.clientWidth)), hovermode: "closest", showlegend: named,
    xaxis: { title: { text: axis.label + (bytes ? ` (${unit.name})` : "") }, rangemode: "tozero", hoverformat: ",", tickformat: axis.column === "seconds" ? "~g" : bytes ? "" : ",",
      ...(axis.column === "epoch" && reachOf(axis) <= 10 ? { dtick: 1 } : {}), nticks: narrowed(div) ? 5 : 10 },
    yaxis: { title: { text: plain(measure.axis ?? measure.label), standoff: 14 }, ...(log && high / low > 5 ? { dtick: high / low > 300 ? 1 : "D2" } : {}), type: log ? "log" : "linear", tickformat: "~g", exponentformat: "power", nticks: 8 },
  };
  const scaled = [...traces, ...divergedMarks(traces)].map((t) => ({ ...t, x: t.x.map((x) => x / unit.size), showlegend: false }));
  const all = [...beside.filter((t) => !t.showlegend), ...scaled, ...keys, ...beside.filter((t) => t.showlegend)];
  Plotly.react(div, all, layout(own), configOf(div));
  Object.assign(div.dataset, { x: state.x, y: state.y, scale: log ? "log" : "linear", traces: all.length });
  showState(log);
}

function showState(log) {
  const pressed = { x: state.x, y: state.y, scale: log ? "log" : "linear" };
  for (const [id, key] of Object.entries(pressed))
    find("button", document.getElementById(id)).forEach((b) => b.setAttribute("aria-pressed", String(b.dataset.key === key)));
  find("#legend button[data-group]").forEach((b) => {
    const members = groups[b.dataset.group].members;
    b.setAttribute("aria-pressed", String(members.some((r) => !state.hidden.has(r))));
    b.querySelector("i").style.color = colourOf(Number(b.dataset.group));
  });
  find(".toggles tbody tr").forEach((row) => {
    const members = membersOf(row), on = members.some((r) => !state.hidden.has(r)), g = groupOf[members[0]];
    const button = row.querySelector("button"), swatch = row.querySelector("i");
    button.setAttribute("aria-pressed", String(on));
    button.classList.toggle("off", !on);
    swatch.style.color = colourOf(g);
    swatch.style.borderTopStyle = styleOf(g);
  });
}

const styleOf = (g) => ({ solid: "solid", dash: "dashed", dot: "dotted", dashdot: "double" })[dashOf(g)];
