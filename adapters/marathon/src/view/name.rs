//! The names of Marathon's objects, and their conversion to and from Muster's ids.
//!
//! The conversion needs no stored data: the name of a task contains its app, slot, attempt and run,
//! and the name of a deployment its number.

use model::{DeploymentId, InstanceId, ServiceId, Timestamp};

/// The prefix of the UUIDs of deployments.
const DEPLOYMENT: &str = "6d757374-6572-4000-8000-";
/// The prefix of the UUIDs for changes without effect, which contain the time of the change.
const NOTHING: &str = "6d757374-6572-4000-8001-";

/// The name of an instance: `shop_web.instance-00000000-0000-4000-8000-000000000001`.
pub(crate) fn instance(id: &InstanceId) -> String {
    let app = id.service.as_str().trim_start_matches('/').replace('/', "_");
    format!("{app}.instance-{:08x}-0000-4000-8000-{:012x}", id.replica.slot, id.replica.attempt)
}

/// The name of an instance's run as a task. Run 0 has the name of the first run.
pub(crate) fn task(id: &InstanceId, run: u32) -> String {
    format!("{}._app.{}", instance(id), run.max(1))
}

/// Parses the name of a task, or of an instance. For an instance, the run is 0.
pub(crate) fn parse_task(name: &str) -> Option<(InstanceId, u32)> {
    let (app, rest) = name.split_once(".instance-")?;
    let (uuid, run) = match rest.split_once("._app.") {
        Some((uuid, run)) => (uuid, run.parse().ok().filter(|run| *run > 0)?),
        None => (rest, 0),
    };
    let slot = u32::from_str_radix(uuid.get(..8)?, 16).ok()?;
    let attempt = u32::from_str_radix(uuid.get(24..)?, 16).ok()?;
    // Ids of apps do not contain underscores.
    let service: ServiceId = app.replace('_', "/").parse().ok()?;
    let id = InstanceId::new(service, slot, attempt);
    (self::instance(&id) == name.split("._app.").next()?).then_some((id, run))
}

/// The name of a deployment.
pub(crate) fn deployment(id: DeploymentId) -> String {
    format!("{DEPLOYMENT}{:012x}", id.0)
}

/// A placeholder for the name of a deployment, for a change without effect.
pub(crate) fn no_deployment(at: Timestamp) -> String {
    format!("{NOTHING}{:012x}", at.0)
}

/// Parses the name of a deployment.
pub(crate) fn parse_deployment(name: &str) -> Option<DeploymentId> {
    let number = u64::from_str_radix(name.strip_prefix(DEPLOYMENT)?, 16).ok()?;
    Some(DeploymentId(number)).filter(|id| deployment(*id) == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_back_to_their_ids() {
        let id: InstanceId = "/shop/web.v1~10.3".parse().unwrap();
        let name = task(&id, 2);
        assert_eq!(name, "shop_web.v1.instance-0000000a-0000-4000-8000-000000000003._app.2");
        assert_eq!(parse_task(&name), Some((id.clone(), 2)));
        assert_eq!(parse_task(&instance(&id)), Some((id, 0)));
        let id = DeploymentId(77);
        assert_eq!(parse_deployment(&deployment(id)), Some(id));
    }

    #[test]
    fn invalid_names_do_not_parse() {
        for name in [
            "",
            "web",
            "web.instance-",
            "web.instance-0._app.1",
            "web.instance-0000000a-0000-4000-8000-000000000003._app.0",
            "web.instance-0000000A-0000-4000-8000-000000000003._app.1",
            "web.instance-0000000a-0000-4000-9000-000000000003._app.1",
            "../x.instance-0000000a-0000-4000-8000-000000000003._app.1",
            "web.instance-0000000aé0000-4000-8000-000000000003._app.1",
        ] {
            assert_eq!(parse_task(name), None, "{name}");
        }
        assert_eq!(parse_deployment(&no_deployment(Timestamp(5))), None);
        assert_eq!(parse_deployment("6d757374-6572-4000-8000-00000000004D"), None);
    }
}
