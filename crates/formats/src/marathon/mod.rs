//! stub
use crate::fault::Faults;
use crate::tree::{Node, Position};
use model::Spec;
pub(crate) fn app(_tree: Node, _is_json: bool, _faults: &mut Faults<'_>) -> Option<Spec> {
    None
}
pub(crate) fn locate(tree: &Node, key: &str) -> (Position, String) {
    (tree.locate(key).0, key.into())
}
