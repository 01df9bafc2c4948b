"""Groups through marathon-python: `groups.py URL`. Prints the apps of the group over time."""

import json

from marathon.exceptions import ConflictError, NotFoundError
from marathon.models import MarathonApp, MarathonGroup

from waiting import client, ended, running

marathon = client()


def app(app_id, **more):
    return MarathonApp(id=app_id, cmd="sleep 1000", cpus=0.1, mem=32, **more)


# A group within a group, whose app waits for the other by a name that is seen from its group.
inner = MarathonGroup(id="back", apps=[app("db")])
outer = MarathonGroup(id="/shop", groups=[inner], apps=[app("web", dependencies=["back/db"])])
ended(marathon, marathon.create_group(outer))
running(marathon, "/shop/web", 1)
running(marathon, "/shop/back/db", 1)
try:
    marathon.create_group(MarathonGroup(id="/shop"))
    raise AssertionError("created twice")
except ConflictError as error:
    assert error.error_message == "Group /shop is already created. Use PUT to change this group.", error

shop = marathon.get_group("/shop")
assert shop.id == "/shop" and [part.id for part in shop.groups] == ["/shop/back"], shop
assert [part.id for part in shop.apps] == ["/shop/web"], shop.apps
assert [part.id for part in shop.groups[0].apps] == ["/shop/back/db"], shop.groups
assert shop.apps[0].dependencies == ["/shop/back/db"], shop.apps[0]
assert [group.id for group in marathon.list_groups()] == ["/shop"]
assert [part.id for part in marathon.get_group("/").groups] == ["/shop"]
versions_before = shop.version

# Twice as many of each; then other apps instead.
ended(marathon, marathon.scale_group("/shop", 2))
running(marathon, "/shop/web", 2)
running(marathon, "/shop/back/db", 2)
ended(marathon, marathon.update_group("/shop", MarathonGroup(apps=[app("web"), app("cron")])))
running(marathon, "/shop/cron", 1)
running(marathon, "/shop/web", 1)
assert len(running(marathon, "/shop/back/db", 2)) == 2, "groups that were not named stay"
assert marathon.get_group("/shop").version > versions_before
apps = sorted(listed.id for listed in marathon.list_apps())

ended(marathon, marathon.delete_group("/shop", force=True))
try:
    marathon.get_group("/shop")
    raise AssertionError("it is still there")
except NotFoundError as error:
    assert error.error_message == "Group '/shop' does not exist", error
assert marathon.list_apps() == [] and marathon.list_groups() == []
print(json.dumps({"apps": apps}))
