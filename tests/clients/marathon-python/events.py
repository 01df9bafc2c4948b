"""The events of an app's life through marathon-python, which makes an object of each: `events.py URL PROGRAM`.

Prints the names of the events in their order. The library fails on any event that it does not know, and on plans
without their groups.
"""

import json
import sys
import threading

from marathon.models import MarathonApp, MarathonHealthCheck
from marathon.models.events import EventFactory, MarathonInstanceChangedEvent, MarathonStatusUpdateEvent

from waiting import client, ended, running, wait

program = sys.argv[2]
marathon = client()


class Stream(threading.Thread):
    """Follows events until one says that the app is gone."""

    def __init__(self, **filters):
        super().__init__(daemon=True)
        self.filters, self.events, self.error = filters, [], None

    def run(self):
        try:
            for event in client().event_stream(**self.filters):
                self.events.append(event)
        except Exception as error:  # Shown by whoever waits.
            self.error = error

    def of(self, name):
        if self.error:
            raise self.error
        return [event for event in self.events if event.event_type == name]

    def follow(self):
        self.start()
        return self


everything = Stream().follow()
states = Stream(event_types=[MarathonStatusUpdateEvent]).follow()
# These come only to those who ask for them.
instances = Stream(event_types=[MarathonInstanceChangedEvent, "instance_health_changed_event"]).follow()
attached = wait("the stream", lambda: everything.of("event_stream_attached"))
assert attached[0].remote_address, vars(attached[0])

check = MarathonHealthCheck(path="/health", interval_seconds=1, grace_period_seconds=60)
app = MarathonApp(cmd=program, cpus=0.1, mem=32, instances=2, health_checks=[check],
                  env={"SIMPLE_SERVICE_VERSION": "0.9"})
created = marathon.create_app("/py/web", app)
wait("the first deployment", lambda: everything.of("deployment_success"))
reply = marathon.update_app("/py/web", MarathonApp(env={"SIMPLE_SERVICE_VERSION": "1.0"}))
ended(marathon, reply)
tasks = running(marathon, "/py/web", 2)
ended(marathon, marathon.delete_app("/py/web"))
wait("the last deployment", lambda: len(everything.of("deployment_success")) >= 3)
wait("the last states", lambda: len([e for e in states.of("status_update_event")
                                     if e.task_status == "TASK_KILLED"]) >= 4)
assert everything.is_alive() and states.is_alive(), (everything.error, states.error)

# What the events say.
successes = everything.of("deployment_success")
assert successes[1].id == reply["deploymentId"], [vars(success) for success in successes]
posts = everything.of("api_post_event")
assert [post.uri for post in posts][:2] == ["/v2/apps", "/v2/apps/py/web"], [vars(post) for post in posts]
assert posts[0].app_definition["id"] == "/py/web" and posts[0].client_ip, vars(posts[0])
# One for each step of a deployment.
plans = {info.plan.id: info.plan for info in everything.of("deployment_info")}
assert list(plans)[:2] == [created.deployments[0].id, reply["deploymentId"]], plans
plan = plans[reply["deploymentId"]]
actions = [action.action for step in plan.steps for action in step.actions]
assert actions == ["RestartApplication"], actions
assert plan.original.id == "/" and plan.target.id == "/", vars(plan)
assert {change.group_id for change in everything.of("group_change_success")} == {"/py"}

updates = states.of("status_update_event")
assert {type(event) for event in states.events} == {MarathonStatusUpdateEvent}
assert {event.app_id for event in updates} == {"/py/web"}
course = {}
for event in updates:
    course.setdefault(event.task_id, []).append(event.task_status)
for task, seen in course.items():
    assert seen[-1] == "TASK_KILLED" and "TASK_RUNNING" in seen, (task, seen)
    order = ["TASK_STAGING", "TASK_STARTING", "TASK_RUNNING", "TASK_KILLING", "TASK_KILLED"]
    assert seen == sorted(set(seen), key=order.index), (task, seen)
assert {task.id for task in tasks} < set(course) and len(course) == 4, course
current = [event for event in updates if event.task_id == tasks[0].id and event.task_status == "TASK_RUNNING"][0]
assert (current.host, current.ports, current.slave_id) == (tasks[0].host, tasks[0].ports, tasks[0].slave_id)
assert current.version == tasks[0].version and current.ip_addresses[0].ip_address, vars(current)
healthy = [event for event in everything.of("health_status_changed_event") if event.alive]
assert {event.app_id for event in healthy} == {"/py/web"} and len(healthy) == 4, [vars(e) for e in healthy]
assert len(everything.of("app_terminated_event")) == 1
conditions = {event.condition for event in instances.of("instance_changed_event")}
assert {"Running", "Killing", "Killed"} <= conditions, conditions
assert {event.run_spec_id for event in instances.of("instance_changed_event")} == {"/py/web"}
healthy = [event for event in instances.of("instance_health_changed_event") if event.healthy]
assert len(healthy) == 4, [vars(event) for event in healthy]

names = [event.event_type for event in everything.events]
assert set(names) <= set(EventFactory.event_to_class), names
print(json.dumps(names))
