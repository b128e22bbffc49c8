//! A schema id in, the writer's schema out.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use apache_avro::Schema;

/// Why there is no schema.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SchemaFault {
    /// There is none with this id, or none that can be used: the event cannot be read.
    #[error("schema {id} is not usable: {reason}")]
    Unusable {
        /// The id in the record.
        id: u32,
        /// Why.
        reason: String,
    },
    /// The registry cannot be asked now: wait. No attempt.
    #[error("registry cannot be asked: {reason}")]
    Away {
        /// Why.
        reason: String,
    },
}

/// A future answer.
pub type SchemaAnswer<'a> =
    Pin<Box<dyn Future<Output = Result<Arc<Schema>, SchemaFault>> + Send + 'a>>;

/// Where writer schemas come from: a registry, or a table of one's own.
pub trait WriterSchemas: Send + Sync {
    /// The schema of an id. What an id stands for never changes: the answer is kept for ever.
    /// Cancellation-safe.
    fn schema(&self, id: u32) -> SchemaAnswer<'_>;
}

/// Schemas that are known from the start, by their ids.
///
/// ```
/// use walpost_inbox::FixedSchemas;
/// let schemas = FixedSchemas::try_new([(1, r#"{"type": "string"}"#)])?;
/// # Ok::<(), walpost_inbox::SchemaFault>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct FixedSchemas {
    schemas: HashMap<u32, Arc<Schema>>,
}

impl FixedSchemas {
    /// Parses the texts.
    ///
    /// ```
    /// use walpost_inbox::FixedSchemas;
    /// assert!(FixedSchemas::try_new([(1, "no schema")]).is_err());
    /// ```
    pub fn try_new<'a>(
        texts: impl IntoIterator<Item = (u32, &'a str)>,
    ) -> Result<Self, SchemaFault> {
        let parse = |(id, text): (u32, &str)| match Schema::parse_str(text) {
            Ok(schema) => Ok((id, Arc::new(schema))),
            Err(error) => Err(SchemaFault::Unusable { id, reason: error.to_string() }),
        };
        let schemas = texts.into_iter().map(parse).collect::<Result<_, _>>()?;
        Ok(Self { schemas })
    }
}

impl WriterSchemas for FixedSchemas {
    fn schema(&self, id: u32) -> SchemaAnswer<'_> {
        let missing = || SchemaFault::Unusable { id, reason: "it is not among the known".into() };
        let found = self.schemas.get(&id).cloned().ok_or_else(missing);
        Box::pin(std::future::ready(found))
    }
}

#[cfg(feature = "registry")]
pub use of_registry::RegistrySchemas;

#[cfg(feature = "registry")]
mod of_registry {
    use std::fmt;
    use std::sync::Arc;

    use apache_avro::Schema;
    use walpost_schema::registry::{
        CachedRegistry, HttpRegistry, HttpSettings, Registry, RegistryError, SchemaId,
    };

    use super::{SchemaAnswer, SchemaFault, WriterSchemas};

    /// Schemas of a registry with the Confluent interface.
    pub struct RegistrySchemas {
        registry: Box<dyn Registry>,
    }

    impl fmt::Debug for RegistrySchemas {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_struct("RegistrySchemas").finish_non_exhaustive()
        }
    }

    impl RegistrySchemas {
        /// Over HTTP. Checks the address; asks nothing yet.
        ///
        /// ```
        /// use walpost_inbox::RegistrySchemas;
        /// use walpost_inbox::registry::HttpSettings;
        /// let schemas = RegistrySchemas::http(&HttpSettings::new("http://localhost:8081"))?;
        /// # Ok::<(), walpost_inbox::registry::RegistryError>(())
        /// ```
        pub fn http(settings: &HttpSettings) -> Result<Self, RegistryError> {
            Ok(Self::new(CachedRegistry::new(HttpRegistry::try_new(settings)?)))
        }

        /// Of any registry.
        ///
        /// ```
        /// use walpost_inbox::RegistrySchemas;
        /// use walpost_inbox::registry::MemoryRegistry;
        /// let schemas = RegistrySchemas::new(MemoryRegistry::new());
        /// ```
        pub fn new(registry: impl Registry + 'static) -> Self {
            Self { registry: Box::new(registry) }
        }

        async fn ask(&self, id: u32) -> Result<Arc<Schema>, SchemaFault> {
            let unusable = |reason: String| SchemaFault::Unusable { id, reason };
            let registered = match self.registry.by_id(SchemaId(id)).await {
                Ok(registered) => registered,
                Err(
                    error @ (RegistryError::IdNotFound { .. }
                    | RegistryError::BadSchema { .. }
                    | RegistryError::NotAvro { .. }
                    | RegistryError::ReferenceCycle { .. }
                    | RegistryError::TooManyReferences { .. }),
                ) => return Err(unusable(error.to_string())),
                Err(error) => return Err(SchemaFault::Away { reason: error.to_string() }),
            };
            // A text with references does not stand alone. The canonical form does; it leaves out
            // what a writer's schema is not asked for (docs, aliases, defaults).
            let parsed = Schema::parse_str(&registered.text)
                .or_else(|_| Schema::parse_str(&registered.schema.canonical_form()));
            parsed.map(Arc::new).map_err(|error| unusable(error.to_string()))
        }
    }

    impl WriterSchemas for RegistrySchemas {
        fn schema(&self, id: u32) -> SchemaAnswer<'_> {
            Box::pin(self.ask(id))
        }
    }
}
