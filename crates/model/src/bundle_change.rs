//! Documents of bundles: each that differs from the newest revision of its bundle becomes the next.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::bundle::{Bundle, BundleSpec};
use crate::changeset::Changeset;
use crate::document::Document;
use crate::id::{RevisionNumber, ServiceId};
use crate::object::Key;
use crate::outcome::ChangeKind;
use crate::revision::BundleRef;
use crate::state::State;
use crate::unit::Timestamp;

/// Maximum number of revisions of a bundle.
const KEPT: usize = 10;
/// Maximum size of the sources of a bundle together. The newest revision is kept whatever its size.
const BYTES_MAX: usize = 4 << 20;

impl State {
    /// Applies the documents of bundles. Returns the revision of the bundle that describes each of
    /// their members; of nested bundles, the innermost.
    pub(crate) fn put_bundles(
        &mut self,
        documents: &[Document],
        at: Timestamp,
        applied: &mut Changeset,
    ) -> BTreeMap<ServiceId, BundleRef> {
        let mut of_members: BTreeMap<ServiceId, BundleRef> = BTreeMap::new();
        for document in documents {
            let Document::Bundle(spec) = document else { continue };
            let revision = self.put_bundle(spec, at, applied);
            for member in &spec.members {
                let bundle = BundleRef { path: spec.path.clone(), revision };
                let known = of_members.get(member);
                if known.is_none_or(|known| bundle.path.is_in(known.path.as_str())) {
                    of_members.insert(member.clone(), bundle);
                }
            }
        }
        of_members
    }

    fn put_bundle(
        &mut self,
        spec: &BundleSpec,
        at: Timestamp,
        applied: &mut Changeset,
    ) -> RevisionNumber {
        let path = &spec.path;
        let newest = self.bundle(path).map(Arc::clone);
        if let Some(known) = newest.as_ref().filter(|known| known.spec == *spec) {
            applied.change("bundle", path, ChangeKind::Unchanged).revision = Some(known.revision);
            return known.revision;
        }
        let verdict = if newest.is_some() { ChangeKind::Updated } else { ChangeKind::Created };
        let revision = newest.as_ref().map_or(0, |newest| newest.revision) + 1;
        let created_at = newest.map_or(at, |newest| at.max(Timestamp(newest.created_at.0 + 1)));
        let bundle = Bundle { revision, created_at, spec: spec.clone() };
        self.bundles.insert_mut((path.clone(), revision), Arc::new(bundle));
        applied.changed.insert(Key::Bundle(path.clone(), revision));
        applied.change("bundle", path, verdict).revision = Some(revision);
        self.prune_bundle(path, applied);
        revision
    }

    /// Drops the oldest revisions of a bundle until the limits are met.
    fn prune_bundle(&mut self, path: &ServiceId, applied: &mut Changeset) {
        let size = |bundle: &Arc<Bundle>| bundle.spec.source.as_ref().map_or(0, |s| s.text.len());
        let mut bytes = 0;
        let newest_first = self.bundle_revisions(path).rev().enumerate();
        let surplus = newest_first.filter(|(newer, bundle)| {
            bytes += size(bundle);
            *newer >= KEPT || (*newer > 0 && bytes > BYTES_MAX)
        });
        let surplus: Vec<_> = surplus.map(|(_, bundle)| bundle.revision).collect();
        surplus.into_iter().for_each(|revision| self.drop_bundle_revision(path, revision, applied));
    }

    /// Removes a bundle with its revisions, if it exists.
    pub(crate) fn drop_bundle(&mut self, path: &ServiceId, applied: &mut Changeset) {
        let revisions: Vec<_> = self.bundle_revisions(path).map(|b| b.revision).collect();
        if !revisions.is_empty() {
            applied.change("bundle", path, ChangeKind::Removed);
        }
        revisions.into_iter().for_each(|number| self.drop_bundle_revision(path, number, applied));
    }

    fn drop_bundle_revision(
        &mut self,
        path: &ServiceId,
        revision: RevisionNumber,
        applied: &mut Changeset,
    ) {
        let name = (path.clone(), revision);
        self.bundles.remove_mut(&name);
        applied.changed.insert(Key::Bundle(name.0, name.1));
    }
}
