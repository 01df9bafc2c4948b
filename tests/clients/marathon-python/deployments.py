"""Deployments that do not come to an end by themselves, through marathon-python: `deployments.py URL`."""

import json

from marathon.exceptions import ConflictError, NotFoundError
from marathon.models import MarathonApp

from waiting import client, ended, running, wait

marathon = client()
GOOD = {"cmd": "sleep 1000", "cpus": 0.1, "mem": 32}


def only_deployment():
    deployments = marathon.list_deployments()
    return deployments[0] if len(deployments) == 1 else None


def env():
    return marathon.get_app("/stuck/web").env


# An app that runs, and an update of it for which there is no room anywhere.
marathon.create_app("/stuck/web", MarathonApp(instances=1, env={"ROUND": "1"}, **GOOD))
task = running(marathon, "/stuck/web", 1)[0]
reply = marathon.update_app("/stuck/web", MarathonApp(cpus=9999, env={"ROUND": "2"}))
deployment = wait("the deployment", only_deployment)
assert deployment.id == reply["deploymentId"], (deployment, reply)
assert deployment.affected_apps == ["/stuck/web"] and deployment.affected_pods == [], deployment
assert deployment.total_steps == 1 and deployment.current_step == 1, deployment
assert [action.action for action in deployment.current_actions] == ["RestartApplication"], deployment
assert [action.app for step in deployment.steps for action in step.actions] == ["/stuck/web"], deployment
assert [found.id for found in marathon.get_app("/stuck/web").deployments] == [deployment.id]

# It waits in the queue, which says why.
item = wait("the queue", lambda: next(iter(marathon.list_queue(embed_last_unused_offers=True)), None))
assert item.app.id == "/stuck/web" and item.count == 1 and item.app.cpus == 9999, item
assert item.delay.overdue is True, item.delay
reasons = {found["reason"]: found for found in item.processed_offers_summary["rejectSummaryLastOffers"]}
assert reasons["InsufficientCpus"]["declined"] >= 1, reasons
assert [offer["reason"][0] for offer in item.last_unused_offers] == ["InsufficientCpus"], item.last_unused_offers
assert item.last_unused_offers[0]["offer"]["hostname"] == task.host, item.last_unused_offers
marathon.reset_delay("/stuck/web")
try:
    marathon.reset_delay("/stuck/none")
    raise AssertionError("there is no such app")
except NotFoundError as error:
    assert error.error_message == "Application /stuck/none not found in tasks queue.", error

# Locked for others; what was refused changes nothing.
for change in [lambda: marathon.update_app("/stuck/web", MarathonApp(env={"ROUND": "3"})),
               lambda: marathon.scale_app("/stuck/web", instances=2),
               lambda: marathon.restart_app("/stuck/web")]:
    try:
        change()
        raise AssertionError("it was not locked")
    except ConflictError as error:
        assert error.error_message.startswith("App is locked by one or more deployments."), error
assert env() == {"ROUND": "2"}, env()
assert only_deployment().id == deployment.id

# Rolled back to what there was before it, with the task that never left.
reply = marathon.delete_deployment(deployment.id)
assert reply["deploymentId"] != deployment.id, reply
ended(marathon, reply)
app = marathon.get_app("/stuck/web")
assert (app.env, app.cpus) == ({"ROUND": "1"}, 0.1), app
assert [found.id for found in running(marathon, "/stuck/web", 1)] == [task.id]

# Overtaken by one who insists.
marathon.update_app("/stuck/web", MarathonApp(cpus=9999))
wait("the deployment", only_deployment)
reply = marathon.update_app("/stuck/web", MarathonApp(cpus=0.1, env={"ROUND": "4"}), force=True)
ended(marathon, reply)
assert env() == {"ROUND": "4"}, env()

# Stopped where it is: the app stays what it was to become, and is free again.
stuck = marathon.update_app("/stuck/web", MarathonApp(cpus=9999))
wait("the deployment", only_deployment)
assert marathon.delete_deployment(stuck["deploymentId"], force=True) == {}
wait("no deployment", lambda: marathon.list_deployments() == [])
assert marathon.get_app("/stuck/web").cpus == 9999
ended(marathon, marathon.update_app("/stuck/web", MarathonApp(cpus=0.1)))
try:
    marathon.delete_deployment(stuck["deploymentId"])
    raise AssertionError("there is no such deployment")
except NotFoundError as error:
    assert error.error_message == f"DeploymentPlan {stuck['deploymentId']} does not exist", error

print(json.dumps({"reasons": sorted(reasons)}))
