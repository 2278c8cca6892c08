"""fdtrain: train graph neural networks on the network itself, over real messages between neighbours.

The Python API is :func:`run` and :func:`resume`; the pieces can be used alone: :class:`Graph`, :class:`Gcnn`, the
optimizers, :class:`Metropolis`, :class:`Laplacian`, :func:`build_schedule`, :class:`Engine`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fdtrain.config import Config as Config
    from fdtrain.driver import Run as Run
    from fdtrain.driver import resume as resume
    from fdtrain.driver import run as run
    from fdtrain.engine import Engine as Engine
    from fdtrain.errors import DivergenceError as DivergenceError
    from fdtrain.errors import InputError as InputError
    from fdtrain.graph import Graph as Graph
    from fdtrain.layers.gcnn import Gcnn as Gcnn
    from fdtrain.mixing import Laplacian as Laplacian
    from fdtrain.mixing import Metropolis as Metropolis
    from fdtrain.optim.adam import Adam as Adam
    from fdtrain.optim.dadam import DAdam as DAdam
    from fdtrain.optim.damsgrad import DAMSGrad as DAMSGrad
    from fdtrain.optim.dsgd import DSGD as DSGD
    from fdtrain.optim.gradient_tracking import GradientTracking as GradientTracking
    from fdtrain.optim.naive import Naive as Naive
    from fdtrain.optim.rates import Constant as Constant
    from fdtrain.optim.sgd import SGD as SGD
    from fdtrain.schedule import build as build_schedule  # noqa: F401 - __all__ comes from _PLACES

# Ranks start light: a name is imported when it is first used.
_PLACES = {
    "Adam": ("fdtrain.optim.adam", "Adam"),
    "Config": ("fdtrain.config", "Config"),
    "Constant": ("fdtrain.optim.rates", "Constant"),
    "DAMSGrad": ("fdtrain.optim.damsgrad", "DAMSGrad"),
    "DAdam": ("fdtrain.optim.dadam", "DAdam"),
    "DSGD": ("fdtrain.optim.dsgd", "DSGD"),
    "DivergenceError": ("fdtrain.errors", "DivergenceError"),
    "Engine": ("fdtrain.engine", "Engine"),
    "Gcnn": ("fdtrain.layers.gcnn", "Gcnn"),
    "GradientTracking": ("fdtrain.optim.gradient_tracking", "GradientTracking"),
    "Graph": ("fdtrain.graph", "Graph"),
    "InputError": ("fdtrain.errors", "InputError"),
    "Laplacian": ("fdtrain.mixing", "Laplacian"),
    "Metropolis": ("fdtrain.mixing", "Metropolis"),
    "Naive": ("fdtrain.optim.naive", "Naive"),
    "Run": ("fdtrain.driver", "Run"),
    "SGD": ("fdtrain.optim.sgd", "SGD"),
    "build_schedule": ("fdtrain.schedule", "build"),
    "resume": ("fdtrain.driver", "resume"),
    "run": ("fdtrain.driver", "run"),
}

__all__ = [*_PLACES]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'fdtrain' has no attribute '{name}'")
    module, attribute = _PLACES[name]
    return getattr(import_module(module), attribute)
