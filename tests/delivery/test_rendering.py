"""Templates with logic: rendered in a worker, with either engine, or not at all."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from delivery.breaker import KILLS, Breaker
from delivery.jail.frames import Limits
from delivery.jail.pool import JailOptions, WorkerPool
from delivery.lambda_handler import LUA_OFF
from delivery.rendering import Renderer, RenderingFailed
from projections.hooks import Hook, TemplateEngine
from projections.tables import DEFAULT_WORKSPACE

IMPATIENT = JailOptions(
    workers=1, spares=1, wall_seconds=1, start_seconds=30, limits=Limits(cpu_seconds=0.1)
)
HOOK = Hook(
    id="h",
    workspace=DEFAULT_WORKSPACE,
    version=1,
    source="s",
    event="e",
    handler="webhook-custom",
    on_change=False,
    snooze=None,
    created_at=0,
    updated_at=0,
    config={},
)
HANG = "{% local a = ('a'):rep(40) a:find(('a?'):rep(40) .. a) %}"


class Bench:
    """A renderer over pools of its own."""

    def __init__(self, renderer: Renderer) -> None:
        self.renderer = renderer

    async def texts(
        self, *sources: str, engine: TemplateEngine = "resty", **context: Any
    ) -> list[str]:
        templates = dict(zip("abcdef", sources, strict=False))
        texts = await self.renderer.render(HOOK, engine, templates, context)
        return [texts[name] for name in templates]

    async def problem(
        self, source: str, engine: TemplateEngine = "resty", workspace: str = "w"
    ) -> str | None:
        return (await self.renderer.check(workspace, engine, {"a": source})).get("a")


async def opened(stack: AsyncExitStack, *, lua: bool = True) -> Bench:
    pools = [
        await stack.enter_async_context(WorkerPool.open(options))
        for options in (
            IMPATIENT,
            JailOptions(workers=1, spares=0, engine="jinja2", start_seconds=30),
        )
    ]
    return Bench(Renderer(pools[0] if lua else None, pools[1], Breaker()))


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with AsyncExitStack() as stack:
        yield await opened(stack)


@pytest.fixture
async def without_lua() -> AsyncIterator[Bench]:
    async with AsyncExitStack() as stack:
        yield await opened(stack, lua=False)


async def test_plain_and_lua_templates_of_one_request(bench: Bench) -> None:
    """Each text is under the name of its template, wherever it was rendered."""
    texts = await bench.texts("{{ n }}", "{{ n + 1 }}", "-", "{% if n then %}y{% end %}", n=1)

    assert texts == ["1", "2", "-", "y"]


async def test_jinja_is_an_engine(bench: Bench) -> None:
    """Chosen per hook; its filters and statements work."""
    source = "{% if a %}{{ a | upper }}{% endif %}"

    assert await bench.texts(source, engine="jinja2", a="x") == ["X"]


@pytest.mark.parametrize(
    ("engine", "source", "reason"),
    [
        ("resty", "fine\n{{ a.b.c }}", "line 2: "),
        ("resty", "{% local x = 1 %}\n\n{* x.y.z *}", "line 3: "),
        ("resty", "{% error('no') %}", "line 1: no"),
        ("jinja2", "fine\n{{ a.b.c }}", "line 2: "),
    ],
)
async def test_a_template_that_fails_has_a_line(
    bench: Bench, engine: TemplateEngine, source: str, reason: str
) -> None:
    """The delivery is not tried again: it would fail the same way."""
    with pytest.raises(RenderingFailed) as failed:
        await bench.texts("{{ 1 + 1 }}", source, engine=engine)
    outcome = failed.value.outcome

    assert str(outcome.reason).startswith(f"template b: {reason}")
    assert (outcome.ok, outcome.retryable, outcome.gone) == (False, False, False)


async def test_a_template_that_hangs_is_killed_and_in_the_end_suspends(bench: Bench) -> None:
    """It may be tried again some times, for another event may not hang; then the hook stops."""
    reasons, gone = [], []
    for _ in range(KILLS):
        with pytest.raises(RenderingFailed) as failed:
            await bench.texts(HANG)
        reasons.append(failed.value.outcome.reason)
        gone.append(failed.value.outcome.gone)

    assert gone == [False] * (KILLS - 1) + [True]
    assert str(reasons[-1]).startswith(f"its code had to be killed {KILLS} times in a row: ")
    assert await bench.texts("{{ 1 + 1 }}") == ["2"]


@pytest.mark.parametrize(
    ("engine", "source", "problem"),
    [
        ("resty", "{{ a }}{{ a or 'x' }}", None),
        ("jinja2", "{{ a | default('x') }}", None),
        ("jinja2", "\n{% if %}", "line 2: "),
        ("resty", "\n{% if a then %}", "line 2: "),
        ("resty", "{(file.html)}", "line 1: includes are disabled"),
        ("resty", "{{ a b }}", "line 1: "),
    ],
)
async def test_a_template_is_compiled_at_creation(
    bench: Bench, engine: TemplateEngine, source: str, problem: str | None
) -> None:
    """What is wrong is said with its line; nothing is run."""
    found = await bench.problem(source, engine)

    assert found is None if problem is None else str(found).startswith(problem)
    assert "Jinja2" not in str(found)


@pytest.mark.parametrize("source", ["{{ a | upper }}", "{% if a %}b{% endif %}", "{{ a ~ b }}"])
async def test_jinja_in_a_resty_template_gets_a_hint(bench: Bench, source: str) -> None:
    """The engine is never guessed, only named."""
    found = str(await bench.problem(source))

    assert found.startswith("line 1: ")
    assert found.endswith("; it looks like Jinja2: set config.template_engine to jinja2")


async def test_without_lua_plain_templates_and_jinja_go_on(without_lua: Bench) -> None:
    """What needs Lua is refused at creation, and fails if it was created before."""
    with pytest.raises(RenderingFailed, match="untrusted_lua"):
        await without_lua.texts("{{ 1 + 1 }}")

    assert await without_lua.texts("{{ n }}", n=1) == ["1"]
    assert await without_lua.texts("{{ n + 1 }}", engine="jinja2", n=1) == ["2"]
    assert await without_lua.problem("{{ a or b }}") == LUA_OFF
    assert await without_lua.problem("{{ a }}") is None


async def test_a_value_that_only_lua_can_print(bench: Bench) -> None:
    """A plain template goes to the worker when an event needs it, and comes back for the next."""
    assert await bench.texts("{{ type }}", type="x") == ["x"]
    assert (await bench.texts("{{ a }}", a={"b": 1}))[0].startswith("table: 0x")


async def test_no_worker_is_no_fault_of_the_template() -> None:
    """The delivery is tried again."""
    async with WorkerPool.open(JailOptions(start_seconds=0.001)) as broken:
        with pytest.raises(RenderingFailed) as failed:
            await Bench(Renderer(broken, broken, Breaker())).texts("{{ 1 + 1 }}")

    assert failed.value.outcome.retryable
