"""
`pacsctl access explain`: what the access policy decides for a caller, and which line of the configuration made it so.
"""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

import click

from pacs.assembly.access import access_policy
from pacs.command import Call
from pacs.security.access import LEAST_ROLE, RIGHTS, Operation, Origin
from pacs.security.policy import ALLOWED_AE_TITLES, dotted


@click.group("access")
def command() -> None:
    """Look into the access policy."""


@command.command("explain")
@click.option("--ae", "ae_title", required=True, help="The calling AE title.")
@click.option("--address", required=True, help="The peer's network address.")
@click.option("--certificate", "certificate_names", multiple=True, help="A name in the client certificate; repeatable.")
@click.option("--user", help="A user whose passcode was verified.")
@click.option("--operation", "wanted", required=True, help="What is to be done: C-STORE, C-FIND, delete, …")
def explain(
    ae_title: str,
    address: str,
    certificate_names: tuple[str, ...],
    user: str | None,
    wanted: str,
    config: Path | None,
    wants_json: bool,
) -> None:
    """Tell whether a caller may do something, and which line decides."""
    call = Call(config, wants_json)
    operation = _operation(call, wanted)
    try:
        ip_address(address)
    except ValueError:
        call.fail(f"access explain: {address} is no network address")
    loaded = call.loaded()
    policy = access_policy(loaded.configuration)
    if user is not None and all(user != known.name for known in loaded.configuration.security.access_control.users):
        call.fail(f"access explain: no user {user} in the configuration")
    if not policy.may_associate(ae_title):
        key, place = dotted(ALLOWED_AE_TITLES), loaded.place(ALLOWED_AE_TITLES)
        call.tell(
            f"refused: {ae_title} may not associate (A-ASSOCIATE-RJ 1,1,3)\n{place}: {key}",
            allowed=False, role=None, key=key, place=place, operation=operation.value, needed=None,
        )  # fmt: skip
        return
    origin = Origin(address, is_encrypted=bool(certificate_names), certificate_names=certificate_names)
    decision = policy.decide(ae_title, origin, user=user)
    is_allowed = operation in RIGHTS[decision.role]
    needed = LEAST_ROLE[operation].value
    key, place = dotted(decision.place), loaded.place(decision.place)
    call.tell(
        f"{'allowed' if is_allowed else 'refused'}: {operation.value} needs the role {needed}, "
        f"{user or ae_title} has {decision.role.value}\n{place}: {key}",
        allowed=is_allowed, role=decision.role.value, key=key, place=place, operation=operation.value, needed=needed,
    )  # fmt: skip


def _operation(call: Call, wanted: str) -> Operation:
    names = {name.casefold(): operation for operation in Operation for name in (operation.value, operation.name)}
    names["c-move"] = Operation.MOVE_TO_NODE
    operation = names.get(wanted.casefold())
    if operation is None:
        call.fail(f"access explain: no operation {wanted}; there are " + ", ".join(item.value for item in Operation))
    return operation
