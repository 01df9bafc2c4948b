//! Every command of `dcos marathon`, `dcos task` and `dcos node` that the lab's users have at hand,
//! with three versions of the command line, on apps of plain processes.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result};
use muster_tests::{Cluster, Dcos, get, wait_for};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(60);

/// The document of an app of the example service.
fn app(id: &str, version: &str) -> Result<Value> {
    Ok(json!({
        "id": id,
        "cmd": Cluster::simpleservice()?,
        "instances": 2,
        "cpus": 0.1,
        "mem": 32,
        "env": { "SIMPLE_SERVICE_VERSION": version }
    }))
}

/// Waits for the deployment that a command says it has created.
fn finished(dcos: &Dcos, printed: &str) -> Result<()> {
    let id = printed.trim().strip_prefix("Created deployment ").context(printed.to_string())?;
    dcos.ok(&["marathon", "deployment", "watch", id]).map(drop)
}

fn ids(tasks: &Value) -> BTreeSet<String> {
    let id = |task: &Value| task["id"].as_str().unwrap().to_string();
    tasks.as_array().unwrap().iter().map(id).collect()
}

/// The tasks of an app once there is this number and all run.
fn running(dcos: &Dcos, app: &str, count: usize) -> Result<Value> {
    wait_for("tasks", LIMIT, || {
        let tasks = dcos.json(&["marathon", "task", "list", "--json", app])?;
        let list = tasks.as_array().unwrap();
        let all = list.len() == count && list.iter().all(|task| task["state"] == "TASK_RUNNING");
        Ok(all.then_some(tasks))
    })
}

fn an_apps_life(version: &str) -> Result<()> {
    let cluster = Cluster::start(1)?;
    let dcos = Dcos::new(&cluster, version)?;
    let marathon = |args: &[&str]| dcos.ok(&[&["marathon"], args].concat());
    let done = |args: &[&str]| finished(&dcos, &marathon(args)?);
    let show = |args: &[&str]| dcos.json(&[&["marathon", "app", "show"], args].concat());

    // Added, but not twice.
    let file = cluster.write("web.json", &app("/shop/web", "0.9")?.to_string())?;
    finished(&dcos, &dcos.fed(&["marathon", "app", "add"], &file)?)?;
    let again = dcos.run(&["marathon", "app", "add", &file])?;
    assert_eq!((again.code, again.stderr.trim()), (1, "Application '/shop/web' already exists"));
    let table = dcos.table(&["marathon", "app", "list"])?;
    let heads =
        ["ID", "MEM", "CPUS", "TASKS", "HEALTH", "DEPLOYMENT", "WAITING", "CONTAINER", "CMD"];
    assert_eq!(table.heads, heads);
    let cells = heads.map(|head| table.rows[0][head].as_str());
    assert_eq!(cells[..7], ["/shop/web", "32", "0.1", "2/2", "---", "---", "False"]);
    let listed = dcos.json(&["marathon", "app", "list", "--json"])?;
    assert_eq!(listed[0]["id"], "/shop/web");
    let first = show(&["/shop/web"])?;
    assert_eq!((&first["tasksRunning"], &first["deployments"]), (&json!(2), &json!([])));

    // Changed from a file and by properties, then taken back to the first version.
    let env = json!({ "env": { "SIMPLE_SERVICE_VERSION": "1.0" }, "mem": 48 });
    let env = cluster.write("env.json", &env.to_string())?;
    finished(&dcos, &dcos.fed(&["marathon", "app", "update", "/shop/web"], &env)?)?;
    done(&["app", "update", "/shop/web", "mem=64", "instances=2", "user=null"])?;
    let second = show(&["/shop/web"])?;
    assert_eq!((&second["mem"], &second["instances"]), (&json!(64), &json!(2)));
    assert_eq!(second["env"]["SIMPLE_SERVICE_VERSION"], "1.0");
    let versions = dcos.json(&["marathon", "app", "version", "list", "/shop/web"])?;
    assert_eq!(versions.as_array().unwrap().len(), 3);
    assert_eq!((&versions[0], &versions[2]), (&second["version"], &first["version"]));
    let one = ["marathon", "app", "version", "list", "--max-count=1", "/shop/web"];
    assert_eq!(dcos.json(&one)?, json!([second["version"]]));
    let old = show(&["--app-version=-2", "/shop/web"])?;
    assert_eq!((&old["env"], &old["mem"]), (&first["env"], &json!(32)));
    let back = cluster.write("back.json", &json!({ "version": first["version"] }).to_string())?;
    finished(&dcos, &dcos.fed(&["marathon", "app", "update", "/shop/web"], &back)?)?;
    assert_eq!(show(&["/shop/web"])?["env"], first["env"]);
    let tasks = running(&dcos, "/shop/web", 2)?;
    let port = tasks[0]["ports"][0].as_u64().unwrap() as u16;
    assert!(get(port, "/endpoint0")?.contains("\"version\": \"0.9\""));

    // Stopped, started, restarted.
    let known = dcos.run(&["marathon", "app", "start", "/shop/web"])?;
    assert_eq!(known.code, 1);
    assert!(known.stdout.contains("already started: 2 instances"), "{known:?}");
    done(&["app", "stop", "/shop/web"])?;
    assert_eq!(running(&dcos, "/shop/web", 0)?, json!([]));
    let known = dcos.run(&["marathon", "app", "stop", "/shop/web"])?;
    assert_eq!(known.code, 1);
    assert!(known.stdout.contains("already stopped: 0 instances"), "{known:?}");
    done(&["app", "start", "/shop/web", "3"])?;
    let before = ids(&running(&dcos, "/shop/web", 3)?);
    done(&["app", "restart", "/shop/web"])?;
    let after = ids(&running(&dcos, "/shop/web", 3)?);
    assert!(before.is_disjoint(&after), "{before:?} {after:?}");

    // One task stopped, all of them killed: others take their place. Killed with the place: not.
    let victim = after.first().unwrap();
    let stopped = dcos.json(&["marathon", "task", "stop", victim])?;
    assert_eq!(stopped["id"], victim.as_str());
    let replaced = |victims: &BTreeSet<String>| {
        let tasks = ids(&running(&dcos, "/shop/web", 3)?);
        Ok(tasks.is_disjoint(victims).then_some(tasks))
    };
    let victims = BTreeSet::from([victim.clone()]);
    let tasks = wait_for("another task", LIMIT, || replaced(&victims))?;
    assert!(marathon(&["app", "kill", "/shop/web"])?.starts_with("Killed tasks: "));
    wait_for("other tasks", LIMIT, || replaced(&tasks))?;
    assert!(
        marathon(&["app", "kill", "--scale", "/shop/web"])?.starts_with("Started deployment: ")
    );
    running(&dcos, "/shop/web", 0)?;
    assert_eq!(show(&["/shop/web"])?["instances"], 0);
    let unknown = dcos.run(&["marathon", "task", "stop", victim])?;
    let message = format!("Task '{victim}' does not exist");
    assert_eq!((unknown.code, unknown.stderr.trim()), (1, message.as_str()));

    marathon(&["app", "remove", "/shop/web"])?;
    let gone = dcos.run(&["marathon", "app", "show", "/shop/web"])?;
    assert_eq!((gone.code, gone.stderr.trim()), (1, "Error: App '/shop/web' does not exist"));
    let wrong =
        cluster.write("wrong.json", r#"{"id": "/web", "cmd": "sleep 1", "cpus": "much"}"#)?;
    let wrong = dcos.run(&["marathon", "app", "add", &wrong])?;
    assert_eq!(wrong.code, 1);
    assert!(wrong.stderr.contains("HTTP 422") && wrong.stderr.contains("/cpus"), "{wrong:?}");
    Ok(())
}

fn groups(version: &str) -> Result<()> {
    let cluster = Cluster::start(1)?;
    let dcos = Dcos::new(&cluster, version)?;
    let sleeper = |id: &str| json!({ "id": id, "cmd": "sleep 1000", "cpus": 0.1, "mem": 32 });
    let group = json!({
        "id": "/shop",
        "apps": [sleeper("web")],
        "groups": [{ "id": "back", "apps": [sleeper("db"), sleeper("cache")] }]
    });
    let file = cluster.write("group.json", &group.to_string())?;
    finished(&dcos, &dcos.ok(&["marathon", "group", "add", &file])?)?;
    let again = dcos.run(&["marathon", "group", "add", &file])?;
    assert_eq!((again.code, again.stderr.trim()), (1, "Group '/shop' already exists"));

    let table = dcos.table(&["marathon", "group", "list"])?;
    assert_eq!(table.heads, ["ID", "APPS"]);
    let row =
        |row: &std::collections::BTreeMap<String, String>| (row["ID"].clone(), row["APPS"].clone());
    let rows: BTreeSet<_> = table.rows.iter().map(row).collect();
    let expected = [("/shop", "3"), ("/shop/back", "2")];
    assert_eq!(rows, expected.map(|(id, apps)| (id.into(), apps.into())).into());
    let shown = dcos.json(&["marathon", "group", "show", "/shop"])?;
    assert_eq!(shown["apps"][0]["id"], "/shop/web");
    assert_eq!(shown["groups"][0]["id"], "/shop/back");

    finished(&dcos, &dcos.ok(&["marathon", "group", "scale", "/shop", "2"])?)?;
    running(&dcos, "/shop/web", 2)?;
    running(&dcos, "/shop/back/db", 2)?;
    let change = json!({ "groups": [{ "id": "back", "apps": [sleeper("db")] }] });
    let change = cluster.write("change.json", &change.to_string())?;
    finished(&dcos, &dcos.fed(&["marathon", "group", "update", "/shop"], &change)?)?;
    let apps = dcos.json(&["marathon", "app", "list", "--json"])?;
    assert_eq!(ids(&apps), ["/shop/back/db", "/shop/web"].map(String::from).into());
    dcos.ok(&["marathon", "group", "remove", "/shop"])?;
    wait_for("all to be gone", LIMIT, || {
        let apps = dcos.json(&["marathon", "app", "list", "--json"])?;
        Ok((apps == json!([])).then_some(()))
    })?;
    let gone = dcos.run(&["marathon", "group", "show", "/shop"])?;
    assert_eq!((gone.code, gone.stderr.trim()), (1, "Error: Group '/shop' does not exist"));
    Ok(())
}

fn the_queue(version: &str) -> Result<()> {
    let cluster = Cluster::start(1)?;
    let dcos = Dcos::new(&cluster, version)?;
    let marathon = |args: &[&str]| dcos.ok(&[&["marathon"], args].concat());
    let file = cluster.write("web.json", &app("/web", "0.9")?.to_string())?;
    finished(&dcos, &marathon(&["app", "add", &file])?)?;
    let before = ids(&running(&dcos, "/web", 2)?);
    let created = marathon(&["app", "update", "/web", "cpus=9999"])?;
    let deployment = created.trim().rsplit(' ').next().unwrap();

    let table = wait_for("the queue", LIMIT, || {
        let table = dcos.table(&["marathon", "debug", "list"])?;
        Ok((!table.rows.is_empty()).then_some(table))
    })?;
    let heads = [
        "ID",
        "SINCE",
        "INSTANCES TO LAUNCH",
        "WAITING",
        "PROCESSED OFFERS",
        "UNUSED OFFERS",
        "LAST UNUSED OFFER",
        "LAST USED OFFER",
    ];
    assert_eq!(table.heads, heads);
    let row = &table.rows[0];
    let cells = ["ID", "INSTANCES TO LAUNCH", "WAITING"].map(|head| row[head].as_str());
    assert_eq!(cells, ["/web", "2", "True"]);
    let table = dcos.table(&["marathon", "debug", "summary", "/web"])?;
    assert_eq!(table.heads, ["RESOURCE", "REQUESTED", "MATCHED", "PERCENTAGE"]);
    let cpus = table.rows.iter().find(|row| row["RESOURCE"] == "CPUS").unwrap();
    assert!(
        cpus["REQUESTED"].starts_with("9999") && cpus["MATCHED"].starts_with("0 / "),
        "{cpus:?}"
    );
    assert_eq!(cpus["PERCENTAGE"], "0.00%");
    let table = dcos.table(&["marathon", "debug", "details", "/web"])?;
    let heads = ["HOSTNAME", "ROLE", "CONSTRAINTS", "CPUS", "MEM", "DISK", "PORTS"];
    assert_eq!(table.heads[..7], heads);
    assert_eq!((table.rows[0]["CPUS"].as_str(), table.rows[0]["MEM"].as_str()), ("-", "ok"));
    let waiting = &dcos.table(&["marathon", "app", "list"])?.rows[0];
    assert_eq!((waiting["WAITING"].as_str(), waiting["DEPLOYMENT"].as_str()), ("True", "restart"));

    let table = dcos.table(&["marathon", "deployment", "list"])?;
    assert_eq!(table.heads, ["APP", "POD", "ACTION", "PROGRESS", "ID"]);
    let cells = ["APP", "POD", "ACTION", "PROGRESS", "ID"].map(|head| table.rows[0][head].as_str());
    assert_eq!(cells, ["/web", "-", "restart", "0/1", deployment]);

    // Other changes are rejected unless forced, and the change can be reverted.
    let blocked = dcos.run(&["marathon", "app", "update", "/web", "mem=48"])?;
    let message = "Changes blocked: deployment already in progress for app.";
    assert_eq!((blocked.code, blocked.stderr.trim()), (1, message));
    let listed = dcos.json(&["marathon", "deployment", "list", "--json"])?;
    assert_eq!(listed[0]["id"], deployment);
    let watched = ["marathon", "deployment", "watch", "--max-count=1", deployment];
    assert!(dcos.ok(&watched)?.contains(deployment));
    let reply = dcos.json(&["marathon", "deployment", "rollback", deployment])?;
    finished(&dcos, &format!("Created deployment {}", reply["deploymentId"].as_str().unwrap()))?;
    assert_eq!(ids(&running(&dcos, "/web", 2)?), before);
    assert_eq!(dcos.json(&["marathon", "app", "show", "/web"])?["cpus"], 0.1);

    // Stopped where it is, the app can be changed again.
    let created = marathon(&["app", "update", "/web", "cpus=9999"])?;
    marathon(&["deployment", "stop", created.trim().rsplit(' ').next().unwrap()])?;
    wait_for("no deployment", LIMIT, || {
        let listed = dcos.json(&["marathon", "deployment", "list", "--json"])?;
        Ok((listed == json!([])).then_some(()))
    })?;
    marathon(&["app", "update", "/web", "cpus=9998"])?;
    finished(&dcos, &marathon(&["app", "update", "--force", "/web", "cpus=0.2"])?)?;
    running(&dcos, "/web", 2).map(drop)
}

fn the_machines(version: &str, task_heads: &[&str], node_heads: &[&str]) -> Result<()> {
    let cluster = Cluster::start(2)?;
    let dcos = Dcos::new(&cluster, version)?;
    let output = dcos.ok(&["--version"])?;
    assert!(
        output.contains(&format!("dcoscli.version={version}"))
            && !output.contains("dcos.version=N/A"),
        "{output}"
    );
    let about = dcos.json(&["marathon", "about"])?;
    assert_eq!((&about["name"], &about["elected"]), (&json!("marathon"), &json!(true)));

    let table = dcos.table(&["node"])?;
    assert_eq!(table.heads, node_heads);
    let nodes = dcos.json(&["node", "--json"])?;
    let agents: Vec<_> =
        nodes.as_array().unwrap().iter().filter(|node| node["pid"] != Value::Null).collect();
    assert!(agents.len() >= 2, "{nodes}");

    let file = cluster.write("web.json", &app("/shop/web", "0.9")?.to_string())?;
    finished(&dcos, &dcos.ok(&["marathon", "app", "add", &file])?)?;
    let tasks = running(&dcos, "/shop/web", 2)?;
    let table = dcos.table(&["task"])?;
    assert_eq!(table.heads, task_heads);
    assert_eq!(table.rows.len(), 2);
    for row in &table.rows {
        assert_eq!((row["NAME"].as_str(), row["STATE"].as_str()), ("web.shop", "R"));
        assert!(ids(&tasks).contains(&row["ID"]), "{row:?}");
    }
    let id = tasks[0]["id"].as_str().unwrap();
    let listed = dcos.json(&["task", "--json", id])?;
    assert_eq!((&listed[0]["id"], &listed[0]["state"]), (&json!(id), &json!("TASK_RUNNING")));
    assert_eq!(listed[0]["slave_id"], tasks[0]["slaveId"]);

    // Logs: the last lines of one file, all of a pattern, and a missing one.
    let log = dcos.ok(&["task", "log", "--lines=1", id, "stderr"])?;
    assert!(log.contains("This is simple service in version v0.9"), "{log}");
    let both = dcos.ok(&["task", "log", "shop_web", "stderr"])?;
    assert_eq!(both.matches("This is simple service").count(), 2, "{both}");
    assert_eq!(both.matches("===> ").count(), 2, "{both}");
    let none = dcos.run(&["task", "log", "shop_none"])?;
    assert_eq!((none.code, none.stderr.trim()), (1, "No matching tasks. Exiting."));

    if version != "0.4.17" {
        newer_commands(&dcos, id)?;
    }

    dcos.ok(&["marathon", "app", "remove", "/shop/web"])?;
    wait_for("the tasks to end", LIMIT, || Ok(dcos.ok(&["task"])?.is_empty().then_some(())))?;
    let table = dcos.table(&["task", "--completed"])?;
    let ended = table.rows.iter().filter(|row| row["STATE"] == "K" && row["NAME"] == "web.shop");
    assert!(ended.count() >= 2, "{table:?}");
    Ok(())
}

/// Commands of versions after that of the lab.
fn newer_commands(dcos: &Dcos, task: &str) -> Result<()> {
    assert_eq!(dcos.ok(&["marathon", "app", "list", "--quiet"])?.trim(), "/shop/web");
    let pinged = dcos.ok(&["marathon", "ping"])?;
    assert!(
        pinged.starts_with("Marathon ping response[1x]: ") && pinged.contains("pong"),
        "{pinged}"
    );
    let leader = dcos.json(&["marathon", "leader", "show", "--json"])?;
    assert_eq!(leader["ip"], "127.0.0.1");
    assert_eq!(dcos.json(&["marathon", "plugin", "list", "--json"])?, json!({ "plugins": [] }));
    let killed = dcos.json(&["marathon", "task", "kill", "--json", task])?;
    assert_eq!(killed["tasks"][0]["id"], task);
    let replaced = || Ok(!ids(&running(dcos, "/shop/web", 2)?).contains(task));
    wait_for("another task", LIMIT, || replaced().map(|is| is.then_some(())))
}

const TASK: [&str; 8] = ["NAME", "HOST", "USER", "STATE", "ID", "MESOS ID", "REGION", "ZONE"];
const NODE: [&str; 6] = ["HOSTNAME", "IP", "ID", "TYPE", "REGION", "ZONE"];

#[test]
fn an_apps_life_with_dcos_0_4() -> Result<()> {
    an_apps_life("0.4.17")
}

#[test]
fn an_apps_life_with_dcos_0_5() -> Result<()> {
    an_apps_life("0.5.7")
}

#[test]
fn an_apps_life_with_dcos_0_6() -> Result<()> {
    an_apps_life("0.6.1")
}

#[test]
fn groups_with_dcos_0_4() -> Result<()> {
    groups("0.4.17")
}

#[test]
fn groups_with_dcos_0_6() -> Result<()> {
    groups("0.6.1")
}

#[test]
fn the_queue_with_dcos_0_4() -> Result<()> {
    the_queue("0.4.17")
}

#[test]
fn the_queue_with_dcos_0_6() -> Result<()> {
    the_queue("0.6.1")
}

#[test]
fn the_machines_with_dcos_0_4() -> Result<()> {
    the_machines("0.4.17", &TASK[..5], &NODE[..3])
}

#[test]
fn the_machines_with_dcos_0_5() -> Result<()> {
    the_machines("0.5.7", &TASK[..6], &NODE[..4])
}

#[test]
fn the_machines_with_dcos_0_6() -> Result<()> {
    the_machines("0.6.1", &TASK, &NODE)
}
