//! Host maps when a port goes: entries that name it would lead packets nowhere, or to
//! another port that gets its number.

use millrace_sandbox::MapField;

use super::Stages;
use crate::io::Io;
use crate::port::PortId;

impl<I: Io + 'static> Stages<I> {
    /// Removes the entries of host maps that name a port which is no more, as far as manifests say
    /// which fields are ports.
    pub fn forget_port(&self, port: PortId) {
        self.forget_ports(&|number| number == port.number());
    }

    /// The same for all ports that are gone.
    pub fn forget_ports(&self, is_gone: &dyn Fn(u16) -> bool) {
        let maps = self.sandbox.maps().list();
        for record in &self.records {
            for declared in &record.current.module.manifest().maps {
                let visible = maps.iter().filter(|(name, _)| {
                    let owned = name.owner.as_ref().is_none_or(|owner| *owner == record.name);
                    owned && name.name == declared.name
                });
                for (_, map) in visible {
                    map.remove_if(|key, value| {
                        names(&declared.key, key, is_gone) || names(&declared.value, value, is_gone)
                    });
                }
            }
        }
    }
}

/// Whether one of these fields is such a port.
fn names(fields: &[MapField], bytes: &[u8], is_gone: &dyn Fn(u16) -> bool) -> bool {
    let mut rest = bytes;
    fields.iter().any(|field| {
        let len = field.bytes().unwrap_or(0).min(rest.len());
        let (cell, behind) = rest.split_at(len);
        rest = behind;
        field.kind == "port"
            && cell.try_into().is_ok_and(|number| is_gone(u16::from_le_bytes(number)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_found_where_a_field_says_so_and_nowhere_else() {
        let field = |kind: &str| MapField { name: kind.into(), kind: kind.into() };
        let port = &|number| number == 0x0102;
        let fields = [field("u16"), field("port"), field("time")];
        assert!(names(&fields, &[0, 0, 2, 1, 9, 9, 9, 9, 9, 9, 9, 9], port));
        assert!(!names(&fields, &[2, 1, 0, 0, 2, 1, 2, 1, 2, 1, 2, 1], port));
        // a map of another shape than the manifest says
        assert!(!names(&fields, &[2, 1, 2], port));
        assert!(!names(&[], &[2, 1], port));
    }
}
