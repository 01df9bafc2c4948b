"""What the scripts share: the client that the test's first argument names, and waiting with a deadline."""

import sys
import time

from marathon import MarathonClient

LIMIT_S = 60


def client():
    return MarathonClient(sys.argv[1])


def wait(what, condition):
    """Waits until a condition gives something, and returns that."""
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError(f"waited in vain for {what}; last: {value!r}")


def ended(marathon, reply):
    """Waits until the deployment that a reply tells of is over."""
    def is_over():
        return all(listed.id != reply["deploymentId"] for listed in marathon.list_deployments())
    assert reply["version"].endswith("Z"), reply
    wait(f"the end of {reply}", is_over)


def running(marathon, app_id, count):
    """Waits until an app has just so many tasks, all running, and returns them."""
    def all_running():
        tasks = marathon.list_tasks(app_id)
        settled = len(tasks) == count and all(task.state == "TASK_RUNNING" for task in tasks)
        # In a list of its own, as no tasks at all may be what is waited for.
        return [tasks] if settled and not marathon.list_deployments() else None
    return wait(f"{count} tasks of {app_id}", all_running)[0]
