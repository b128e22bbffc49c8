//! An error of the database in, what it means for the event out. By SQLSTATE only: the text of a
//! message is in the server's language.

use std::error::Error;

use tokio_postgres::error::SqlState;

/// What an error of the database says about the event that was being handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// Two transactions met (40001, 40P01, 55P03): the same again may go well. No attempt.
    Contention,
    /// The connection or the server is gone, full or read-only: wait for it. No attempt. A COMMIT
    /// may have been done: the next claim tells.
    Database,
    /// The statement itself: an attempt of this event.
    Event,
}

impl Blame {
    /// Of an error from tokio-postgres.
    ///
    /// ```
    /// # use walpost_inbox::store::Blame;
    /// use tokio_postgres::error::SqlState;
    /// assert_eq!(Blame::of_state(&SqlState::T_R_SERIALIZATION_FAILURE), Blame::Contention);
    /// assert_eq!(Blame::of_state(&SqlState::ADMIN_SHUTDOWN), Blame::Database);
    /// assert_eq!(Blame::of_state(&SqlState::CHECK_VIOLATION), Blame::Event);
    /// ```
    #[must_use]
    pub fn of_state(state: &SqlState) -> Self {
        match state.code() {
            "40001" | "40P01" | "55P03" => Self::Contention,
            // Read-only: a standby, or a primary that was just demoted.
            "25006" | "57P01" | "57P02" | "57P03" | "57P04" | "57P05" => Self::Database,
            // Our session idled in a transaction longer than it may: it is closed.
            "25P03" | "25P04" => Self::Database,
            code if ["08", "53", "58", "F0"].iter().any(|class| code.starts_with(class)) => {
                Self::Database
            }
            _ => Self::Event,
        }
    }

    /// Of an error from tokio-postgres; one without SQLSTATE that ended the connection is the
    /// database's, one of conversion the event's.
    ///
    /// ```
    /// # use walpost_inbox::store::Blame;
    /// # async fn f(client: &tokio_postgres::Client) {
    /// if let Err(error) = client.batch_execute("SELECT 1").await {
    ///     let may_go_again = Blame::of(&error) == Blame::Contention;
    /// }
    /// # }
    /// ```
    #[must_use]
    pub fn of(error: &tokio_postgres::Error) -> Self {
        match error.code() {
            Some(state) => Self::of_state(state),
            None if error.is_closed() || is_io(error) => Self::Database,
            None => Self::Event,
        }
    }

    /// Looks for an error of tokio-postgres among an error and its causes.
    ///
    /// ```
    /// # use walpost_inbox::store::Blame;
    /// assert_eq!(Blame::of_any(&std::io::Error::other("no")), Blame::Event);
    /// ```
    #[must_use]
    pub fn of_any(error: &(dyn Error + 'static)) -> Self {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(found) = error.downcast_ref::<tokio_postgres::Error>() {
                return Self::of(found);
            }
            next = error.source();
        }
        Self::Event
    }

    /// Whether the event is to blame: only then it counts as an attempt.
    ///
    /// ```
    /// # use walpost_inbox::store::Blame;
    /// assert!(Blame::Event.is_attempt() && !Blame::Contention.is_attempt());
    /// ```
    #[must_use]
    pub fn is_attempt(self) -> bool {
        self == Self::Event
    }
}

/// Whether a statement was refused because one before it had failed: whoever ran this one need not
/// be to blame.
pub(crate) fn is_aborted(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<tokio_postgres::Error>() {
            return found.code() == Some(&SqlState::IN_FAILED_SQL_TRANSACTION);
        }
        next = error.source();
    }
    false
}

fn is_io(error: &tokio_postgres::Error) -> bool {
    let mut next: Option<&(dyn Error + 'static)> = error.source();
    while let Some(error) = next {
        if error.is::<std::io::Error>() {
            return true;
        }
        next = error.source();
    }
    // Failures before the session began (connect, TLS, authentication) have no SQLSTATE either.
    let text = error.to_string();
    text.starts_with("error connecting") || text.starts_with("error performing TLS")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contention_and_a_lost_server_are_no_attempt_and_the_rest_is() {
        for (code, blame) in [
            ("40001", Blame::Contention),
            ("40P01", Blame::Contention),
            ("55P03", Blame::Contention),
            ("08006", Blame::Database),
            ("57P01", Blame::Database),
            ("53300", Blame::Database),
            ("58030", Blame::Database),
            ("25006", Blame::Database),
            ("25P03", Blame::Database),
            ("57014", Blame::Event),
            ("23505", Blame::Event),
            ("23514", Blame::Event),
            ("25P02", Blame::Event),
            ("22P02", Blame::Event),
            ("42P01", Blame::Event),
        ] {
            assert_eq!(Blame::of_state(&SqlState::from_code(code)), blame, "{code}");
            assert_eq!(blame.is_attempt(), blame == Blame::Event);
        }
    }

    #[test]
    fn an_error_that_is_not_the_databases_is_the_events() {
        assert_eq!(Blame::of_any(&std::io::Error::other("no")), Blame::Event);
    }
}
