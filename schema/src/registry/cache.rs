//! Questions in, remembered answers out where they cannot change, or not yet.
//!
//! What an id or a numbered version stands for never changes: kept until the bound on entries
//! pushes out the oldest. What is not there is remembered for seconds, so that a storm of events of
//! an unknown type is one question. `latest` is as old as the caller allows. One question per key
//! is under way at a time; whoever asks meanwhile gets its answer. A refresh that fails leaves the
//! known version in force.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::registry::{Answer, Reference, Registered, Registry, RegistryError, SchemaId};

/// Where the cache has its time from.
pub trait Clock: Send + Sync {
    /// Now.
    fn now(&self) -> Instant;
}

/// The machine's monotonic clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Instant {
        Instant::now()
    }
}

/// Bounds of a [`CachedRegistry`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CacheSettings {
    /// Answers kept; the oldest goes first. Default 10,000.
    pub entries_max: usize,
    /// How long an absence, or a failed refresh, is not asked about again. Default 3 s.
    pub negative_ttl: Duration,
    /// How old `latest` may be for callers that do not say. Default 30 s.
    pub latest_age_max: Duration,
}

impl Default for CacheSettings {
    fn default() -> Self {
        CacheSettings {
            entries_max: 10_000,
            negative_ttl: Duration::from_secs(3),
            latest_age_max: Duration::from_secs(30),
        }
    }
}

/// Remembers another registry's answers.
pub struct CachedRegistry<R> {
    registry: R,
    settings: CacheSettings,
    clock: Box<dyn Clock>,
    state: Mutex<State>,
}

impl<R> fmt::Debug for CachedRegistry<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CachedRegistry").field("settings", &self.settings).finish_non_exhaustive()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Id(SchemaId),
    Version(String, u32),
    Latest(String),
}

struct Entry {
    answer: Result<Registered, RegistryError>,
    at: Instant,
    /// A refresh failed then.
    failed_at: Option<Instant>,
}

#[derive(Default)]
struct State {
    entries: HashMap<Key, Entry>,
    /// Keys of `entries`, oldest first.
    order: VecDeque<Key>,
    /// Held by whoever asks; waited for by whoever wants the same.
    flights: HashMap<Key, Arc<tokio::sync::Mutex<()>>>,
}

/// Leaves no trace of a question when its asker goes away, finished or not.
struct Flight<'a> {
    state: &'a Mutex<State>,
    key: Key,
    gate: Arc<tokio::sync::Mutex<()>>,
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // The table's and this one: nobody else waits.
        if Arc::strong_count(&self.gate) == 2 {
            state.flights.remove(&self.key);
        }
    }
}

impl<R: Registry> CachedRegistry<R> {
    /// With default bounds and the machine's clock.
    pub fn new(registry: R) -> Self {
        Self::with(registry, CacheSettings::default(), Box::new(SystemClock))
    }

    /// With bounds and a clock of the caller's.
    pub fn with(registry: R, settings: CacheSettings, clock: Box<dyn Clock>) -> Self {
        CachedRegistry { registry, settings, clock, state: Mutex::default() }
    }

    /// The registry that is asked.
    pub fn inner(&self) -> &R {
        &self.registry
    }

    /// The newest version of a subject, not older than `age_max`. When it cannot be asked for, the
    /// known one, however old. Cancellation-safe.
    pub async fn latest_within(
        &self,
        subject: &str,
        age_max: Duration,
    ) -> Result<Registered, RegistryError> {
        let key = Key::Latest(subject.to_owned());
        self.cached(key, Some(age_max), || self.registry.latest(subject)).await
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Only assignments run under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An answer that needs no question now.
    fn known(
        &self,
        key: &Key,
        age_max: Option<Duration>,
    ) -> Option<Result<Registered, RegistryError>> {
        let now = self.clock.now();
        let state = self.state();
        let entry = state.entries.get(key)?;
        let age = now.saturating_duration_since(entry.at);
        let since_failure = entry.failed_at.map(|at| now.saturating_duration_since(at));
        let fresh = match &entry.answer {
            Err(_) => age < self.settings.negative_ttl,
            Ok(_) if age_max.is_none_or(|max| age <= max) => true,
            Ok(_) => since_failure.is_some_and(|since| since < self.settings.negative_ttl),
        };
        fresh.then(|| entry.answer.clone())
    }

    async fn cached<'a>(
        &'a self,
        key: Key,
        age_max: Option<Duration>,
        ask: impl FnOnce() -> Answer<'a, Registered>,
    ) -> Result<Registered, RegistryError> {
        if let Some(answer) = self.known(&key, age_max) {
            return answer;
        }
        let gate = Arc::clone(self.state().flights.entry(key.clone()).or_default());
        let flight = Flight { state: &self.state, key, gate };
        let _turn = flight.gate.lock().await;
        // Whoever was first has perhaps put the answer there meanwhile.
        if let Some(answer) = self.known(&flight.key, age_max) {
            return answer;
        }
        let answer = ask().await;
        self.keep(&flight.key, answer)
    }

    fn keep(
        &self,
        key: &Key,
        answer: Result<Registered, RegistryError>,
    ) -> Result<Registered, RegistryError> {
        let now = self.clock.now();
        let mut state = self.state();
        if let Err(error) = &answer
            && !error.is_absent()
        {
            return match state.entries.get_mut(key) {
                Some(entry) if entry.answer.is_ok() => {
                    entry.failed_at = Some(now);
                    entry.answer.clone()
                }
                // What is broken may be mended at any moment: not remembered.
                _ => answer,
            };
        }
        if let (Key::Latest(subject), Ok(registered)) = (key, &answer) {
            let version = Key::Version(subject.clone(), registered.version);
            let entry = Entry { answer: Ok(registered.clone()), at: now, failed_at: None };
            state.insert(version, entry, self.settings.entries_max);
        }
        let entry = Entry { answer: answer.clone(), at: now, failed_at: None };
        state.insert(key.clone(), entry, self.settings.entries_max);
        answer
    }
}

impl State {
    fn insert(&mut self, key: Key, entry: Entry, entries_max: usize) {
        if self.entries.insert(key.clone(), entry).is_none() {
            self.order.push_back(key);
        }
        while self.entries.len() > entries_max.max(2) {
            let Some(oldest) = self.order.pop_front() else {
                break;
            };
            self.entries.remove(&oldest);
        }
    }
}

impl<R: Registry> Registry for CachedRegistry<R> {
    fn by_id(&self, id: SchemaId) -> Answer<'_, Registered> {
        Box::pin(self.cached(Key::Id(id), None, move || self.registry.by_id(id)))
    }

    fn latest<'a>(&'a self, subject: &'a str) -> Answer<'a, Registered> {
        Box::pin(self.latest_within(subject, self.settings.latest_age_max))
    }

    fn version<'a>(&'a self, subject: &'a str, version: u32) -> Answer<'a, Registered> {
        let key = Key::Version(subject.to_owned(), version);
        Box::pin(self.cached(key, None, move || self.registry.version(subject, version)))
    }

    fn versions<'a>(&'a self, subject: &'a str) -> Answer<'a, Vec<u32>> {
        self.registry.versions(subject)
    }

    fn subjects_of(&self, id: SchemaId) -> Answer<'_, Vec<(String, u32)>> {
        self.registry.subjects_of(id)
    }

    fn register<'a>(
        &'a self,
        subject: &'a str,
        text: &'a str,
        references: &'a [Reference],
    ) -> Answer<'a, SchemaId> {
        Box::pin(async move {
            let id = self.registry.register(subject, text, references).await?;
            // A new version makes what was known of this subject's newest old, absence included.
            let mut state = self.state();
            let latest = Key::Latest(subject.to_owned());
            state.entries.remove(&latest);
            state.order.retain(|key| *key != latest);
            Ok(id)
        })
    }

    fn lookup_with<'a>(
        &'a self,
        subject: &'a str,
        text: &'a str,
        references: &'a [Reference],
    ) -> Answer<'a, Registered> {
        self.registry.lookup_with(subject, text, references)
    }

    fn subjects(&self) -> Answer<'_, Vec<String>> {
        self.registry.subjects()
    }
}
