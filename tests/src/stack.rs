//! The shared servers: variables of `cargo x test` in, addresses out.

use std::path::PathBuf;
use std::sync::OnceLock;

/// Where the servers and the binary under test are.
#[derive(Debug)]
pub struct Stack {
    /// `postgres://postgres:postgres@127.0.0.1:PORT/postgres`, a superuser.
    pub postgres: String,
    /// `127.0.0.1:PORT`
    pub kafka: String,
    /// The Confluent API.
    pub registry: String,
    /// The binary under test.
    pub walpost: PathBuf,
    /// Runs Kafka's own tools.
    pub java: PathBuf,
    /// The folder of Kafka's jars.
    pub kafka_libs: PathBuf,
}

/// The servers of this run. A test that needs them fails where they are not: nothing passes in
/// silence.
#[track_caller]
pub fn stack() -> &'static Stack {
    static STACK: OnceLock<Option<Stack>> = OnceLock::new();
    let found = STACK.get_or_init(|| {
        let variable = |name: &str| std::env::var(name).ok();
        Some(Stack {
            postgres: variable("WALPOST_TEST_POSTGRES_URL")?,
            kafka: variable("WALPOST_TEST_KAFKA")?,
            registry: variable("WALPOST_TEST_REGISTRY")?,
            walpost: variable("WALPOST_BIN")?.into(),
            java: variable("WALPOST_TEST_JAVA")?.into(),
            kafka_libs: variable("WALPOST_TEST_KAFKA_LIBS")?.into(),
        })
    });
    match found {
        Some(stack) => stack,
        None => panic!("this test needs servers: run `cargo x test`, which starts them"),
    }
}
