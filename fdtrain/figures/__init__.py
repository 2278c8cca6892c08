"""Pictures for a report, PNG files drawn without a display: a run's curves, a network, a schedule, runs compared.

Matplotlib is imported when the first picture is drawn: that takes longer than a small run.
"""

from fdtrain.figures.comparison import Lower, Series, draw_comparison
from fdtrain.figures.connectivity import draw_connectivity
from fdtrain.figures.curves import draw_run
from fdtrain.figures.lines import Line, draw_lines
from fdtrain.figures.network import draw_topology, layout
from fdtrain.figures.profile import draw_profile
from fdtrain.figures.scatter import Point, draw_scatter
from fdtrain.figures.sizes import draw_sizes
from fdtrain.figures.timetable import draw_schedule

__all__ = [
    "Line",
    "Lower",
    "Point",
    "Series",
    "draw_comparison",
    "draw_connectivity",
    "draw_lines",
    "draw_profile",
    "draw_run",
    "draw_scatter",
    "draw_schedule",
    "draw_sizes",
    "draw_topology",
    "layout",
]
