// What the reader does: selectors, legend, tables; and the address of the page, which remembers it.

function remember() {
  const parts = [["x", state.x], ["y", state.y], ["scale", state.scale], ["run", state.run === DATA.chosen ? "" : state.run],
    ["schedule", state.schedule === "0" ? "" : state.schedule], ["hide", [...state.hidden].join(".")]].filter(([, value]) => value);
  try { history.replaceState(null, "", `#${parts.map(([key, value]) => `${key}=${value}`).join("&")}`); } catch { /* not allowed here: no link then */ }
}

function recall() {
  const asked = new URLSearchParams(location.hash.slice(1));
  if (axes.some((x) => x.key === asked.get("x"))) state.x = asked.get("x");
  if (measures.some((y) => y.key === asked.get("y"))) state.y = asked.get("y");
  if (["log", "linear"].includes(asked.get("scale"))) state.scale = asked.get("scale");
  if (asked.has("hide")) state.hidden = new Set(asked.get("hide").split(".").map(Number).filter((r) => r < runs.length));
  for (const what of ["run", "schedule"])
    if (find(`[data-panel="${what}"][data-key="${CSS.escape(asked.get(what) ?? "")}"]`).length) pick(what, asked.get(what));
}

function change(update) { update(); drawCurves(); remember(); }

function choices(id, options) {
  for (const { key, label } of options) {
    const button = Object.assign(document.createElement("button"), { type: "button", textContent: label });
    button.dataset.key = key;
    button.addEventListener("click", () => change(() => { state[id] = key; }));
    document.getElementById(id).append(button);
  }
}

function toggle(members, alone) {
  const every = runs.map((_, r) => r), on = members.some((r) => !state.hidden.has(r));
  if (alone) state.hidden = new Set(every.filter((r) => !members.includes(r)));
  else members.forEach((r) => (on ? state.hidden.add(r) : state.hidden.delete(r)));
}

function legend() {
  if (runs.length === 1) return;
  const box = document.getElementById("legend");
  const chip = (text, title, act) => {
    const button = Object.assign(document.createElement("button"), { type: "button", title });
    button.append(text);
    button.addEventListener("click", act);
    box.append(button);
    return button;
  };
  groups.forEach((group, g) => {
    const button = chip(group.label, "Click: show or hide; double click: this one alone", () => change(() => toggle(group.members, false)));
    button.dataset.group = g;
    const swatch = Object.assign(document.createElement("i"), { className: "swatch" });
    swatch.style.borderTopStyle = styleOf(g);
    button.prepend(swatch);
    if (group.members.length > 1) button.append(` (${group.members.length} seeds)`);
    button.addEventListener("dblclick", () => change(() => toggle(group.members, true)));
  });
  chip("show all", "Show all runs", () => change(() => state.hidden.clear())).classList.add("all");
  chip("hide all", "Hide all runs", () => change(() => runs.forEach((_, r) => state.hidden.add(r)))).classList.add("all");
  find(".toggles tr button").forEach((button) => {
    const members = membersOf(button.closest("tr"));
    button.addEventListener("click", () => change(() => toggle(members, false)));
  });
}

function sortBy(heading) {
  const table = heading.closest("table"), body = table.tBodies[0], column = heading.cellIndex;
  const down = heading.getAttribute("aria-sort") === "ascending";
  const value = (row) => { const cell = row.cells[column]; return cell.dataset.sort ? Number(cell.dataset.sort) : cell.textContent.trim() === "–" ? Infinity : cell.textContent.trim(); };
  const order = (a, b) => (typeof a === "number" && typeof b === "number" ? (a === b ? 0 : a - b) : String(a).localeCompare(String(b), "en", { numeric: true }));
  const rows = [...body.rows].sort((a, b) => (down ? -1 : 1) * order(value(a), value(b)));
  find("th[aria-sort]", table).forEach((th) => th.removeAttribute("aria-sort"));
  heading.setAttribute("aria-sort", down ? "descending" : "ascending");
  body.append(...rows);
}

function sortable() {
  find(".sortable thead th").forEach((heading) => {
    heading.tabIndex = 0;
    heading.addEventListener("click", () => sortBy(heading));
    heading.addEventListener("keydown", (event) => { if (event.key === "Enter") sortBy(heading); });
  });
}

async function copy(button) {
  const text = button.parentElement.querySelector("pre");
  try {
    await navigator.clipboard.writeText(text.textContent);
    button.textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(text); // no clipboard from a file: the reader presses Ctrl+C
    button.textContent = "Selected";
  }
  setTimeout(() => { button.textContent = "Copy"; }, 1500);
}

choices("x", axes);
choices("y", measures);
choices("scale", [{ key: "linear", label: "linear" }, { key: "log", label: "log" }]);
legend();
sortable();
find("select[data-pick]").forEach((select) => select.addEventListener("change", () => { pick(select.dataset.pick, select.value); remember(); }));
find("[data-show]").forEach((button) => button.addEventListener("click", () => showRounds(button)));
find(".copy").forEach((button) => button.addEventListener("click", () => copy(button)));
dark.addEventListener("change", () => { drawCurves(); drawFigures(true); find("[data-figure][data-drawn]").filter((d) => !visible(d)).forEach((d) => delete d.dataset.drawn); });
const fit = new ResizeObserver((seen) => seen.forEach(({ target }) => { if (target.layout && target.clientWidth) Plotly.Plots.resize(target); }));
find(".chart").forEach((div) => fit.observe(div));
addEventListener("hashchange", () => { recall(); drawCurves(); });
recall();
drawCurves();
drawFigures(false);
document.documentElement.dataset.ready = "yes";
