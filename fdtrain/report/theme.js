// The page's data, colours, and what all charts share.

addEventListener("error", ({ message }) => {
  const said = Object.assign(document.createElement("p"), { id: "failure", className: "note", textContent: `A script of this page failed: ${message}` });
  document.body.prepend(said);
});

const DATA = JSON.parse(document.getElementById("data").textContent);
const { runs, groups } = DATA.curves;
const dark = matchMedia("(prefers-color-scheme: dark)");
// Okabe and Ito's colours; lightened on a dark ground. Yellow is left out: nobody sees it as a line on white.
const COLOURS = {
  light: ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#3A3A3A"],
  dark: ["#3F9BDC", "#F27B35", "#26BF93", "#E29AC3", "#F0B53A", "#9AD3F5", "#D5D8DC"],
};
const DASHES = ["solid", "dash", "dot", "dashdot"];
const INKS = { features: 0, backward: 1, slice: 2, consensus: 3 };
const colours = () => COLOURS[dark.matches ? "dark" : "light"];
const colourOf = (g) => colours()[g % colours().length];
const dashOf = (g) => DASHES[Math.floor(g / colours().length) % DASHES.length];
const variable = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const plain = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
const find = (selector, within = document) => [...within.querySelectorAll(selector)];
const BUTTONS = [["toImage"], ["zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d"]]; // and none that sends the data elsewhere
/** The unit in which bytes up to `most` are read. */
function unitOf(most) {
  const power = Math.min(4, Math.max(0, Math.floor(Math.log10(most) / 3)));
  return { name: ["B", "kB", "MB", "GB", "TB"][power], size: 1000 ** power };
}
const narrowed = (div) => div.clientWidth < 600;
const configOf = (div) => ({ displaylogo: false, plotlyServerURL: "", modeBarButtons: BUTTONS, displayModeBar: !narrowed(div) });

function layout(own) {
  const axis = {
    gridcolor: variable("grid"), linecolor: variable("line"), zerolinecolor: variable("line"),
    tickcolor: variable("line"), automargin: true, showline: true,
  };
  const font = { family: getComputedStyle(document.body).fontFamily, size: 13, color: variable("ink") };
  const base = {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font, margin: { l: 12, r: 30, t: 34, b: 12 },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: variable("dim"), activecolor: variable("ink") },
    hoverlabel: { bgcolor: variable("panel"), bordercolor: variable("line"), font: { ...font, size: 12.5 }, align: "left" },
    legend: { orientation: "h", x: 0, y: 1, yanchor: "bottom", traceorder: "normal" },
  };
  const all = { ...base, ...own };
  all.xaxis = { ...axis, ...own.xaxis };
  all.yaxis = { ...axis, ...own.yaxis };
  if (all.xaxis.rangeslider) all.xaxis.rangeslider = { ...all.xaxis.rangeslider, bgcolor: variable("panel"), bordercolor: variable("line"), borderwidth: 1 };
  return all;
}
