//! stub
use crate::avro::Schema;
pub use crate::wire::SchemaId;
use std::{future::Future, pin::Pin, sync::Arc};
#[derive(Debug)]
pub struct Registered {
    pub subject: String,
    pub version: u32,
    pub id: SchemaId,
    pub text: Arc<str>,
    pub schema: Arc<Schema>,
}
#[derive(Debug, thiserror::Error)]
#[error("x")]
pub struct RegistryError;
impl RegistryError {
    pub fn is_absent(&self) -> bool {
        false
    }
    pub fn is_retriable(&self) -> bool {
        false
    }
}
pub type F<'a, T> = Pin<Box<dyn Future<Output = Result<T, RegistryError>> + Send + 'a>>;
pub trait Registry: Send + Sync + std::fmt::Debug {
    fn by_id<'a>(&'a self, id: SchemaId) -> F<'a, Arc<Registered>>;
    fn latest<'a>(&'a self, s: &'a str) -> F<'a, Arc<Registered>>;
    fn version<'a>(&'a self, s: &'a str, v: u32) -> F<'a, Arc<Registered>>;
    fn versions<'a>(&'a self, s: &'a str) -> F<'a, Vec<u32>>;
    fn subjects_of<'a>(&'a self, id: SchemaId) -> F<'a, Vec<(String, u32)>>;
    fn register<'a>(&'a self, s: &'a str, t: &'a str, r: &'a [u8]) -> F<'a, SchemaId>;
}
