//! What the cache asks again, and when. Time stands still unless a test moves it.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use walpost_schema::registry::{
    Answer, CacheSettings, CachedRegistry, Clock, MemoryRegistry, Reference, Registered, Registry,
    RegistryError, SchemaId,
};

const INT: &str = "\"int\"";
const LONG: &str = "\"long\"";

#[derive(Clone)]
struct Hands {
    start: Instant,
    seconds: Arc<AtomicU64>,
}

impl Hands {
    fn new() -> Self {
        Hands { start: Instant::now(), seconds: Arc::default() }
    }

    fn advance(&self, seconds: u64) {
        self.seconds.fetch_add(seconds, Ordering::SeqCst);
    }
}

impl Clock for Hands {
    fn now(&self) -> Instant {
        self.start + Duration::from_secs(self.seconds.load(Ordering::SeqCst))
    }
}

/// Counts the questions; can be cut off; can be made to wait before it answers.
#[derive(Default)]
struct Counted {
    memory: MemoryRegistry,
    questions: AtomicUsize,
    away: AtomicBool,
    gate: Mutex<Option<Arc<tokio::sync::Semaphore>>>,
}

impl Counted {
    fn ask<'a, T: Send + 'a>(&'a self, answer: Answer<'a, T>) -> Answer<'a, T> {
        self.questions.fetch_add(1, Ordering::SeqCst);
        let gate = self.gate.lock().unwrap().clone();
        Box::pin(async move {
            if let Some(gate) = gate {
                let _ = gate.acquire().await.unwrap();
            }
            if self.away.load(Ordering::SeqCst) {
                return Err(RegistryError::Unreachable { reason: "cut off".to_owned() });
            }
            answer.await
        })
    }

    fn count(&self) -> usize {
        self.questions.swap(0, Ordering::SeqCst)
    }
}

impl Registry for Counted {
    fn by_id(&self, id: SchemaId) -> Answer<'_, Registered> {
        self.ask(self.memory.by_id(id))
    }
    fn latest<'a>(&'a self, subject: &'a str) -> Answer<'a, Registered> {
        self.ask(Box::pin(async move { self.memory.latest(subject).await }))
    }
    fn version<'a>(&'a self, subject: &'a str, version: u32) -> Answer<'a, Registered> {
        self.ask(self.memory.version(subject, version))
    }
    fn versions<'a>(&'a self, subject: &'a str) -> Answer<'a, Vec<u32>> {
        self.ask(self.memory.versions(subject))
    }
    fn subjects_of(&self, id: SchemaId) -> Answer<'_, Vec<(String, u32)>> {
        self.ask(self.memory.subjects_of(id))
    }
    fn register<'a>(
        &'a self,
        subject: &'a str,
        text: &'a str,
        references: &'a [Reference],
    ) -> Answer<'a, SchemaId> {
        self.memory.register(subject, text, references)
    }
    fn lookup_with<'a>(
        &'a self,
        subject: &'a str,
        text: &'a str,
        references: &'a [Reference],
    ) -> Answer<'a, Registered> {
        self.ask(self.memory.lookup_with(subject, text, references))
    }
    fn subjects(&self) -> Answer<'_, Vec<String>> {
        self.ask(self.memory.subjects())
    }
}

fn cached(
    change: impl FnOnce(&mut CacheSettings),
) -> (Arc<Counted>, CachedRegistry<Box<dyn Registry>>, Hands) {
    let counted = Arc::new(Counted::default());
    let hands = Hands::new();
    let mut settings = CacheSettings::default();
    change(&mut settings);
    let inner: Box<dyn Registry> = Box::new(Arc::clone(&counted));
    (counted, CachedRegistry::with(inner, settings, Box::new(hands.clone())), hands)
}

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn ids_and_versions_are_asked_for_once() {
    let (counted, cache, hands) = cached(|_| {});
    let id = counted.memory.register("s", INT, &[]).await.unwrap();
    for _ in 0..3 {
        assert_eq!(cache.by_id(id).await.unwrap().id, id);
        assert_eq!(cache.version("s", 1).await.unwrap().id, id);
        hands.advance(1_000_000);
    }
    assert_eq!(counted.count(), 2);
}

#[tokio::test]
async fn latest_is_as_old_as_the_caller_allows() {
    let (counted, cache, hands) = cached(|_| {});
    counted.memory.register("s", INT, &[]).await.unwrap();
    assert_eq!(cache.latest_within("s", MINUTE).await.unwrap().version, 1);
    counted.memory.register("s", LONG, &[]).await.unwrap();
    hands.advance(60);
    assert_eq!(cache.latest_within("s", MINUTE).await.unwrap().version, 1);
    assert_eq!(counted.count(), 1);
    hands.advance(1);
    assert_eq!(cache.latest_within("s", MINUTE).await.unwrap().version, 2);
    assert_eq!(counted.count(), 1);
    assert_eq!(cache.version("s", 2).await.unwrap().version, 2);
    assert_eq!(counted.count(), 0, "the newest version is known by its number too");
}

#[tokio::test]
async fn absence_is_remembered_for_seconds() {
    let (counted, cache, hands) = cached(|_| {});
    for _ in 0..5 {
        assert!(cache.latest_within("s", MINUTE).await.unwrap_err().is_absent());
    }
    assert_eq!(counted.count(), 1);
    counted.memory.register("s", INT, &[]).await.unwrap();
    hands.advance(3);
    assert_eq!(cache.latest_within("s", MINUTE).await.unwrap().version, 1);
    let (_, cache, _) = cached(|_| {});
    assert!(cache.latest("t").await.is_err());
    cache.register("t", INT, &[]).await.unwrap();
    assert_eq!(cache.latest("t").await.unwrap().version, 1, "our own registration is seen at once");
}

#[tokio::test]
async fn a_failed_refresh_keeps_the_known_version_and_is_not_repeated_at_once() {
    let (counted, cache, hands) = cached(|_| {});
    counted.memory.register("s", INT, &[]).await.unwrap();
    cache.latest_within("s", MINUTE).await.unwrap();
    counted.count();
    counted.away.store(true, Ordering::SeqCst);
    hands.advance(100);
    for _ in 0..5 {
        assert_eq!(cache.latest_within("s", MINUTE).await.unwrap().version, 1);
    }
    assert_eq!(counted.count(), 1);
    hands.advance(3);
    cache.latest_within("s", MINUTE).await.unwrap();
    assert_eq!(counted.count(), 1);
    assert!(cache.latest_within("t", MINUTE).await.unwrap_err().is_retriable());
    counted.away.store(false, Ordering::SeqCst);
    counted.memory.register("t", INT, &[]).await.unwrap();
    assert_eq!(
        cache.latest_within("t", MINUTE).await.unwrap().version,
        1,
        "no error is remembered"
    );
    counted.memory.delete_subject("s", false).unwrap();
    hands.advance(100);
    assert!(cache.latest_within("s", MINUTE).await.unwrap_err().is_absent());
}

#[tokio::test]
async fn one_question_is_under_way_per_key() {
    let (counted, cache, _) = cached(|_| {});
    counted.memory.register("s", INT, &[]).await.unwrap();
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    *counted.gate.lock().unwrap() = Some(Arc::clone(&gate));
    let cache = Arc::new(cache);
    let ask = || {
        let cache = Arc::clone(&cache);
        tokio::spawn(async move { cache.latest_within("s", MINUTE).await.unwrap().version })
    };
    let abandoned = ask();
    while counted.questions.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    let waiting: Vec<_> = (0..10).map(|_| ask()).collect();
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    assert_eq!(counted.count(), 1);
    abandoned.abort();
    gate.add_permits(100);
    for answer in waiting {
        assert_eq!(answer.await.unwrap(), 1);
    }
    assert_eq!(
        counted.count(),
        1,
        "one of those who waited asked again, the others got its answer"
    );
}

#[tokio::test]
async fn the_number_of_entries_is_bounded() {
    let (counted, cache, _) = cached(|settings| settings.entries_max = 10);
    counted.memory.set_level(None, "NONE").unwrap();
    for n in 0..50 {
        let text = format!(r#"{{"type":"fixed","name":"F{n}","size":1}}"#);
        let id = counted.memory.register("s", &text, &[]).await.unwrap();
        cache.by_id(id).await.unwrap();
    }
    counted.count();
    for id in 41..=50 {
        cache.by_id(SchemaId(id)).await.unwrap();
    }
    assert_eq!(counted.count(), 0);
    cache.by_id(SchemaId(1)).await.unwrap();
    assert_eq!(counted.count(), 1);
}
