"""What tests share: what they need of the machine, an engine of the session's own, images, stacks and the leak check.

Read `stack.py` for how a scenario speaks to the product, `leaks.py` for what it must not leave behind.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import leaks, needs
from tests.stack import COMPOSE, UMIAK, Host, Stack, StackMaker, copy_stack
from tests.terminal import Opener, Terminal

SCENARIOS = Path(__file__).parent / "scenarios"
SCENARIO_NEEDS = ("root", "netns", "mount", "overlay", "cgroup")
BUSYBOX = "busybox:latest"
DEBIAN = "debian:bookworm-slim"
PREPARED = os.environ.get("UMIAK_TEST_IMAGES")
"""An engine's root directory with the images that scenarios would make, for a machine without a network; it is used up."""

REPORT = pytest.StashKey[dict[str, pytest.TestReport]]()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip, or fail in CI, a test whose needs this machine does not meet."""
    wanted = tuple(str(name) for marker in item.iter_markers("needs") for name in marker.args)
    if item.path.is_relative_to(SCENARIOS):
        wanted += SCENARIO_NEEDS
    if COMPOSE and (only := item.get_closest_marker("umiak")):
        pytest.skip(f"not Docker Compose's: {only.args[0]}")
    lacking = needs.missing(wanted)
    if lacking:
        told = f"this machine lacks: {', '.join(lacking)}"
        if needs.is_strict() and not set(lacking) <= needs.MAY_BE_MISSING:
            pytest.fail(told, pytrace=False)
        pytest.skip(told)


def pytest_configure() -> None:
    """Let commands under test be interrupted: a shell that runs pytest in the background has SIGINT ignored in all below it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Keep each phase's report on the item, for fixtures that clean up differently after a failure."""
    report = yield
    item.stash.setdefault(REPORT, {})[report.when] = report
    return report


@pytest.fixture(scope="session")
def host() -> Iterator[Host]:
    """An engine of this session's own. Its path is short, as UNIX sockets lie below it."""
    base = Path(tempfile.mkdtemp(prefix="umiak-"))
    made = _host(base)
    if PREPARED:
        shutil.move(PREPARED, made.root)
    else:
        made.root.mkdir()
    yield made
    leaks.clean(str(base))
    shutil.rmtree(base, ignore_errors=True)


def _host(base: Path) -> Host:
    if not COMPOSE:
        return Host(base)
    from tests.dockers.host import DockerHost

    return DockerHost(base)


@pytest.fixture(scope="session")
def busybox(host: Host) -> str:
    """A small image with busybox in it; returns its reference."""
    host.import_busybox(BUSYBOX)
    return BUSYBOX


@pytest.fixture(scope="session")
def debian(host: Host) -> str:
    """The Debian base image, made from the archive that this machine's apt uses; returns its reference."""
    if not PREPARED:
        host.bootstrap(DEBIAN)
    return DEBIAN


@pytest.fixture
def leak_check(request: pytest.FixtureRequest, host: Host) -> Iterator[None]:
    """After the stack is down, nothing may be left that was not there before. What Docker leaves is not ours to judge."""
    if COMPOSE:
        yield
        return
    before = leaks.snapshot(str(host.base))
    yield
    left = leaks.leaked(before, str(host.base))
    if left:
        leaks.clean(str(host.base))
        _forget(host)
        pytest.fail("left behind:\n" + "\n".join(f"  {kind}: {name}" for kind, name in left), pytrace=False)


def _forget(host: Host) -> None:
    """Start the engine's records anew, so that one test's leak does not fail the next test too."""
    for path in (host.run, host.root / "containers"):
        shutil.rmtree(path, ignore_errors=True)
    if (host.root / "state.db").exists():
        leaks.forget(str(host.root / "state.db"))


@pytest.fixture
def make_stack(request: pytest.FixtureRequest, host: Host, leak_check: None) -> Iterator[StackMaker]:
    """Make stacks from folders; they are taken down after the test, before the leak check."""
    made: list[Stack] = []

    def make(source: Path, *, name: str | None = None, env: dict[str, str] | None = None) -> Stack:
        directory = host.base / "stacks" / (name or source.name)
        stack = Stack(host, copy_stack(source, directory), env)
        made.append(stack)
        return stack

    yield make
    failed = any(report.failed for report in request.node.stash.get(REPORT, {}).values())
    for stack in made:
        if failed:
            print(stack.artefacts())
        stack.end()
        shutil.rmtree(stack.directory, ignore_errors=True)


@pytest.fixture
def stack(request: pytest.FixtureRequest, busybox: str, make_stack: StackMaker) -> Stack:
    """The stack of the scenario's own folder, not yet up."""
    return make_stack(request.path.parent)


@pytest.fixture
def terminal(stack: Stack) -> Iterator[Opener]:
    """Opens terminals that run `umiak` in the stack's folder."""
    opened: list[Terminal] = []

    def open_terminal(*arguments: str) -> Terminal:
        environment = stack.host.environment({**stack.env, "TERM": "xterm"})
        opened.append(Terminal([UMIAK, *arguments], cwd=stack.directory, env=environment))
        return opened[-1]

    yield open_terminal
    for one in opened:
        one.close()
