//! `configs` of the top level whose content is a file of the project.

use crate::yaml::{Node, Value};

use super::resources::{Need, Role};
use super::{Interpolation, Loader};

impl Loader<'_, '_, '_> {
    /// Puts the text of each `file` where `content` would stand, as it is: variables in it are not replaced.
    pub(super) fn read_configs(&mut self, root: &mut Node) {
        if self.request.interpolation == Interpolation::LeftOut {
            return;
        }
        let Value::Map(sections) = &mut root.value else { return };
        for section in sections.iter_mut().filter(|section| section.key == "configs") {
            let Value::Map(configs) = &mut section.node.value else { continue };
            for config in configs {
                let Value::Map(members) = &mut config.node.value else { continue };
                for member in members.iter_mut().filter(|member| member.key == "file") {
                    let place = member.node.place;
                    // One that stays without content has its problem here, and none later.
                    let text = self.config_text(&member.node).unwrap_or_default();
                    member.key = "content".to_owned();
                    member.node = Node::text(place, text);
                }
            }
        }
    }

    fn config_text(&mut self, written: &Node) -> Option<String> {
        let path = self.path_text(written, "file")?;
        let f = &mut self.findings;
        let path = self.resources.path(&path.value, "file", path.place, f)?;
        let at = ("file", written.place);
        let file = self.resources.read(&path, Role::Variables, Need::Required, at, f).ok()??;
        Some(f.source(file)?.text.clone())
    }
}
