"""From runs to the text of the page: one HTML file with its data, its style, its scripts and plotly.js."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import YamlLexer

from fdtrain import __version__
from fdtrain.figures.canvas import readable
from fdtrain.report import charts, curves, network, tables
from fdtrain.report.compare import Group, common, differing, group
from fdtrain.report.plans import plans
from fdtrain.report.read import Run

SCRIPTS = ("theme", "figures", "curves", "controls")
MAX_DRAWN = 150_000  # nodes and edges of all networks together


def render(runs: Sequence[Run], notes: Sequence[str], title: str | None = None) -> str:
    """The whole page as HTML."""
    groups = group(runs)
    figures: dict[str, Any] = {}
    ledger = charts.ledger(runs, groups)
    if ledger is not None:
        figures["bytes"] = ledger
    known, unknown = plans(runs)
    for number, plan in enumerate(known):
        figures[f"schedule-{number}"] = charts.schedule(plan.schedule)
    networks = _networks(runs, figures)
    comparison, same = tables.compare(runs)
    singles = [Group(run.label, [r]) for r, run in enumerate(runs)]
    repeated = any(len(one.members) > 1 for one in groups)
    summary, summed = tables.summary(runs, groups) if repeated else (None, "")
    chosen = next((r for r, run in enumerate(runs) if not run.silent), 0)
    environment = jinja()
    context = {
        "title": title or _title(runs),
        "made": f"{time.strftime('%Y-%m-%d %H:%M')} by fdtrain {__version__}",
        "runs": [_view(run) for run in runs],
        "notes": notes,
        "troubles": _troubles(runs),
        "origin": tables.origin(runs),
        "comparison": comparison,
        "same": same,
        "summary": summary,
        "summed": summed,
        "beside": any(run.published for run in runs),
        "chosen": chosen,
        "plans": known,
        "shown_rounds": charts.SHOWN_ROUNDS,
        "unknown_plans": unknown,
        "networks": networks,
        "settings": tables.by_group(groups, differing([run.config for run in runs])),
        "environments": tables.by_group(singles, differing([run.environment for run in runs])),
        "environment": tables.pairs(common([run.environment for run in runs])),
        "bytes": ledger is not None,
        "phases": {line["phase"] for run in runs for line in run.ledger or ()},
        "data": embed({"curves": curves.curves(runs, groups), "figures": figures, "chosen": str(chosen)}),
        "style": Markup(_asset("page.css")),
        "scripts": [Markup(_asset(f"{name}.js")) for name in SCRIPTS],
        "plotly": Markup(get_plotlyjs()),
    }
    return environment.get_template("page.html.j2").render(context)


def jinja() -> Environment:
    """Templates that escape whatever is put into them and are not silent about what is missing."""
    loader = PackageLoader("fdtrain.report", "")
    return Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )


def embed(content: Any) -> Markup:
    """JSON that can stand in a ``<script>``: nothing in it ends the element or opens a comment."""
    text = json.dumps(content, allow_nan=False, separators=(",", ":"))  # ASCII: no U+2028 either
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _asset(name: str) -> str:
    return (files("fdtrain.report") / name).read_text(encoding="utf-8")


def _title(runs: Sequence[Run]) -> str:
    names = list(dict.fromkeys(str(run.config.get("name", run.label)) for run in runs))
    if len(runs) == 1:
        return names[0]
    sweeps = {run.path.resolve().parent.parent.name if run.axes else None for run in runs}
    if len(sweeps) == 1 and None not in sweeps:
        return f"{sweeps.pop()}: {len(runs)} runs"
    return f"{len(runs)} runs of {names[0]}" if len(names) == 1 else f"{len(runs)} runs"


def _troubles(runs: Sequence[Run]) -> dict[str, list[str]]:
    """What is wrong with the files of which runs."""
    found: dict[str, list[str]] = {}
    for run in runs:
        for note in run.notes:
            found.setdefault(note, []).append(run.label)
    return found


def _view(run: Run) -> dict[str, Any]:
    return {
        "label": run.label,
        "path": str(run.path),
        "facts": tables.headline(run),
        "results": tables.results(run),
        "silent": run.silent,
        "ledger": tables.ledger(run),
        "verification": tables.verification(run),
        "centralized": run.setting("training.mode") == "centralized",
        "of_node": f"test {run.measure.of_node}",
        "yaml": Markup(highlight(run.config_text, YamlLexer(), HtmlFormatter(nowrap=True))),  # it escapes
    }


def _networks(runs: Sequence[Run], figures: dict[str, Any]) -> list[list[str]]:
    """Add every run's network to `figures`; return what there is to say about each."""
    said, drawn = [], 0
    places: dict[bytes, Any] = {}
    for number, run in enumerate(runs):
        if run.network is None:
            said.append(["The run has no network.npz."])
            continue
        graph, loss = run.network
        what = f"test {run.measure.of_node}"
        lines = [f"{graph.num_nodes:,} nodes, {graph.num_edges:,} edges."]
        key = graph.indptr.tobytes() + graph.indices.tobytes()
        key += b"" if graph.positions is None else graph.positions.tobytes()
        edges = graph.num_edges if network.has_edges(graph) else 0
        drawn += graph.num_nodes + edges
        if drawn > MAX_DRAWN:
            drawn -= graph.num_nodes + edges
            lines.append("Not drawn, to keep this page small; make a report on this run alone.")
        else:
            if key not in places:
                places[key] = network.places(graph)
            figures[f"network-{number}"] = network.draw(graph, loss, places[key], run.measure)
            if places[key] is None:
                lines.append(f"Too many to be drawn one by one: numbers of nodes by degree and {what}.")
            elif not edges and graph.num_edges:
                lines.append("The edges are not drawn: they would cover the nodes.")
        bad = int(np.isnan(readable(loss)).sum())
        if len(loss) != graph.num_nodes:
            lines.append(f"No {what} of the nodes yet.")
        elif bad:
            lines.append(f"{'All' if bad == len(loss) else f'{bad:,}'} nodes have no finite {what}: grey.")
        said.append(lines)
    return said
