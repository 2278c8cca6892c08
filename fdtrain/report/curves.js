// Curves: traces of the runs that are shown, against what is chosen.

const measures = DATA.curves.y.map((y) => ({ ...y, columns: [y.key] }));
const has = (key) => measures.some((measure) => measure.key === key);
if (has("mse_train") && has("mse_test") && groups.length <= 7)
  measures.unshift({ key: "mse", label: "train and test MSE", columns: ["mse_train", "mse_test"] });
const axes = DATA.curves.x.filter((x) => !["rounds", "bytes"].includes(x.column) || runs.some((run) => !run.silent));
const NAMES = { epoch: "epoch", rounds: "rounds", messages: "messages", bytes: "bytes over links", seconds: "seconds" };
DATA.curves.y.forEach((y) => { NAMES[y.key] = y.label; });
const state = { x: axes[0].key, y: measures[0].key, scale: "", run: DATA.chosen, schedule: "0", hidden: new Set() };
if (runs.length > 1 && has("mse_test")) state.y = "mse_test";
const groupOf = runs.map((_, r) => groups.findIndex((group) => group.members.includes(r)));
const membersOf = (row) => (row.dataset.group === undefined ? [Number(row.dataset.run)] : groups[row.dataset.group].members);
const MANY = 12; // settings
const CROWDED = `More than ${MANY} settings with repetitions are in sight: their means alone are drawn. Hide some to see the single runs.`;

function hoverOf(run) {
  const names = Object.keys(NAMES).filter((name) => run.columns[name]);
  const format = (name) => (name === "seconds" ? ":,.2f" : ["epoch", "rounds", "messages", "bytes"].includes(name) ? ":," : ":.6g");
  run.customdata ??= run.columns.epoch.map((_, k) => names.map((name) => run.columns[name][k] ?? "not finite"));
  const lines = names.map((name, k) => `${plain(NAMES[name])} %{customdata[${k}]${format(name)}}`);
  return `<b>${plain(run.label)}</b><br>${lines.join("<br>")}<extra></extra>`;
}

function memberTrace(r, g, axis, column, style, reach) {
  const run = runs[r], xs = run.columns[axis.column], ys = run.columns[column];
  if (!ys) return null;
  const trace = { type: "scatter", mode: ys.length <= 30 ? "lines+markers" : "lines", hovertemplate: hoverOf(run), meta: { run: r },
    marker: { size: 5, color: style.color }, line: { color: style.color, width: style.width, dash: style.dash }, opacity: style.opacity };
  if (run.silent && ["rounds", "bytes"].includes(axis.column)) {
    const last = ys.length - 1, ends = [run.customdata[last], run.customdata[last]];
    return { ...trace, mode: "lines", x: [0, reach], y: [ys[last], ys[last]], customdata: ends, line: { ...trace.line, dash: style.both && column === "mse_test" ? "longdash" : "dash" } };
  }
  return xs ? { ...trace, x: xs, y: ys, customdata: run.customdata } : null;
}

function meanTrace(traces, label, style) {
  const lengths = traces.map((t) => { const bad = t.y.indexOf(null); return bad < 0 ? t.y.length : bad; });
  const mean = (key, k) => traces.reduce((sum, t) => sum + t[key][k], 0) / traces.length;
  const ks = [...Array(Math.min(...lengths)).keys()];
  return { type: "scatter", mode: "lines", x: ks.map((k) => mean("x", k)), y: ks.map((k) => mean("y", k)),
    line: { color: style.color, width: style.width, dash: style.dash }, meta: { mean: true },
    hovertemplate: `<b>${plain(label)}</b><br>mean of ${traces.length}: %{y:.6g}<extra></extra>` };
}

/** The end of the horizontal axis. */
function reachOf(axis) {
  const ends = runs.map((run, r) => (state.hidden.has(r) || !run.columns[axis.column] ? 0 : run.columns[axis.column].at(-1)));
  return Math.max(1, ...ends);
}

function curveTraces(axis, measure, said) {
  const shown = groups.map((group) => group.members.filter((r) => !state.hidden.has(r)));
  const columns = measure.columns;
  const reach = reachOf(axis);
  const thin = [], thick = [], crowded = shown.filter((members) => members.length > 1).length > MANY;
  if (crowded) said.add(CROWDED);
  shown.forEach((members, g) => columns.forEach((column) => {
    const single = runs.length === 1;
    const style = { color: colours()[single && column !== "mse_test" ? (column === "disagreement" ? 2 : 1) : g % colours().length],
      dash: columns.length > 1 ? (column === "mse_train" ? "dash" : "solid") : dashOf(g), both: columns.length > 1, width: members.length > 1 ? 1 : 2, opacity: members.length > 1 ? 0.5 : 1 };
    const drawn = members.filter((r) => !(column === "disagreement" && runs[r].silent));
    if (drawn.length < members.length) said.add("Runs that send nothing have one set of parameters, so no disagreement: not drawn.");
    const traces = drawn.map((r) => memberTrace(r, g, axis, column, style, reach));
    if (traces.includes(null)) said.add(`Not drawn, as their files do not say: ${drawn.filter((_, k) => !traces[k]).map((r) => runs[r].label).join(", ")}.`);
    const good = traces.filter(Boolean);
    good.forEach((trace) => { if (members.length > 1) trace.mode = "lines"; });
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
  const log = state.scale ? state.scale === "log" : high / low >= 8;
  notesOn(axis, log, traces, said);
  const div = document.getElementById("curve"), named = measure.columns.length > 1;
  const bytes = axis.column === "bytes", unit = unitOf(bytes ? reachOf(axis) : 1);
  const keys = named ? ["solid", "dash"].map((dash, k) => ({ type: "scatter", mode: "lines", x: [null], y: [null], name: ["test", "train"][k], showlegend: true,
    line: { dash, width: 2, color: runs.length === 1 ? colours()[k] : variable("dim") }, meta: {}, hoverinfo: "skip" })) : [];
  const own = {
    height: Math.max(340, Math.min(520, 0.42 * div.clientWidth)), hovermode: "closest", showlegend: named,
    xaxis: { title: { text: axis.label + (bytes ? ` (${unit.name})` : "") }, rangemode: "tozero", hoverformat: ",", tickformat: axis.column === "seconds" ? "~g" : bytes ? "" : ",",
      ...(axis.column === "epoch" && reachOf(axis) <= 10 ? { dtick: 1 } : {}), nticks: narrowed(div) ? 5 : 10 },
    yaxis: { title: { text: plain(measure.label), standoff: 14 }, ...(log && high / low > 5 ? { dtick: high / low > 300 ? 1 : "D2" } : {}), type: log ? "log" : "linear", tickformat: "~g", exponentformat: "power", nticks: 8 },
  };
  const scaled = [...traces, ...divergedMarks(traces)].map((t) => ({ ...t, x: t.x.map((x) => x / unit.size), showlegend: false }));
  const all = [...scaled, ...keys];
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
