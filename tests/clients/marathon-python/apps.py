"""The life of an app through marathon-python: `apps.py URL PROGRAM`. Prints what the test compares."""

import json
import sys

from marathon.exceptions import ConflictError, MarathonHttpError, NotFoundError
from marathon.models import MarathonApp

from waiting import client, ended, running, wait

program = sys.argv[2]
marathon = client()

# The server.
assert b"pong" in marathon.ping()
info = marathon.get_info()
assert info.name == "marathon" and info.elected and info.framework_id, vars(info)
assert info.http_config.http_port, vars(info.http_config)
assert marathon.get_leader()["leader"] == info.leader
assert isinstance(marathon.get_metrics(), dict)

# Created, listed, looked at.
fresh = MarathonApp(cmd=program, cpus=0.1, mem=32, instances=2, labels={"tier": "front"},
                    env={"SIMPLE_SERVICE_VERSION": "0.9"})
created = marathon.create_app("/py/web", fresh)
assert created.id == "/py/web" and created.instances == 2, created
assert len(created.deployments) == 1, created
first_version = created.version
tasks = running(marathon, "/py/web", 2)
try:
    marathon.create_app("/py/web", MarathonApp(cmd=program))
    raise AssertionError("created twice")
except ConflictError as error:
    assert error.error_message == "An app with id [/py/web] already exists.", error

app = marathon.get_app("/py/web", embed_tasks=True, embed_counts=True, embed_task_stats=True,
                       embed_last_task_failure=True, embed_readiness=True, embed_deployments=True)
assert app.tasks_running == 2 and app.tasks_staged == 0, app
assert app.version == first_version, app
assert app.version_info.last_config_change_at == app.version_info.last_scaling_at, app
assert app.upgrade_strategy.minimum_health_capacity == 1, app
assert {task.id for task in app.tasks} == {task.id for task in tasks}, app
assert all(len(task.ports) == 1 and task.started_at >= task.staged_at for task in tasks), tasks
assert app.task_stats.total_summary.stats.counts.running == 2, app.task_stats
assert 10000 <= app.port_definitions[0].port <= 20000, app.port_definitions


def listed(**filters):
    return [found.id for found in marathon.list_apps(**filters)]


marathon.create_app("/py/other", MarathonApp(cmd="sleep 1000", cpus=0.1, mem=32))
running(marathon, "/py/other", 1)
assert listed() == ["/py/other", "/py/web"], listed()
assert listed(app_id="WEB") == ["/py/web"]
assert listed(cmd="sleep") == ["/py/other"]
assert listed(label="tier==front") == ["/py/web"]
assert listed(label="tier!=front") == []
assert listed(label="tier in (front, back)") == ["/py/web"]
assert listed(embed_tasks=True, embed_counts=True, instances=2) == ["/py/web"]
assert len(marathon.list_tasks()) == 3
assert {endpoint.app_id for endpoint in marathon.list_endpoints()} == {"/py/other", "/py/web"}

# Changed: by a part, by the whole that was got, by many at once.
reply = marathon.update_app("/py/web", MarathonApp(env={"SIMPLE_SERVICE_VERSION": "1.0"}))
ended(marathon, reply)
second_version = reply["version"]
assert {task.version for task in running(marathon, "/py/web", 2)} == {second_version}
whole = marathon.get_app("/py/web")
whole.instances = 3
ended(marathon, marathon.update_app("/py/web", whole))
kept = {task.id for task in running(marathon, "/py/web", 3) if task.version == second_version}
assert len(kept) == 2, "scaling starts nothing anew"
ended(marathon, marathon.scale_app("/py/web", delta=-1))
running(marathon, "/py/web", 2)
ended(marathon, marathon.scale_app("/py/web", instances=4))
running(marathon, "/py/web", 4)
several = [MarathonApp(id="/py/web", instances=2), MarathonApp(id="/py/third", cmd="sleep 1000", cpus=0.1, mem=32)]
ended(marathon, marathon.update_apps(several))
running(marathon, "/py/web", 2)
running(marathon, "/py/third", 1)

# Versions, newest first, and back to the first of them.
versions = marathon.list_versions("/py/web")
assert versions == sorted(versions, reverse=True) and versions[-1] == first_version, versions
assert second_version in versions, versions
old = marathon.get_version("/py/web", first_version)
assert old.env == {"SIMPLE_SERVICE_VERSION": "0.9"} and old.instances == 2, old
ended(marathon, marathon.rollback_app("/py/web", first_version))
assert marathon.get_app("/py/web").env == {"SIMPLE_SERVICE_VERSION": "0.9"}

# Restarted, killed in each way.
before = {task.id for task in running(marathon, "/py/web", 2)}
ended(marathon, marathon.restart_app("/py/web"))
after = {task.id for task in running(marathon, "/py/web", 2)}
assert not before & after, (before, after)


def replaced(old_ids):
    tasks = running(marathon, "/py/web", 2)
    return tasks if not old_ids & {task.id for task in tasks} else None


victim = sorted(after)[0]
killed = marathon.kill_task("/py/web", victim)
assert killed.id == victim and killed.app_id == "/py/web", killed
wait("a new task", lambda: replaced({victim}))
before = {task.id for task in running(marathon, "/py/web", 2)}
killed = marathon.kill_tasks("/py/web", wipe=True)
assert {task.id for task in killed} == before, killed
wait("new tasks", lambda: replaced(before))
victim = running(marathon, "/py/web", 2)[0].id
reply = marathon.kill_task("/py/web", victim, scale=True)
ended(marathon, reply)
survivor = running(marathon, "/py/web", 1)[0].id
assert survivor != victim and marathon.get_app("/py/web").instances == 1
ended(marathon, marathon.scale_app("/py/web", instances=3))
victims = [task.id for task in running(marathon, "/py/web", 3) if task.id != survivor]
assert marathon.kill_given_tasks(victims, scale=True)
assert [task.id for task in running(marathon, "/py/web", 1)] == [survivor]
host = running(marathon, "/py/web", 1)[0].host
ended(marathon, marathon.kill_tasks("/py/web", host=host, scale=True))
assert marathon.get_app("/py/web").instances == 0

# Deleted.
for app_id in ["/py/web", "/py/other", "/py/third"]:
    ended(marathon, marathon.delete_app(app_id))
for call in [lambda: marathon.get_app("/py/web"), lambda: marathon.delete_app("/py/web"),
             lambda: marathon.list_versions("/py/web"), lambda: marathon.restart_app("/py/web"),
             lambda: marathon.list_tasks("/py/web"), lambda: marathon.rollback_app("/py/web", first_version)]:
    try:
        call()
        raise AssertionError("it is still there")
    except NotFoundError as error:
        assert error.error_message == "App '/py/web' does not exist", error
try:
    marathon.create_app("/py/bad", MarathonApp(cmd=program, cpus=-1))
    raise AssertionError("created with less than no processor")
except MarathonHttpError as error:
    assert error.status_code == 422 and error.error_message == "Object is not valid", error
    assert [detail["path"] for detail in error.error_details] == ["/cpus"], error.error_details

print(json.dumps({"versions": versions, "info": {"name": info.name, "version": info.version}}))
