"""What the documentation shows works: commands, Python, YAML, links; and all shipped configurations build."""

from __future__ import annotations

import re
import shlex
import shutil
import signal
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from fdtrain import cli, config, resources, yamlfile
from fdtrain.driver import run
from fdtrain.experiment import build
from fdtrain.rundir import is_complete
from fdtrain.scale import points, study
from fdtrain.scale.machines import load_machine, write_machine
from fdtrain.sweep import plan

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
SHIPPED = sorted((ROOT / "configs").rglob("*.yaml"))
CONFIGS = [file for file in SHIPPED if resources.kind_of(file) == "configuration"]
SWEEPS = [file for file in SHIPPED if resources.is_sweep(file)]
SHELL = ("console", "bash", "sh", "shell")
GROUP: Any = typer.main.get_command(cli.app)

pytestmark = pytest.mark.skipif(not README.is_file(), reason="needs a source checkout")


def blocks(page: Path, *languages: str) -> list[str]:
    """The code blocks of a page."""
    found = re.findall(r"^```(\w+)\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [text for language, text in found if language in languages]


def shell_lines(page: Path) -> Iterator[list[str]]:
    for block in blocks(page, *SHELL):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line.removeprefix("$ "), comments=True)
            if words:
                yield words


def header_lines(file: Path) -> Iterator[list[str]]:
    """The commands in the comment at the top of a configuration."""
    for line in file.read_text(encoding="utf-8").splitlines():
        if re.match(r"#   fdtrain ", line):
            yield shlex.split(line.removeprefix("#"), comments=True)


def fdtrain_arguments(words: list[str]) -> list[str] | None:
    """The arguments of ``fdtrain`` in a command line, with whatever stands before it."""
    if words[0] == "launch/laptop.sh":
        return ["run", *words[1:]]
    starts = [k for k, word in enumerate(words) if Path(word).name == "fdtrain"]
    return words[starts[0] + 1 :] if starts and words[0] != "export" else None


def commands() -> dict[str, list[str]]:
    """Every command line of fdtrain that a reader is shown, once."""
    lines = [*(line for page in PAGES for line in shell_lines(page))]
    lines += [line for file in SHIPPED for line in header_lines(file)]
    found = (fdtrain_arguments(line) for line in lines)
    return {" ".join(arguments): arguments for arguments in found if arguments}


COMMANDS = commands()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory as a reader has it: the README's files, and what all Python blocks wrote."""
    path = tmp_path_factory.mktemp("reader")
    (path / "configs").symlink_to(ROOT / "configs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        for page in PAGES:
            for block in blocks(page, "python"):
                exec(compile(block, page.name, "exec"), {})
    for block in blocks(README, "yaml"):
        named = re.match(r"# (\S+\.yaml)\n", block)
        if named:
            (path / named.group(1)).write_text(block, encoding="utf-8")
    return path


def test_python_blocks_run(folder: Path) -> None:
    assert len(blocks(README, "python")) >= 3
    assert (folder / "data.npz").is_file()
    assert (folder / "mine.yaml").is_file()


def test_there_are_commands_of_every_kind() -> None:
    assert {arguments[0] for arguments in COMMANDS.values()} == set(GROUP.commands)


FEW_GRAPHS = ["topology.nodes=10", "topology.mean_degree=[2, 4]", "task.graphs=2", "task.test_graphs=1"]
FEW_GRAPHS += ["training.epochs=1", "training.batch=4"]


@pytest.fixture
def own_handlers() -> Iterator[None]:
    """Whatever a command does about signals is over with the test."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("own_handlers")
@pytest.mark.parametrize("name", COMMANDS)
def test_commands_run(name: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command that is shown, on one rank; training for one epoch, in as few rounds as there can be."""
    monkeypatch.chdir(folder)
    command, *rest = [word.replace("$PWD", str(folder)) for word in COMMANDS[name]]
    subcommand = GROUP.commands[command]
    given = subcommand.make_context(command, list(rest)).params  # raises when the command line is wrong
    overrides, options = list(given.get("overrides") or []), []
    if given.get("resume") is not None:
        run(
            config.load(resources.find_config("ci/smoke"), ["checkpoint.every=2"]),
            out=given["resume"],
            overwrite=True,
        )
        (given["resume"] / "environment.json").unlink()
        assert cli.main([command, *rest, "--ranks", "1", "--no-figures"]) == 0
        assert is_complete(given["resume"])
        return
    if command in ("run", "verify", "bench"):
        settings = config.load(resources.find_config(given["config_name"]), overrides)
        nodes = build(settings, allow_plugins=given["allow_plugins"]).nodes
        assert given["ranks"] in ("auto", "pure") or 1 <= int(given["ranks"]) <= nodes
        options += ["--allow-plugins"] * given["allow_plugins"]
        overrides += ["training.epochs=1", f"training.wave={settings.training.batch}"]
        if settings.task.kind == "power_allocation" and settings.task.bundle is None:
            overrides += ["task.minibatches=2", "task.test_minibatches=2"]
        if settings.task.kind == "link_scheduling":
            overrides += ["task.graphs=2", "task.test_graphs=2"]
        options += ["--ranks", "1", *([given["what"]] if command == "bench" else []), given["config_name"]]
    if command == "run":
        options += ["--out", str(tmp_path / "run"), "--no-figures"]
    elif command == "verify":
        options += ["--out", str(tmp_path / "verify.json")]
    elif command == "bench":
        options += ["--repeats", "1"]
    elif command == "sweep":
        options += ["--dry-run", "--out", str(tmp_path / "sweep"), given["sweep_name"]]
    elif command == "scale":
        if given["measure"] is not None:
            given["measure"].parent.mkdir(parents=True, exist_ok=True)
            point = Path(given["study_name"])
            point.parent.mkdir(parents=True, exist_ok=True)
            point.write_text((ROOT / "configs" / "quickstart.yaml").read_text(encoding="utf-8"))
            options, overrides = [*rest, "--repeats", "1", "--warmup", "1"], []
        else:
            options, overrides = [*rest, "--dry-run", "--out", str(tmp_path / "scale")], []
    elif command == "predict":
        if Path(given["machine"]).name == "model.json":
            Path(given["machine"]).parent.mkdir(parents=True, exist_ok=True)
            write_machine(Path(given["machine"]), load_machine("laptop"))
    elif command == "report":
        for path in given["directories"]:
            if not Path(path).exists():
                run(resources.find_config("ci/smoke"), out=path, verify=False)
        options += ["--out", str(tmp_path / "report.html"), *map(str, given["directories"])]
    elif command == "evaluate":
        path = given["directory"]
        if not path.exists():
            small = ["task.minibatches=2", "task.test_minibatches=1", "training.batch=2", "training.wave=2"]
            settings = config.load(resources.find_config("paper/power_allocation"), small)
            run(settings, out=path, verify=False)
        options, overrides = [*rest, "--minibatches", "1", "--ranks", "1"], []  # the last of an option counts
    elif command == "schedule":
        if not given["directory"].exists():
            settings = config.load(resources.find_config("paper/link_scheduling"), FEW_GRAPHS)
            run(settings, out=given["directory"], verify=False)
        options, overrides = [*rest, "--ranks", "1"], []
    arguments = [command, *options, *overrides] if options else [command, *rest]
    if command == "cost":
        arguments += ["--ranks", "1"]
    assert cli.main(arguments) == 0
    if command == "run":
        assert len((tmp_path / "run" / "metrics.csv").read_text().splitlines()) == 2


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = {words[1] for page in PAGES for words in shell_lines(page) if words[0] == "make"}
    assert targets >= {"run", "test"}
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_extras_exist() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    named = set(re.findall(r"pip install \.\[(\w+)\]", text))
    assert {"openmpi", "mpich", "mpi"} <= named <= set(project["optional-dependencies"])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_yaml_blocks_are_configurations(page: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sections are tried in the place of the quickstart's, or of those of power allocation."""
    monkeypatch.chdir(folder)
    bases = [
        yaml.safe_load((ROOT / "configs" / name).read_text(encoding="utf-8"))
        for name in ("quickstart.yaml", "paper/power_allocation.yaml")
    ]
    for block in blocks(page, "yaml"):
        loaded = yamlfile.parse(block, page.name)
        if "machine" in loaded or "scaling" in loaded:
            (folder / "block.yaml").write_text(block, encoding="utf-8")
            if "machine" in loaded:
                load_machine(str(folder / "block.yaml"))
            else:
                assert points.plan(study.load(str(folder / "block.yaml")))
            continue
        if "axes" in loaded:
            (folder / "sweep.yaml").write_text(block, encoding="utf-8")
            assert not any(point.error for point in plan.load(folder / "sweep.yaml").points)
            continue
        kinds = {loaded.get(section, {}).get("kind") for section in ("task", "model")}
        whole = bases[bool(kinds & {"power_allocation", "uwmmse"})]
        config.from_mapping({**whole, **loaded}, source=page.name, base=folder)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if not target.startswith("https://"):
            assert (page.parent / target.split("#")[0]).exists(), target


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: str(file.relative_to(ROOT / "configs")))
def test_shipped_configurations_build(file: Path, folder: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert text.startswith("# ")
    assert list(header_lines(file)), "the header says how to run it"
    own = re.search(r"bundle: (\w+\.npz)", text)
    overrides = [f"task.bundle={folder / own.group(1)}"] if own else []
    settings = config.load(file, overrides)
    assert build(settings, allow_plugins=True).nodes > 1
    key = str(file.relative_to(ROOT / "configs").with_suffix(""))
    assert resources.find_config(key).samefile(file)


@pytest.mark.parametrize("file", SWEEPS, ids=lambda file: str(file.relative_to(ROOT / "configs")))
def test_shipped_sweeps_build(file: Path) -> None:
    assert file.read_text(encoding="utf-8").startswith("# ")
    assert list(header_lines(file)), "the header says how to run it"
    for point in plan.load(file).points:
        assert point.error is None
        assert point.config is not None
        assert build(point.config).nodes > 1
    key = str(file.relative_to(ROOT / "configs").with_suffix(""))
    assert resources.find_sweep(key).samefile(file)


def test_tests_named_in_the_architecture_exist() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    for name in set(re.findall(r"`((?:mpi/)?test_\w+\.py)`", text)):
        assert (ROOT / "tests" / name).is_file(), name


def test_modules_named_in_the_architecture_are_all_there_are() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = text.split("## Who knows what")[1].split("##")[0]
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    named = {name.rstrip("/") for cell in cells for name in re.findall(r"`([\w/]+)`", cell)}
    package = ROOT / "fdtrain"
    modules = {file.stem for file in package.glob("*.py") if not file.name.startswith("__")}
    modules -= {"rng", "errors", "resources", "bench_orders"}  # small helpers
    packages = {p.parent.name for p in package.glob("*/__init__.py")}
    assert named == modules | packages


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize("script", sorted((ROOT / "launch").glob("*.s*")), ids=lambda script: script.name)
def test_launch_scripts_are_bash_and_say_how_they_are_used(script: Path) -> None:
    assert subprocess.run(["bash", "-n", str(script)], check=False).returncode == 0
    assert script.stat().st_mode & 0o100
    env = {"PATH": "/usr/bin:/bin"}
    result = subprocess.run(["bash", str(script)], capture_output=True, text=True, env=env, check=False)
    assert result.returncode != 0
    assert "CONFIG" in result.stderr or "qsub" in result.stderr
