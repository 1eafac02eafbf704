"""Operations around entities that are not those of any entity, and those of RBAC.

The key is the method and the path of the route.
"""

from collections.abc import Mapping
from typing import Final

from api.openapi import answers
from api.openapi.operation import Made, Operation, many, one, page, plain, record
from api.openapi.schemas import EntitySchemas, Schema, singular
from projections.tables import TABLES

_RBAC, _ADMINS, _ABOUT = "RBAC", "Admins", "About the API"
_USER: Final = "/rbac/users/{rbac_users}"
_ROLE: Final = "/rbac/roles/{rbac_roles}"
_ENDPOINT: Final = f"{_ROLE}/endpoints/{{workspace}}/{{endpoint:path}}"
_ADMIN: Final = "/admins/{admins}"
_UPSTREAM: Final = "/upstreams/{upstreams}"
_TARGET: Final = f"{_UPSTREAM}/targets/{{targets}}"
_ROLES: Final = many(one("rbac_roles"))
_GRANTS: Final = TABLES["rbac_role_endpoints"]


def _granted(schemas: EntitySchemas) -> Schema:
    """A permission is shown without an id of its own."""
    whole = schemas.detached(_GRANTS, "answer")
    for name in ("id", "updated_at"):
        del whole["properties"][name]
        whole["required"].remove(name)
    return whole


def _grant(schemas: EntitySchemas) -> Schema:
    """The role is that of the path, the workspace too unless another one is named."""
    whole = schemas.detached(_GRANTS, "input")
    del whole["properties"]["role"]
    return _with_texts(whole) | {"required": ["endpoint", "actions"]}


def _changed_grant(schemas: EntitySchemas) -> Schema:
    whole = schemas.detached(_GRANTS, "patch")
    for name in ("id", "role", "workspace", "endpoint"):
        del whole["properties"][name]
    return _with_texts(whole)


def _with_texts(grant: Schema) -> Schema:
    """Actions may be one text with commas; `*` are all of them."""
    actions = grant["properties"]["actions"]
    grant["properties"]["actions"] = {"anyOf": [actions, {"type": "string", "minLength": 1}]}
    return grant


def _with_token(schemas: EntitySchemas) -> Schema:
    """A token that was made up is shown in this answer and never again."""
    whole = schemas.detached(TABLES["rbac_users"], "answer")
    whole["properties"]["user_token"] = {"type": "string", "minLength": 1}
    return whole


def _user(schemas: EntitySchemas) -> Schema:
    return schemas.input(TABLES["rbac_users"], generated="user_token")


def _roles(owner: str, path: str, tag: str, shown: Made) -> dict[str, Operation]:
    path = f"{path}/roles"
    return {
        f"GET {path}": Operation(
            id=f"list_roles_of_{owner}",
            tag=tag,
            summary="The roles that somebody has.",
            answers={200: shown},
        ),
        f"POST {path}": Operation(
            id=f"add_roles_to_{owner}",
            tag=tag,
            summary="Give roles to somebody.",
            answers={201: shown},
            body=answers.RoleNames,
        ),
        f"DELETE {path}": Operation(
            id=f"drop_roles_of_{owner}",
            tag=tag,
            summary="Take roles away. A body names them, as for POST.",
            answers={204: None},
            stores=True,
        ),
    }


def _members(owner: str, other: str, argument: str) -> dict[str, Operation]:
    """The members of one side of a membership; `argument` names one in bodies."""
    path, of, each = f"/{owner}/{{{owner}}}/{other}", singular(owner), singular(other)
    tag = "Consumer groups"
    body = {"type": "object", "required": [argument]} | {
        "properties": {argument: {"type": "string", "minLength": 1}}
    }
    listed = record(**{other: many(one(other)), "data": many(one(other))})
    return {
        f"GET {path}": Operation(
            id=f"list_{other}_of_{of}",
            tag=tag,
            summary="The members, one page.",
            answers={200: lambda schemas: {"allOf": [listed(schemas), page(one(other))(schemas)]}},
            query=("size", "offset"),
        ),
        f"POST {path}": Operation(
            id=f"add_{each}_to_{of}",
            tag=tag,
            answers={201: record(**{of: one(owner), other: many(one(other))})},
            body=lambda _schemas: body,
        ),
        f"DELETE {path}": Operation(
            id=f"remove_{other}_of_{of}",
            tag=tag,
            summary="Remove all members.",
            answers={204: None},
            stores=True,
        ),
        f"GET {path}/{{{other}}}": Operation(
            id=f"get_{each}_of_{of}",
            tag=tag,
            summary="A member.",
            answers={200: record(**{each: one(other)})},
        ),
        f"DELETE {path}/{{{other}}}": Operation(
            id=f"remove_{each}_of_{of}",
            tag=tag,
            summary="Remove a member.",
            answers={204: None},
            stores=True,
        ),
    }


def _said(path: str, subject: str) -> dict[str, Operation]:
    """Saying how a target is."""
    verbs = {"PUT": "put", "POST": "post"}
    return {
        f"{method} {path}/{state}": Operation(
            id=f"{verb}_{subject}_{state}",
            tag="Targets",
            summary=f"Say that it is {state}.",
            answers={204: None},
            stores=True,
        )
        for method, verb in verbs.items()
        for state in ("healthy", "unhealthy")
    }


RELATED: Final[Mapping[str, Operation]] = {
    f"GET {_UPSTREAM}/health": Operation(
        id="get_health_of_upstream",
        tag="Upstreams",
        answers={200: answers.UpstreamHealth},
        query=("balancer_health",),
    ),
    f"GET {_UPSTREAM}/targets/all": Operation(
        id="list_all_targets_of_upstream",
        tag="Targets",
        answers={
            200: record(data=many(one("targets")), next=plain("null"), total=plain("integer"))
        },
    ),
    **_said(_TARGET, "target"),
    **_said(f"{_TARGET}/{{address}}", "target_address"),
    **_members("consumer_groups", "consumers", "consumer"),
    **_members("consumers", "consumer_groups", "group"),
    "GET /workspaces/{workspaces}/meta": Operation(
        id="get_meta_of_workspace",
        tag="Workspaces",
        answers={200: answers.Counts},
    ),
    "GET /schemas/{entity}": Operation(
        id="get_schema",
        tag=_ABOUT,
        summary="The fields of an entity.",
        answers={200: answers.EntityDescription},
    ),
    "GET /schemas/plugins/{plugin}": Operation(
        id="get_plugin_schema", tag=_ABOUT, answers={200: answers.PluginDescription}
    ),
    "POST /schemas/{entity}/validate": Operation(
        id="validate_entity",
        tag=_ABOUT,
        answers={200: answers.Message},
        body=plain("object"),
        body_required=False,
    ),
    "GET /tags": Operation(
        id="list_tags",
        tag="Tags",
        summary="All tags.",
        answers={200: answers.TagPage},
        query=("size", "offset"),
    ),
    "GET /tags/{tag}": Operation(
        id="list_entities_with_tag",
        tag="Tags",
        summary="The entities that have a tag.",
        answers={200: answers.TagPage},
        query=("size", "offset"),
    ),
    "POST /rbac/users": Operation(
        id="create_rbac_user",
        tag=_RBAC,
        answers={201: _with_token},
        body=_user,
    ),
    **_roles(
        "rbac_user", _USER, _RBAC, record(roles=many(one("rbac_roles")), user=one("rbac_users"))
    ),
    **_roles("admin", _ADMIN, _ADMINS, record(roles=many(one("rbac_roles")))),
    f"GET {_USER}/permissions": Operation(
        id="get_permissions_of_rbac_user",
        tag=_RBAC,
        summary="All that a user may do, by workspace and endpoint.",
        answers={200: answers.PermissionsByEndpoint},
    ),
    f"GET {_ROLE}/permissions": Operation(
        id="get_permissions_of_rbac_role",
        tag=_RBAC,
        summary="All that a role may do, by workspace and endpoint.",
        answers={200: answers.PermissionsByEndpoint},
    ),
    f"GET {_ROLE}/endpoints": Operation(
        id="list_endpoints_of_rbac_role",
        tag=_RBAC,
        summary="The permissions of a role.",
        answers={200: record(data=many(_granted))},
    ),
    f"POST {_ROLE}/endpoints": Operation(
        id="create_endpoint_of_rbac_role",
        tag=_RBAC,
        summary="Permit something to a role, or with `negative` deny it.",
        answers={201: _granted},
        body=_grant,
    ),
    f"GET {_ENDPOINT}": Operation(
        id="get_endpoint_of_rbac_role",
        tag=_RBAC,
        summary="What a role may do at an endpoint.",
        answers={200: _granted},
    ),
    f"PATCH {_ENDPOINT}": Operation(
        id="update_endpoint_of_rbac_role",
        tag=_RBAC,
        summary="Change what a role may do at an endpoint.",
        answers={200: _granted},
        body=_changed_grant,
        body_required=False,
        versioned=True,
    ),
    f"DELETE {_ENDPOINT}": Operation(
        id="delete_endpoint_of_rbac_role",
        tag=_RBAC,
        summary="Say nothing more about an endpoint.",
        answers={204: None},
        stores=True,
        versioned=True,
    ),
    f"GET {_ADMIN}/workspaces": Operation(
        id="list_workspaces_of_admin", tag=_ADMINS, answers={200: many(one("workspaces"))}
    ),
}
