//! The schema registry: as configured in, a client out. Ids and versions are remembered for ever,
//! "it does not exist" for seconds; the client itself is `walpost_schema::registry`.

use std::sync::Arc;
use std::time::Duration;

use walpost_schema::registry::{
    Answer, CacheSettings, CachedRegistry, Credentials, HttpRegistry, HttpSettings, Reference,
    Registered, Registry, RegistryError, SystemClock,
};
use walpost_schema::wire::SchemaId;

use crate::settings::{RegistryAuth, RegistrySettings, without_password};

/// The latest version is refreshed by each source at its own interval; the shared cache only spares
/// several sources the same question at the same moment.
const LATEST_AGE_MAX: Duration = Duration::from_secs(1);

/// Makes the client. Without a configured registry every question is answered with "missing".
pub fn client(settings: Option<&RegistrySettings>) -> Result<Arc<dyn Registry>, RegistryError> {
    let Some(settings) = settings else { return Ok(Arc::new(NoRegistry)) };
    let mut http = HttpSettings::new(settings.url.clone());
    http.credentials = match &settings.auth {
        RegistryAuth::None => Credentials::None,
        RegistryAuth::Basic { username, password } => {
            Credentials::Basic { user: username.clone(), password: password.now() }
        }
        RegistryAuth::Bearer(token) => Credentials::Bearer(token.now()),
    };
    let mut cache = CacheSettings::default();
    cache.latest_age_max = LATEST_AGE_MAX;
    let registry = HttpRegistry::try_new(&http)?;
    Ok(Arc::new(CachedRegistry::with(registry, cache, Box::new(SystemClock))))
}

/// Where the registry is, for people: without what an address may hold of secrets.
pub fn address(settings: Option<&RegistrySettings>) -> String {
    settings.map_or_else(|| "(none)".to_owned(), |settings| without_password(&settings.url))
}

/// Stands where no registry is configured: routes without Avro need none.
#[derive(Debug)]
struct NoRegistry;

fn nothing<T: Send + 'static>(error: RegistryError) -> Answer<'static, T> {
    Box::pin(std::future::ready(Err(error)))
}

impl Registry for NoRegistry {
    fn by_id(&self, id: SchemaId) -> Answer<'_, Registered> {
        nothing(RegistryError::IdNotFound { id })
    }

    fn latest<'a>(&'a self, subject: &'a str) -> Answer<'a, Registered> {
        nothing(RegistryError::SubjectNotFound { subject: subject.to_owned() })
    }

    fn version<'a>(&'a self, subject: &'a str, _version: u32) -> Answer<'a, Registered> {
        self.latest(subject)
    }

    fn versions<'a>(&'a self, subject: &'a str) -> Answer<'a, Vec<u32>> {
        nothing(RegistryError::SubjectNotFound { subject: subject.to_owned() })
    }

    fn subjects_of(&self, id: SchemaId) -> Answer<'_, Vec<(String, u32)>> {
        nothing(RegistryError::IdNotFound { id })
    }

    fn register<'a>(
        &'a self,
        subject: &'a str,
        _text: &'a str,
        _references: &'a [Reference],
    ) -> Answer<'a, SchemaId> {
        nothing(RegistryError::SubjectNotFound { subject: subject.to_owned() })
    }

    fn lookup_with<'a>(
        &'a self,
        subject: &'a str,
        _text: &'a str,
        _references: &'a [Reference],
    ) -> Answer<'a, Registered> {
        self.latest(subject)
    }

    fn subjects(&self) -> Answer<'_, Vec<String>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }
}
