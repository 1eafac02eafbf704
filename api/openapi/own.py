"""Operations that have nothing to do with entities: the node, events, sources, deliveries.

The key is the method and the path of the route.
"""

from collections.abc import Mapping
from typing import Final

from api.events import Emitted
from api.ingest import Ingested
from api.openapi import answers, deliveries
from api.openapi.bodies import EMISSIONS, KONG_LOG
from api.openapi.operation import Made, Operation, plain
from projections.sources import Definition

_NODE, _EVENTS, _HOOKS, _SOURCES = "Node", "Events", "Event hooks", "Sources"
_DELIVERIES, _ABOUT = "Deliveries", "About the API"
_HOOK: Final = "/event-hooks/{event_hooks}"
_ID: Final = "/event-hooks/{id}"
_SOURCE: Final = "/event-hooks/sources/{source}"


def _static(id: str, media_type: str, shown: Made) -> Operation:
    """What is the same for everybody, with or without a token."""
    return Operation(
        id=id,
        tag=_ABOUT,
        answers={200: shown, 304: None},
        query=("IfNoneMatch",),
        media_type=media_type,
        etag=True,
        open=True,
    )


OWN: Final[Mapping[str, Operation]] = {
    "GET /": Operation(id="get_node", tag=_NODE, answers={200: answers.Greeting}),
    "GET /status": Operation(id="get_status", tag=_NODE, answers={200: answers.NodeStatus}),
    "GET /health/live": Operation(
        id="get_liveness", tag=_NODE, answers={200: answers.Liveness}, open=True
    ),
    "GET /health/ready": Operation(
        id="get_readiness",
        tag=_NODE,
        answers={200: answers.Readiness, 503: answers.Unreadiness},
        open=True,
    ),
    "GET /metrics": Operation(
        id="get_metrics",
        tag=_NODE,
        answers={200: plain("string")},
        media_type="text/plain; version=0.0.4; charset=utf-8",
    ),
    "GET /events": Operation(
        id="list_events",
        tag=_EVENTS,
        answers={200: answers.EventPage},
        query=("after", "size", "wait"),
        problems=(410,),
    ),
    "POST /events": Operation(
        id="emit_events", tag=_EVENTS, answers={202: Emitted}, content=EMISSIONS
    ),
    "GET /events/{id}": Operation(
        id="get_event",
        tag=_EVENTS,
        answers={200: answers.LoggedEvent},
        query=("source",),
        problems=(410,),
    ),
    "GET /events/{id}/deliveries": Operation(
        id="explain_event",
        tag=_DELIVERIES,
        answers={200: deliveries.Explanation},
        query=("source",),
        problems=(410,),
    ),
    "POST /ingest/kong-http-log": Operation(
        id="ingest_kong_http_log",
        tag="Gateway bridge",
        answers={202: Ingested},
        content=KONG_LOG,
    ),
    "GET /event-hooks/sources": Operation(
        id="list_sources",
        tag=_SOURCES,
        summary="All sources with their events.",
        answers={200: answers.Catalogue},
    ),
    f"GET {_SOURCE}": Operation(
        id="get_source",
        tag=_SOURCES,
        summary="The events of a source.",
        answers={200: answers.SourceEvents},
    ),
    f"GET {_SOURCE}/{{event}}": Operation(
        id="get_source_event",
        tag=_SOURCES,
        summary="The definition of an event.",
        answers={200: answers.SourceEvent},
    ),
    f"PUT {_SOURCE}/{{event}}": Operation(
        id="publish_source_event",
        tag=_SOURCES,
        answers={200: answers.SourceEvent},
        body=Definition,
        body_required=False,
    ),
    f"GET {_ID}/deliveries": Operation(
        id="list_deliveries",
        tag=_DELIVERIES,
        answers={200: deliveries.DeliveryHistory},
        query=("before", "size"),
    ),
    f"GET {_ID}/parked": Operation(
        id="list_parked_deliveries",
        tag=_DELIVERIES,
        answers={200: deliveries.ParkedDeliveries},
        query=("after", "size"),
    ),
    f"POST {_ID}/parked/resend": Operation(
        id="resend_parked_deliveries",
        tag=_DELIVERIES,
        answers={202: deliveries.Resent},
        stores=True,
    ),
    f"POST {_ID}/parked/{{delivery}}/resend": Operation(
        id="resend_parked_delivery", tag=_DELIVERIES, answers={202: deliveries.Resent}, stores=True
    ),
    f"POST {_ID}/pause": Operation(
        id="pause_event_hook",
        tag=_DELIVERIES,
        summary="Hold back a hook's deliveries.",
        answers={200: deliveries.HookState},
        stores=True,
    ),
    f"POST {_ID}/resume": Operation(
        id="resume_event_hook",
        tag=_DELIVERIES,
        answers={200: deliveries.HookState},
        query=("skip",),
        body=deliveries.Resume,
        body_required=False,
    ),
    f"POST {_HOOK}/test": Operation(
        id="test_event_hook",
        tag=_HOOKS,
        answers={200: deliveries.HandlerTest},
        query=("dry_run",),
        body=plain("object"),
        body_required=False,
        problems=(502,),
    ),
    f"GET {_HOOK}/ping": Operation(
        id="ping_event_hook", tag=_HOOKS, answers={200: deliveries.Ping}, problems=(502,)
    ),
    f"POST {_HOOK}/ping": Operation(
        id="ping_event_hook_by_post", tag=_HOOKS, answers={200: deliveries.Ping}, problems=(502,)
    ),
    "GET /openapi.json": _static("get_openapi", "application/json", plain("object")),
    "GET /docs": _static("get_docs", "text/html; charset=utf-8", plain("string")),
    "GET /docs/openapi-explorer.min.js": _static(
        "get_docs_script", "text/javascript; charset=utf-8", plain("string")
    ),
    "GET /endpoints": Operation(
        id="list_endpoints",
        tag=_ABOUT,
        summary="The paths of all endpoints.",
        answers={200: answers.Paths},
    ),
}
