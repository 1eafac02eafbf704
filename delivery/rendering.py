"""Renders a hook's templates: plain paths here, everything else in a jailed worker."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from projections.hooks import Hook, TemplateEngine

from .breaker import Breaker
from .jail.frames import Arguments, Call, Templates
from .jail.pool import WorkerPool
from .jail.process import JailUnavailable
from .lambda_handler import LUA_OFF
from .outcome import Outcome
from .templates import Budget, NotPlain, TemplateError, compile_template

_ENCODE: Final = msgspec.json.Encoder().encode


class RenderingFailed(Exception):
    """No text was made; `outcome` says what becomes of the delivery."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.reason)
        self.outcome = outcome


class Renderer:
    """Compiles and renders with either engine. Without `lua`, templates are plain or Jinja."""

    def __init__(self, lua: WorkerPool | None, jinja: WorkerPool, breaker: Breaker) -> None:
        self._lua = lua
        self._jinja = jinja
        self._breaker = breaker

    async def render(
        self,
        hook: Hook,
        engine: TemplateEngine,
        templates: Mapping[str, str],
        context: dict[str, Any],
    ) -> dict[str, str]:
        """The text of each template, under its name. Raises RenderingFailed, or is complete."""
        if engine == "jinja2":
            return await self._in_worker(self._jinja, hook, templates, context)
        texts: dict[str, str] = {}
        rest: dict[str, str] = {}
        budget = Budget()
        for name, source in templates.items():
            text = _plain(name, source, context, budget)
            if text is None:
                rest[name] = source
            else:
                texts[name] = text
        if rest:
            texts |= await self._in_worker(self._lua, hook, rest, context)
        return texts

    async def check(
        self, workspace: str, engine: TemplateEngine, templates: Mapping[str, str]
    ) -> dict[str, str]:
        """What is wrong with each template that does not compile. Raises JailUnavailable."""
        if engine == "jinja2":
            return await _compiled(self._jinja, workspace, templates)
        problems: dict[str, str] = {}
        rest: dict[str, str] = {}
        for name, source in templates.items():
            try:
                if compile_template(source) is None:
                    rest[name] = source
            except TemplateError as error:
                problems[name] = str(error)
        if rest and self._lua is None:
            problems |= dict.fromkeys(rest, LUA_OFF)
        elif rest and self._lua is not None:
            faulty = await _compiled(self._lua, workspace, rest)
            problems |= await self._hinted(workspace, faulty, templates)
        return problems

    async def _hinted(
        self, workspace: str, faulty: dict[str, str], templates: Mapping[str, str]
    ) -> dict[str, str]:
        """Never guess an engine, but say so when the other one would do."""
        if not faulty:
            return faulty
        sources = {name: templates[name] for name in faulty}
        no_jinja = await _compiled(self._jinja, workspace, sources)
        hint = "; it looks like Jinja2: set config.template_engine to jinja2"
        return {
            name: problem if name in no_jinja else problem + hint
            for name, problem in faulty.items()
        }

    async def _in_worker(
        self,
        pool: WorkerPool | None,
        hook: Hook,
        templates: Mapping[str, str],
        context: dict[str, Any],
    ) -> dict[str, str]:
        if pool is None:
            raise RenderingFailed(Outcome(ok=False, reason=f"template: {LUA_OFF}"))
        names = list(templates)
        program = Templates(tuple(templates.values()))
        try:
            ran = await pool.run(
                Call(hook.workspace, hook.id, program, Arguments(_ENCODE(context)))
            )
        except JailUnavailable as problem:
            raise RenderingFailed(Outcome(ok=False, reason=str(problem))) from problem
        failure = self._breaker.failure(hook, ran)
        if failure is None:
            return dict(zip(names, ran.texts, strict=True))
        if not ran.killed:
            fault = ran.faults[0]
            failure = _fault(names[fault.index], _at(fault.line, fault.text))
        raise RenderingFailed(failure)


def _plain(name: str, source: str, context: dict[str, Any], budget: Budget) -> str | None:
    try:
        template = compile_template(source)
        return None if template is None else template.render(context, budget)
    except NotPlain:
        return None
    except TemplateError as error:
        raise RenderingFailed(_fault(name, str(error))) from error


async def _compiled(
    pool: WorkerPool, workspace: str, templates: Mapping[str, str]
) -> dict[str, str]:
    names = list(templates)
    ran = await pool.run(Call(workspace, "", Templates(tuple(templates.values()))))
    return {names[fault.index]: _at(fault.line, fault.text) for fault in ran.faults}


def _fault(name: str, text: str) -> Outcome:
    return Outcome(ok=False, reason=f"template {name}: {text}", retryable=False)


def _at(line: int | None, text: str) -> str:
    return text if line is None else f"line {line}: {text}"
