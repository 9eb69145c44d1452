"""`trimtab keys`: bearer keys for the gateway and the admin API."""

from __future__ import annotations

from typing import Any

import click
from rich.table import Table

from deploy.cli.common import Context, pass_context, print_json, stdout
from deploy.cli.decide import actor, operations
from deploy.cli.groups import Group
from deploy.control.keys import SCOPES, Key, without_effect
from deploy.decisions.operations import one_line
from deploy.text import iso, shown

DAY_US = 86_400 * 1_000_000


@click.group(cls=Group)
def keys() -> None:
    """Bearer keys: who may do what, for which tenant.

    \b
    Examples:
      trimtab keys create --name shop --scope chat --scope feedback
      trimtab keys ls
    """


@keys.command()
@click.option("--name", required=True, help="Who uses it, for example the app's name.")
@click.option(
    "--tenant",
    help="Bind it to this tenant: it sees and does nothing beyond. Without, what it sends is the tenant `default`'s, and it may operate and approve.",
)
@click.option("--scope", "scopes", multiple=True, required=True, type=click.Choice(SCOPES), help="Repeat for several.")
@click.option("--days", type=click.IntRange(1, 36_500), help="It expires after so many days [default: never].")
@pass_context()
def create(context: Context, name: str, tenant: str | None, scopes: tuple[str, ...], days: int | None) -> None:
    """Make a key and show its token, once.

    \b
    Examples:
      trimtab keys create --name support-app --scope chat --scope feedback --tenant acme
      trimtab keys create --name on-call --scope read --scope operate --scope approve --days 365
    """
    now = context.clock.now_us()
    with operations(context) as rules:
        expires = now + days * DAY_US if days else None
        bound = one_line(tenant) if tenant is not None else None
        token, key = rules.control.keys.create(one_line(name), bound, scopes, actor(), now, expires)
    if context.as_json:
        print_json({"token": token, **_described(key, context.clock.now_us())})
        return
    whose = "the deployment" if key.tenant is None else f"tenant {shown(key.tenant)}"
    stdout.print(token, markup=False, soft_wrap=True)
    stdout.print(f"key {key.id} for {whose}: {', '.join(sorted(key.scopes))}. Keep the token: it can't be shown again.")


@keys.command()
@pass_context(looks=True)
def ls(context: Context) -> None:
    """List the keys, without their tokens.

    \b
    Example:
      trimtab keys ls
    """
    with operations(context) as rules:
        found = [_described(key, context.clock.now_us()) for key in rules.control.keys.list()]
    if context.as_json:
        print_json(found)
        return
    table = Table("id", "name", "tenant", "scopes", "created", "state")
    for key in found:
        table.add_row(
            key["id"], shown(key["name"]), shown(key["tenant"] or "-"), ", ".join(key["scopes"]), key["created_at"][:10], key["state"]
        )  # fmt: skip
    stdout.print(table if found else "there are no keys yet: trimtab keys create --name … --scope …")
    for key in found:
        if key["problem"] is not None:
            stdout.print(f"[yellow]warning[/yellow]  {shown(key['problem'])}", soft_wrap=True)


@keys.command()
@click.argument("key_id", metavar="ID")
@click.option("--reason", default="", help="A sentence for whoever reads the history later.")
@pass_context()
def revoke(context: Context, key_id: str, reason: str) -> None:
    """Make a key worthless, at once.

    \b
    Example:
      trimtab keys revoke 3f2a9c01 --reason "its laptop was lost"
    """
    with operations(context) as rules:
        key = rules.control.keys.revoke(key_id, actor(), context.clock.now_us(), one_line(reason))
    if context.as_json:
        print_json(_described(key, context.clock.now_us()))
    else:
        stdout.print(f"key {key.id} is revoked")


def _described(key: Key, now_us: int) -> dict[str, Any]:
    state = "revoked" if key.revoked_at_us is not None else "valid" if key.valid(now_us) else "expired"
    return {
        "id": key.id,
        "name": key.name,
        "tenant": key.tenant,
        "scopes": sorted(key.scopes),
        "created_at": iso(key.created_at_us),
        "expires_at": iso(key.expires_at_us) if key.expires_at_us is not None else None,
        "state": state,
        "problem": without_effect(key) if state == "valid" else None,
    }
