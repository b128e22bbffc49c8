//! A schema that is gone in, the finding that says so out.

use crate::avro::Schema;
use crate::compat::finding::{Code, Finding, Help};

/// What to say of a schema whose file was taken away.
#[must_use]
pub fn removed(schema: &Schema) -> Finding {
    let place = schema.place(schema.root().place).clone();
    let name = schema.node(schema.root().node).kind.branch_name();
    let help = format!(
        "keep the file while a consumer reads {name} or a topic keeps data of it; `walpost \
         can-i-deploy` names the consumers"
    );
    Finding {
        code: Code::SchemaRemoved,
        location: "/".to_owned(),
        message: format!("{name} is no longer defined by any file"),
        path: String::new(),
        reader: place.clone(),
        writer: place,
        because: Vec::new(),
        help: Help { reader: help.clone(), writer: help },
    }
}
