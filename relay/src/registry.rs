//! The schema registry: as configured in, a client out. Ids and versions are remembered for ever,
//! "it does not exist" for seconds; the client itself is `walpost_schema::registry`.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use secrecy::ExposeSecret;
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
    let mut cache = CacheSettings::default();
    cache.latest_age_max = LATEST_AGE_MAX;
    let registry = RotatingRegistry::try_new(settings)?;
    Ok(Arc::new(CachedRegistry::with(registry, cache, Box::new(SystemClock))))
}

/// A client without a cache and for a short life, such as a command's.
pub fn plain_client(settings: &RegistrySettings) -> Result<HttpRegistry, RegistryError> {
    HttpRegistry::try_new(&http_settings(settings, credentials(&settings.auth)))
}

/// Where the registry is, for people: without what an address may hold of secrets.
pub fn address(settings: Option<&RegistrySettings>) -> String {
    settings.map_or_else(|| "(none)".to_owned(), |settings| without_password(&settings.url))
}

/// A client keeps its credentials for life. When they are refused and their file has others, it is
/// replaced and asks again.
#[derive(Debug)]
struct RotatingRegistry {
    settings: RegistrySettings,
    current: Mutex<Current>,
}

#[derive(Debug, Clone)]
struct Current {
    credentials: Credentials,
    client: Arc<HttpRegistry>,
}

impl RotatingRegistry {
    fn try_new(settings: &RegistrySettings) -> Result<Self, RegistryError> {
        let current = Mutex::new(connect(settings, credentials(&settings.auth))?);
        Ok(Self { settings: settings.clone(), current })
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A client with other credentials than those that were refused, if there are any by now.
    fn renewed(&self, refused: &Credentials) -> Option<Arc<HttpRegistry>> {
        let now = credentials(&self.settings.auth);
        if is_same(&now, refused) {
            return None;
        }
        let renewed = connect(&self.settings, now).ok()?;
        *self.current() = renewed.clone();
        Some(renewed.client)
    }

    fn ask<'a, T: Send + 'a>(
        &'a self,
        question: impl Fn(Arc<HttpRegistry>) -> Answer<'a, T> + Send + 'a,
    ) -> Answer<'a, T> {
        Box::pin(async move {
            let Current { credentials, client } = self.current().clone();
            match question(client).await {
                Err(RegistryError::Unauthorized { status }) => match self.renewed(&credentials) {
                    Some(client) => question(client).await,
                    None => Err(RegistryError::Unauthorized { status }),
                },
                answer => answer,
            }
        })
    }
}

fn connect(
    settings: &RegistrySettings,
    credentials: Credentials,
) -> Result<Current, RegistryError> {
    let http = http_settings(settings, credentials.clone());
    Ok(Current { credentials, client: Arc::new(HttpRegistry::try_new(&http)?) })
}

fn http_settings(settings: &RegistrySettings, credentials: Credentials) -> HttpSettings {
    let mut http = HttpSettings::new(settings.url.clone());
    http.credentials = credentials;
    http.authorities = settings.authorities.as_ref().map(|(_, pem)| pem.clone());
    http
}

fn credentials(auth: &RegistryAuth) -> Credentials {
    match auth {
        RegistryAuth::None => Credentials::None,
        RegistryAuth::Basic { username, password } => {
            Credentials::Basic { user: username.clone(), password: password.now() }
        }
        RegistryAuth::Bearer(token) => Credentials::Bearer(token.now()),
    }
}

fn is_same(one: &Credentials, other: &Credentials) -> bool {
    match (one, other) {
        (Credentials::None, Credentials::None) => true,
        (Credentials::Basic { password: one, .. }, Credentials::Basic { password: other, .. })
        | (Credentials::Bearer(one), Credentials::Bearer(other)) => {
            one.expose_secret() == other.expose_secret()
        }
        _ => false,
    }
}

impl Registry for RotatingRegistry {
    fn by_id(&self, id: SchemaId) -> Answer<'_, Registered> {
        self.ask(move |client| Box::pin(async move { client.by_id(id).await }))
    }

    fn latest<'a>(&'a self, subject: &'a str) -> Answer<'a, Registered> {
        self.ask(move |client| Box::pin(async move { client.latest(subject).await }))
    }

    fn version<'a>(&'a self, subject: &'a str, version: u32) -> Answer<'a, Registered> {
        self.ask(move |client| Box::pin(async move { client.version(subject, version).await }))
    }

    fn versions<'a>(&'a self, subject: &'a str) -> Answer<'a, Vec<u32>> {
        self.ask(move |client| Box::pin(async move { client.versions(subject).await }))
    }

    fn subjects_of(&self, id: SchemaId) -> Answer<'_, Vec<(String, u32)>> {
        self.ask(move |client| Box::pin(async move { client.subjects_of(id).await }))
    }

    fn register<'a>(
        &'a self,
        subject: &'a str,
        text: &'a str,
        references: &'a [Reference],
    ) -> Answer<'a, SchemaId> {
        self.ask(move |client| {
            Box::pin(async move { client.register(subject, text, references).await })
        })
    }

    fn lookup_with<'a>(
        &'a self,
        subject: &'a str,
        text: &'a str,
        references: &'a [Reference],
    ) -> Answer<'a, Registered> {
        self.ask(move |client| {
            Box::pin(async move { client.lookup_with(subject, text, references).await })
        })
    }

    fn subjects(&self) -> Answer<'_, Vec<String>> {
        self.ask(move |client| Box::pin(async move { client.subjects().await }))
    }
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
