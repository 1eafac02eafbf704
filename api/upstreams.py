"""The health of upstreams and targets, as those know it who say so: nothing is probed here.

PUT /upstreams/{u}/targets/{t}[/{address}]/healthy|unhealthy      also POST
GET /upstreams/{u}/health[?balancer_health=1]
GET /upstreams/{u}/targets/all
"""

from collections.abc import Mapping
from functools import partial
from ipaddress import ip_address
from typing import Any, Final, Literal

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from api.admin import Admin
from api.bodies import read_body
from api.commands import Decision, Parent, locate
from api.entities import circumstances, found, item_path, present
from api.responses import Json, NotFound
from api.routing import route
from eventstore.codec import new_event
from eventstore.events import EMITTED_PREFIX, HEALTH_PREFIX, EventEmitted, TargetHealthSet
from eventstore.records import Kind, NewEvent
from projections import checks
from projections.entities import Entity
from projections.health import Health
from projections.stored import restore
from projections.tables import TABLES

State = Literal["healthy", "unhealthy"]

_UPSTREAMS: Final = TABLES["upstreams"]
_TARGETS: Final = TABLES["targets"]
_STREAM: Final = f"{EMITTED_PREFIX}balancer/health"
_STATES: Final[tuple[State, ...]] = ("healthy", "unhealthy")


class HealthEndpoints:
    """`node` is the id of this node, as `GET /` shows it."""

    def __init__(self, admin: Admin, health: Health, node: str) -> None:
        self._admin = admin
        self._health = health
        self._node = node

    def routes(self) -> list[Route]:
        upstream = item_path(_UPSTREAMS)
        target = f"{upstream}/targets/{{{_TARGETS.name}}}"
        said = [
            route(f"{path}/{state}", PUT=partial(self.say, state), POST=partial(self.say, state))
            for path in (target, f"{target}/{{address}}")
            for state in _STATES
        ]
        return [
            route(f"{upstream}/health", GET=self.health),
            route(f"{upstream}/targets/all", GET=self.targets),
            *said,
        ]

    async def say(self, state: State, http: Request) -> Response:
        """Say how a target is, or one of its addresses: one `balancer`/`health` per address."""
        body = await read_body(http)

        def decide() -> Decision:
            target = self._target(http)
            address = http.path_params.get("address")
            addresses = [_checked(address)] if address else self._addresses(target)
            return Decision(_events(target, addresses, state), None)

        await self._admin.store(decide, circumstances(http, body))
        return Response(status_code=204)

    async def targets(self, http: Request) -> Response:
        """All targets at once."""
        rows = self._rows(found(self._admin.view, _UPSTREAMS, http))
        data = [present(self._admin.view, row) for row in rows]
        return Json({"data": data, "next": None, "total": len(data)})

    async def health(self, http: Request) -> Response:
        """How each target is, or with `balancer_health=1` the upstream as a whole."""
        upstream = found(self._admin.view, _UPSTREAMS, http)
        checked = _is_checked(upstream)
        rows = [(row, self._state(row, checked)) for row in self._rows(upstream)]
        shared = {"next": None, "node_id": self._node}
        if http.query_params.get("balancer_health") == "1":
            state = _overall(upstream, rows, checked)
            return Json({"data": {"health": state, "id": upstream.id}} | shared)
        data = [self._shown(row, state) for row, state in rows]
        return Json({"data": data, "total": len(data)} | shared)

    def _shown(self, row: Entity, state: str) -> dict[str, Any]:
        weight = row.entity.get("weight", 0)
        available = 0 if state == "UNHEALTHY" else weight
        host, port = _split(row.entity["target"])
        addresses = []
        for address in self._addresses(row):
            ip, number = _split(address)
            known = self._health.of(row.id).get(address)
            health = known.upper() if known else state
            addresses.append({"ip": _ip(ip), "port": number, "weight": weight, "health": health})
        balance = {"total": weight, "available": available, "unavailable": weight - available}
        data = {"addresses": addresses, "host": host, "port": port, "nodeWeight": weight}
        return present(self._admin.view, row) | {
            "health": state,
            "data": data | {"weight": balance},
        }

    def _state(self, row: Entity, checked: bool) -> str:
        """A target is healthy while any of its addresses is."""
        known = set(self._health.of(row.id).values())
        if not known:
            return "HEALTHY" if checked else "HEALTHCHECKS_OFF"
        return "HEALTHY" if "healthy" in known else "UNHEALTHY"

    def _addresses(self, target: Entity) -> list[str]:
        """The addresses that were heard of; names are not resolved here."""
        return list(self._health.of(target.id)) or [target.entity["target"]]

    def _rows(self, upstream: Entity) -> list[Entity]:
        return self._admin.view.children(_TARGETS.name, "upstream", upstream.id)

    def _target(self, http: Request) -> Entity:
        view = self._admin.view
        parent = Parent("upstream", found(view, _UPSTREAMS, http))
        key = http.path_params[_TARGETS.name]
        row = locate(view, _TARGETS, http.state.workspace, key, parent)
        if row is None or "target" not in row.entity:
            raise NotFound
        return row


def _events(target: Entity, addresses: list[str], state: State) -> tuple[NewEvent, ...]:
    upstream = target.entity["upstream"]["id"]
    said = TargetHealthSet(upstream=upstream, health=dict.fromkeys(addresses, state))
    hostname = _split(target.entity["target"])[0]
    facts = []
    for address in addresses:
        host, port = _split(address)
        facts.append(
            {
                "upstream_id": upstream,
                "ip": _ip(host),
                "port": port,
                "hostname": hostname,
                "health": state,
            }
        )
    return (
        new_event(said, stream=f"{HEALTH_PREFIX}{target.id}", kind=Kind.CONFIG),
        *(_emitted(fact) for fact in facts),
    )


def _emitted(fact: Mapping[str, Any]) -> NewEvent:
    data = {name: value for name, value in fact.items() if value is not None}
    event = EventEmitted(data=msgspec.Raw(msgspec.json.encode(data)))
    return new_event(event, stream=_STREAM, kind=Kind.EMITTED)


def _checked(address: str) -> str:
    """An address of a path is one like `10.0.0.5:8080`. Raises NotFound."""
    if checks.target(address) is not None:
        raise NotFound
    host, port = _split(address)
    if not port or _ip(host) is None:
        raise NotFound
    return address


def _is_checked(upstream: Entity) -> bool:
    """Whether the gateway checks the health of this upstream, actively or passively."""
    checked = restore(_UPSTREAMS.record, upstream.entity, upstream.secrets)["healthchecks"]
    active, passive = checked["active"], checked["passive"]
    counts = [
        active["healthy"]["interval"],
        active["unhealthy"]["interval"],
        passive["healthy"]["successes"],
        *(passive["unhealthy"][name] for name in ("tcp_failures", "timeouts", "http_failures")),
    ]
    return any(counts)


def _overall(upstream: Entity, rows: list[tuple[Entity, str]], checked: bool) -> str:
    """Healthy while enough of the weight is; the threshold is a percentage."""
    states = {state for _, state in rows}
    if not checked and states <= {"HEALTHCHECKS_OFF"}:
        return "HEALTHCHECKS_OFF"
    total = sum(row.entity.get("weight", 0) for row, _ in rows)
    available = sum(row.entity.get("weight", 0) for row, state in rows if state != "UNHEALTHY")
    threshold = upstream.entity.get("healthchecks", {}).get("threshold", 0)
    return "HEALTHY" if available and available * 100 >= threshold * total else "UNHEALTHY"


def _split(address: str) -> tuple[str, int]:
    """Host and port; the brackets of an IPv6 address are taken off."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port) if port.isascii() and port.isdecimal() else 0


def _ip(host: str) -> str | None:
    try:
        return str(ip_address(host))
    except ValueError:
        return None
