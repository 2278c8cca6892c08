"""DESIGN's rules on who may know whom, read off the import statements of the package."""

import ast
from collections.abc import Iterator
from importlib.util import resolve_name
from pathlib import Path

import pytest

import fdtrain

PACKAGE = Path(fdtrain.__file__).parent
CORE = (
    "layers",
    "optim",
    "losses",
    "mixing",
    "programs",
    "shifts",
    "schedule",
    "schemes",
    "rounds",
    "formulas",
    "partition",
    "precision",
    "graph",
)
# What runs on all ranks, and so has to start fast and to know no configuration.
ON_RANKS = (
    *CORE,
    "worker",
    "forkserver",
    "launcher",
    "training",
    "arrays",
    "reports",
    "scans",
    "disagreement",
    "drawing",
    "features",
    "bench_orders",
    "compiled",
    "decisions",
    "engine",
    "passes",
    "channel_network",
    "networks",
    "aggregate",
    "wire",
    "narrow",
    "ledger",
    "rng",
    "scale.orders",
    "channel.fates",
    "channel.features",
    "channel.late",
    "channel.links",
    "channel.parameters",
    "channel.push_sum",
    "channel.spec",
    "channel.state",
    "channel.wire",
    "states",
    "snapshot",
    "job",
    "kernels",
    "profile",
    "measure",
    "team",
    "errors",
    "stopping",
    "stacks",
    "limits",
    "leftovers",
    "processes",
    "transport",
    "turns",
    "local_greedy",
)
DRIVER = (
    "accuracy",
    "channel.section",
    "baseline",
    "bench",
    "bench_networks",
    "checkpoint",
    "cli",
    "commands",
    "config",
    "cost",
    "driver",
    "environment",
    "evaluation",
    "execution",
    "exact_consensus",
    "experiment",
    "explain",
    "figures",
    "footprint",
    "jobs",
    "learning_rates",
    "memory",
    "minibatches",
    "observer",
    "models",
    "mpi_job",
    "optimizers",
    "oracles",
    "outputs",
    "partitioners",
    "placement",
    "precision_section",
    "problems",
    "progress",
    "reference",
    "report",
    "resources",
    "restarts",
    "resumption",
    "rundir",
    "scale.command",
    "scale.fit",
    "scale.machines",
    "scale.measured",
    "scale.pictures",
    "scale.points",
    "scale.predict",
    "scale.radio",
    "scale.study",
    "scale.table",
    "scale.work",
    "scheduling",
    "scheduling_oracles",
    "schema",
    "section",
    "service",
    "sizes",
    "summary",
    "sweep",
    "tasks",
    "timeline",
    "topology",
    "trained",
    "trajectory",
    "trials",
    "verify",
    "weights_file",
    "yamlfile",
)


def name_of(file: Path) -> str:
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(file): file for file in sorted(PACKAGE.rglob("*.py"))}


def inside(name: str, *packages: str) -> bool:
    """Whether the module `name` is one of fdtrain's `packages`, or within it."""
    return any(f"{name}.".startswith(f"fdtrain.{package}.") for package in packages)


def statements(tree: ast.AST, *, everywhere: bool) -> Iterator[ast.AST]:
    """All nodes; or those that run when the module is imported (not in functions, not for type checkers)."""
    for node in ast.iter_child_nodes(tree):
        delayed = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        typing_only = isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        if everywhere or not (delayed or typing_only):
            yield node
            yield from statements(node, everywhere=everywhere)


def imports_of(source: str, module: str, *, package: bool = False, everywhere: bool = True) -> set[str]:
    """The full names of all modules that `source` imports, and of what it takes from them."""
    found: set[str] = set()
    home = module if package else module.rpartition(".")[0]
    for node in statements(ast.parse(source), everywhere=everywhere):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            origin = "." * node.level + (node.module or "")
            origin = resolve_name(origin, home) if node.level else origin
            found |= {origin, *(f"{origin}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            found |= {a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)}
    return found


def imports(module: str, *, everywhere: bool = True) -> set[str]:
    file = MODULES[module]
    package = file.name == "__init__.py"
    return imports_of(file.read_text(encoding="utf-8"), module, package=package, everywhere=everywhere)


def of(library: str, names: set[str]) -> set[str]:
    return {name for name in names if f"{name}.".startswith(f"{library}.")}


def test_the_reader_of_imports_sees_them_all() -> None:
    source = """
import a.b as c
from .wire import Wire
from .. import top
from fdtrain import config
if TYPE_CHECKING:
    import typed
try:
    import tried
except ImportError:
    pass
class K:
    import held
    def f(self):
        import late
        from fdtrain.cli import app
        import_module("by_name")
"""
    at_once = {
        "a.b",
        "fdtrain.x.wire",
        "fdtrain.x.wire.Wire",
        "fdtrain",
        "fdtrain.top",
        "fdtrain.config",
        "tried",
        "held",
    }
    late = {"typed", "late", "fdtrain.cli", "fdtrain.cli.app", "by_name"}
    assert imports_of(source, "fdtrain.x.y", everywhere=False) == at_once
    assert imports_of(source, "fdtrain.x.y") == at_once | late


def test_every_module_that_is_named_here_exists() -> None:
    for name in (*ON_RANKS, *DRIVER):
        assert f"fdtrain.{name}" in MODULES


def test_only_the_transport_and_the_entries_of_the_ranks_import_mpi() -> None:
    users = {module for module in MODULES if of("mpi4py", imports(module))}
    assert users == {
        "fdtrain.transport.mpi",
        "fdtrain.transport.persistent",
        "fdtrain.worker",
        "fdtrain.forkserver",
    }
    assert not of(
        "mpi4py", imports("fdtrain.forkserver", everywhere=False)
    )  # only in the process that forks ranks


def test_only_the_topology_imports_networkx() -> None:
    users = {module for module in MODULES if of("networkx", imports(module))}
    assert users
    assert all(inside(module, "topology") for module in users), users


def test_the_oracle_shares_no_code_with_what_it_checks() -> None:
    oracle = [module for module in MODULES if inside(module, "reference")]
    used = {name for module in oracle for name in of("fdtrain", imports(module))}
    assert {name for name in used if not inside(name, "reference")} == {
        "fdtrain.errors",
        "fdtrain.errors.InputError",
        "fdtrain.rng",  # of the given draws alone
        "fdtrain.rng.uniforms",
    }


@pytest.mark.parametrize("module", [module for module in MODULES if inside(module, *CORE)])
def test_the_mathematics_knows_no_ranks_and_no_driver(module: str) -> None:
    for name in imports(module):
        assert not inside(
            name,
            "transport",
            "wire",
            "engine",
            "passes",
            "networks",
            "channel_network",
            "turns",
            "local_greedy",
            "training",
            "team",
            "worker",
            *DRIVER,
        ), name
        assert not of("mpi4py", {name})


@pytest.mark.parametrize("module", [module for module in MODULES if inside(module, *ON_RANKS)])
def test_ranks_import_nothing_of_the_drivers(module: str) -> None:
    for name in imports(module, everywhere=False):
        assert not inside(name, *DRIVER), name
        for library in ("pydantic", "yaml", "rich", "typer", "matplotlib", "networkx", "scipy.sparse"):
            assert not of(library, {name}), name


def test_the_list_of_the_ranks_modules_is_complete() -> None:
    """Whatever they import of fdtrain is held to the same rule."""
    for module in MODULES:
        if inside(module, *ON_RANKS):
            for name in of("fdtrain", imports(module, everywhere=False)):
                assert name == "fdtrain" or inside(name, *ON_RANKS), f"{module} imports {name}"
