//! Parked sequences against real PostgreSQL: the order of a key is kept whoever parks, appends and
//! releases.
#![allow(clippy::unwrap_used, reason = "a panic is how a test says no")]

use walpost_inbox::MessageRef;
use walpost_inbox::store::release::{self, SequenceName};
use walpost_inbox::store::{Claim, StoreError, Transaction, parked};
use walpost_tests::inbox::{Inbox, Session, id, majors, message, record};

async fn park(session: &mut Session, message: &MessageRef, reason: &str) {
    let Session { client, consumer, statements } = session;
    let messages = std::slice::from_ref(message);
    let (tx, claims) = Transaction::begin(client, statements, consumer, messages).await.unwrap();
    assert_eq!(claims.verdicts(), [Claim::Fresh]);
    parked::park(&*tx, consumer, message, &record(message), reason).await.unwrap();
    tx.commit().await.unwrap();
}

async fn append(session: &mut Session, message: &MessageRef) -> Result<(), StoreError> {
    let Session { client, consumer, statements } = session;
    let messages = std::slice::from_ref(message);
    let (tx, claims) = Transaction::begin(client, statements, consumer, messages).await?;
    assert_eq!(claims.verdicts(), [Claim::Parked]);
    parked::append(&*tx, consumer, &[(message, &record(message))]).await?;
    tx.commit().await.map(drop)
}

fn name(message: &MessageRef) -> SequenceName {
    SequenceName { place: message.place.clone(), sequence: message.sequence.clone() }
}

/// Releases the first event of a sequence; its offset.
async fn release_one(session: &mut Session, name: &SequenceName) -> Option<i64> {
    let tx = Transaction::begin_bare(&mut session.client).await.unwrap();
    let event = release::head(&*tx, &session.consumer, name).await.unwrap()?;
    release::done(&*tx, &session.consumer, name, event.n).await.unwrap();
    tx.commit().await.unwrap();
    Some(event.record.offset)
}

#[test]
fn a_sequence_is_parked_appended_listed_and_released_in_order_on_every_major() {
    for (major, url) in majors() {
        let inbox = Inbox::on(&url, "parked");
        inbox.run(async {
            let mut session = inbox.session().await;
            let first = message(9, 0, "a");
            park(&mut session, &first, "no such account").await;
            // The order is that of the claims, not that of the ids.
            append(&mut session, &message(3, 1, "a")).await.unwrap();
            append(&mut session, &message(5, 2, "a")).await.unwrap();
            let list = parked::list(&session.client, "c", 10).await.unwrap();
            assert_eq!(list.len(), 1, "PostgreSQL {major}");
            assert_eq!((list[0].key.as_deref(), list[0].events), (Some("a"), 3));
            assert_eq!((list[0].first_id, list[0].reason.as_str()), (id(9), "no such account"));
            let owned = [first.place.clone()];
            let due = release::due(&session.client, &session.consumer, &owned).await.unwrap();
            assert!(due.is_empty(), "nobody asked yet");
            assert_eq!(parked::retry(&session.client, "c", Some(id(5))).await.unwrap(), 1);
            let due = release::due(&session.client, &session.consumer, &owned).await.unwrap();
            assert_eq!(due, [name(&first)]);
            for offset in 0..3 {
                let released = release_one(&mut session, &due[0]).await;
                assert_eq!(released, Some(offset), "PostgreSQL {major}");
            }
            assert_eq!(release_one(&mut session, &due[0]).await, None);
        });
        for table in ["inbox_parked", "inbox_sequence"] {
            assert_eq!(inbox.ask(&format!("SELECT count(*) FROM {table}")), "0");
        }
    }
}

#[test]
fn a_parked_record_comes_back_byte_for_byte() {
    let inbox = Inbox::new("parkedbytes");
    inbox.run(async {
        let mut session = inbox.session().await;
        let first = message(1, 0, "a");
        park(&mut session, &first, "a\0b").await;
        parked::retry(&session.client, "c", None).await.unwrap();
        let tx = Transaction::begin_bare(&mut session.client).await.unwrap();
        let event = release::head(&*tx, &session.consumer, &name(&first)).await.unwrap();
        assert_eq!(event.unwrap().record, record(&first));
    });
}

/// Rule (d): who waited for the lock and finds the sequence released starts over.
#[test]
fn an_append_that_waited_for_a_release_starts_over_and_is_fresh() {
    let inbox = Inbox::new("parkedgone");
    inbox.run(async {
        let (mut first, mut second) = (inbox.session().await, inbox.session().await);
        let (poison, next) = (message(1, 0, "a"), message(2, 1, "a"));
        park(&mut first, &poison, "no").await;
        parked::retry(&first.client, "c", None).await.unwrap();
        let consumer = first.consumer.clone();
        let tx = Transaction::begin_bare(&mut first.client).await.unwrap();
        let event = release::head(&*tx, &consumer, &name(&poison)).await.unwrap().unwrap();
        let of_append = next.clone();
        let appending = tokio::spawn(async move {
            let appended = append(&mut second, &of_append).await;
            (second, appended)
        });
        inbox.wait_for_a_waiter();
        release::done(&*tx, &consumer, &name(&poison), event.n).await.unwrap();
        tx.commit().await.unwrap();
        let (mut second, appended) = appending.await.unwrap();
        let gone = appended.unwrap_err();
        assert!(matches!(gone, StoreError::SequenceGone), "{gone:?}");
        assert!(!gone.blame().is_attempt());
        let Session { client, consumer, statements } = &mut second;
        let (_, claims) = Transaction::begin(client, statements, consumer, &[next]).await.unwrap();
        assert_eq!(claims.verdicts(), [Claim::Fresh]);
    });
}

#[test]
fn two_releasers_never_hold_one_sequence() {
    let inbox = Inbox::new("parkedtwo");
    inbox.run(async {
        let (mut first, mut second) = (inbox.session().await, inbox.session().await);
        let poison = message(1, 0, "a");
        park(&mut first, &poison, "no").await;
        parked::retry(&first.client, "c", None).await.unwrap();
        let consumer = first.consumer.clone();
        let tx = Transaction::begin_bare(&mut first.client).await.unwrap();
        assert!(release::head(&*tx, &consumer, &name(&poison)).await.unwrap().is_some());
        assert_eq!(release_one(&mut second, &name(&poison)).await, None);
    });
}

#[test]
fn a_discarded_event_leaves_its_reason_and_the_rest_stays_parked() {
    let inbox = Inbox::new("parkeddiscard");
    inbox.run(async {
        let mut session = inbox.session().await;
        park(&mut session, &message(1, 0, "a"), "no").await;
        append(&mut session, &message(2, 1, "a")).await.unwrap();
        parked::discard(&session.client, "c", id(1), "cancelled").await.unwrap();
        let list = parked::list(&session.client, "c", 10).await.unwrap();
        assert_eq!((list.len(), list[0].events, list[0].first_id), (1, 1, id(2)));
        let missing = parked::discard(&session.client, "c", id(1), "again").await.unwrap_err();
        assert!(matches!(missing, StoreError::NotParked { .. }), "{missing:?}");
        parked::discard(&session.client, "c", id(2), "cancelled too").await.unwrap();
        assert!(parked::list(&session.client, "c", 10).await.unwrap().is_empty());
        // The key is open again.
        let Session { client, consumer, statements } = &mut session;
        let messages = [message(3, 2, "a")];
        let (_, claims) =
            Transaction::begin(client, statements, consumer, &messages).await.unwrap();
        assert_eq!(claims.verdicts(), [Claim::Fresh]);
    });
    let sql = "SELECT string_agg(reason, ', ' ORDER BY record_offset) FROM inbox_discarded";
    assert_eq!(inbox.ask(sql), "cancelled, cancelled too");
}

/// Trap 15: a copy of what is parked, after its claim was pruned, is not parked twice.
#[test]
fn a_copy_of_a_parked_event_is_not_parked_twice_even_after_its_claim_is_gone() {
    let inbox = Inbox::new("parkedcopy");
    inbox.run(async {
        let mut session = inbox.session().await;
        let poison = message(1, 0, "a");
        park(&mut session, &poison, "no").await;
        inbox.sql("DELETE FROM inbox_claim");
        append(&mut session, &message(1, 7, "a")).await.unwrap();
        assert_eq!(parked::list(&session.client, "c", 10).await.unwrap()[0].events, 1);
    });
}

#[test]
fn the_example_lists_asks_back_and_gives_up() {
    let inbox = Inbox::new("parkedcli");
    inbox.run(async {
        let mut session = inbox.session().await;
        park(&mut session, &message(1, 0, "a"), "no such account").await;
        append(&mut session, &message(2, 1, "a")).await.unwrap();
        park(&mut session, &message(3, 2, "b"), "no such account").await;
    });
    let parked = |arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_parked"));
        command.env("DATABASE_URL", inbox.database.url()).env("CONSUMER", "c").args(arguments);
        let output = command.output().expect("it runs");
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (_, list) = parked(&["list"]);
    let lines: Vec<&str> = list.lines().collect();
    assert_eq!(lines.len(), 2, "{list}");
    assert!(lines[0].starts_with("a  t/0  2 events"), "{list}");
    assert!(lines[0].ends_with("no such account"), "{list}");
    let second = id(2).to_string();
    assert_eq!(parked(&["retry", &second]).1, "1 sequences will be tried again\n");
    assert_eq!(parked(&["retry"]).1, "2 sequences will be tried again\n");
    assert!(parked(&["discard", &second, "cancelled"]).0);
    assert!(!parked(&["discard", &second, "again"]).0);
    assert!(!parked(&["nonsense"]).0);
    assert_eq!(inbox.ask("SELECT count(*) FROM inbox_parked"), "2");
}
