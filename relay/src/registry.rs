//! The schema registry: as configured in, a client out. Ids and versions are remembered for ever,
//! "it does not exist" for seconds; the client itself is `walpost_schema::registry`.

use std::sync::Arc;

use walpost_schema::registry::Registry;

use crate::settings::RegistrySettings;

/// Makes the client. Without a configured registry every question is answered with "missing".
pub fn client(settings: Option<&RegistrySettings>) -> Result<Arc<dyn Registry>, String> {
    let _ = settings;
    Err("TODO".to_owned())
}
