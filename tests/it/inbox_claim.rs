//! The claim against real PostgreSQL: whoever comes second finds the event taken, or free after a
//! rollback, and sees what was parked meanwhile.
#![allow(clippy::unwrap_used, reason = "a panic is how a test says no")]

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Waker};

use tokio_postgres::error::SqlState;
use walpost_inbox::MessageRef;
use walpost_inbox::store::{
    Blame, Claim, Claims, Consumer, Day, StoreError, Transaction, claim, parked,
};
use walpost_tests::inbox::{Inbox, LIMITS, Session, dated, majors, message, record};

use Claim::{Duplicate, Fresh, Parked};

/// Polls once: what it asks is on the wire afterwards.
fn start<F: Future>(future: Pin<&mut F>) {
    assert!(future.poll(&mut Context::from_waker(Waker::noop())).is_pending());
}

async fn begin<'a>(
    session: &'a mut Session,
    messages: &[MessageRef],
) -> Result<(Transaction<&'a mut tokio_postgres::Client>, Claims), StoreError> {
    let Session { client, consumer, statements } = session;
    Transaction::begin(client, statements, consumer, messages).await
}

#[test]
fn a_claim_is_fresh_once_on_every_major_and_a_duplicate_spoils_neither_batch_nor_transaction() {
    for (major, url) in majors() {
        let inbox = Inbox::on(&url, "claimonce");
        inbox.run(async {
            let mut session = inbox.session().await;
            let first = [message(1, 0, "a"), message(2, 1, "b")];
            let (tx, claims) = begin(&mut session, &first).await.unwrap();
            assert_eq!(claims.verdicts(), [Fresh, Fresh], "PostgreSQL {major}");
            tx.commit().await.unwrap();
            let second = [message(3, 2, "a"), message(2, 3, "b"), message(4, 4, "c")];
            let (tx, claims) = begin(&mut session, &second).await.unwrap();
            assert_eq!(claims.verdicts(), [Fresh, Duplicate, Fresh], "PostgreSQL {major}");
            tx.execute("CREATE TABLE effect (n int)", &[]).await.unwrap();
            tx.commit().await.unwrap();
        });
        assert_eq!(inbox.ask("SELECT count(*) FROM inbox_claim"), "4");
    }
}

#[test]
fn claim_in_a_transaction_of_ones_own_gives_the_same_verdicts() {
    let inbox = Inbox::new("claimown");
    inbox.run(async {
        let mut session = inbox.session().await;
        let messages = [message(1, 0, "a"), message(1, 1, "a")];
        let tx = session.client.transaction().await.unwrap();
        let claims = claim(&tx, &session.consumer, &messages).await.unwrap();
        assert_eq!(claims.verdicts(), [Fresh, Duplicate]);
        tx.rollback().await.unwrap();
        let tx = session.client.transaction().await.unwrap();
        let claims = claim(&tx, &session.consumer, &messages).await.unwrap();
        assert_eq!(claims.verdicts(), [Fresh, Duplicate]);
        tx.commit().await.unwrap();
    });
}

/// Batches of any size over a few ids, so that copies stand first, in the middle and twice, some of
/// a parked key: by the statements for one and for a day, and by the one for anything.
#[test]
fn the_quick_ways_to_claim_give_the_verdicts_of_the_slow_one() {
    let inbox = Inbox::new("claimways");
    inbox.run(async {
        let mut quick = inbox.session().await;
        let mut slow = inbox.session().await;
        slow.consumer = Consumer::open(&slow.client, "slow", "cluster").await.unwrap();
        let mut random = 1_u64;
        let mut next = |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 33) % below
        };
        let mut seen = [0; 3];
        for round in 0..120_i64 {
            let ids: Vec<u64> = (0..=next(6)).map(|_| next(400)).collect();
            let messages: Vec<_> =
                ids.iter().map(|id| message(*id, round, &format!("k{}", id % 9))).collect();
            let (tx, by_quick) = begin(&mut quick, &messages).await.unwrap();
            tx.commit().await.unwrap();
            let tx = slow.client.transaction().await.unwrap();
            let by_slow = claim(&tx, &slow.consumer, &messages).await.unwrap();
            assert_eq!(by_quick, by_slow, "{ids:?}");
            tx.commit().await.unwrap();
            seen.iter_mut().zip([Fresh, Duplicate, Parked]).for_each(|(count, verdict)| {
                *count += by_slow.count(verdict);
            });
            if round == 30 {
                let sql =
                    "INSERT INTO inbox_sequence (consumer, topic, sequence, partition, reason)
                           SELECT number, 't', '\\x016b34', 0, 'no' FROM inbox_consumer";
                quick.client.batch_execute(sql).await.unwrap();
            }
        }
        assert!(seen.iter().all(|count| *count > 3), "{seen:?}");
    });
}

#[test]
fn two_consumers_of_one_database_each_handle_an_event() {
    let inbox = Inbox::new("claimtwo");
    inbox.run(async {
        let mut session = inbox.session().await;
        for name in ["stock", "mail"] {
            let consumer =
                walpost_inbox::store::Consumer::open(&session.client, name, "x").await.unwrap();
            let tx = session.client.transaction().await.unwrap();
            let claims = claim(&tx, &consumer, &[message(1, 0, "a")]).await.unwrap();
            assert_eq!(claims.verdicts(), [Fresh], "{name}");
            tx.commit().await.unwrap();
        }
    });
}

/// Trap 2.
#[test]
fn a_copy_waits_for_the_first_and_is_a_duplicate_after_its_commit_and_fresh_after_its_rollback() {
    for (ending, verdict) in [("commit", Duplicate), ("rollback", Fresh)] {
        let inbox = Inbox::new("claimwait");
        inbox.run(async {
            let (mut first, mut second) = (inbox.session().await, inbox.session().await);
            let messages = [message(1, 0, "a")];
            let (tx, _) = begin(&mut first, &messages).await.unwrap();
            let mut waiting = pin!(begin(&mut second, &messages));
            start(waiting.as_mut());
            inbox.wait_for_a_waiter();
            if ending == "commit" {
                tx.commit().await.map(drop)
            } else {
                tx.rollback().await.map(drop)
            }
            .unwrap();
            let (_, claims) = waiting.await.unwrap();
            assert_eq!(claims.verdicts(), [verdict], "{ending}");
        });
    }
}

/// The look is a statement of its own: its snapshot is younger than what the claim waited for.
#[test]
fn a_claim_that_waited_for_a_parking_sees_its_sequence_parked() {
    let inbox = Inbox::new("claimlook");
    inbox.run(async {
        let (mut first, mut second) = (inbox.session().await, inbox.session().await);
        let (poison, next) = (message(1, 0, "a"), message(2, 1, "a"));
        let consumer = first.consumer.clone();
        let (tx, _) = begin(&mut first, std::slice::from_ref(&poison)).await.unwrap();
        let both = [poison.clone(), next];
        let mut waiting = pin!(begin(&mut second, &both));
        start(waiting.as_mut());
        inbox.wait_for_a_waiter();
        parked::park(&*tx, &consumer, &poison, &record(&poison), "no").await.unwrap();
        tx.commit().await.unwrap();
        let (_, claims) = waiting.await.unwrap();
        assert_eq!(claims.verdicts(), [Duplicate, Parked]);
    });
}

/// Trap 2: a frozen holder stalls nobody for longer than the limit, and that is no attempt.
#[test]
fn a_copy_that_waits_too_long_is_refused_as_contention() {
    let inbox = Inbox::new("claimlock");
    inbox.run(async {
        let (mut first, mut second) = (inbox.session().await, inbox.session().await);
        let messages = [message(1, 0, "a")];
        let (_held, _) = begin(&mut first, &messages).await.unwrap();
        let limits =
            walpost_inbox::store::Limits { lock: std::time::Duration::from_millis(50), ..LIMITS };
        second.client.batch_execute(&limits.session_sql()).await.unwrap();
        let refused = begin(&mut second, &messages).await.unwrap_err();
        assert_eq!(refused.blame(), Blame::Contention, "{refused:?}");
    });
}

/// A holder that froze in its transaction is ended by the server, and its claim is free again.
#[test]
fn a_holder_that_idles_in_its_transaction_loses_its_claim_and_its_session() {
    let inbox = Inbox::new("claimidle");
    inbox.run(async {
        let (mut first, mut second) = (inbox.session().await, inbox.session().await);
        let messages = [message(1, 0, "a")];
        let limits =
            walpost_inbox::store::Limits { idle: std::time::Duration::from_millis(300), ..LIMITS };
        first.client.batch_execute(&limits.session_sql()).await.unwrap();
        let (frozen, _) = begin(&mut first, &messages).await.unwrap();
        let (tx, claims) = begin(&mut second, &messages).await.unwrap();
        assert_eq!(claims.verdicts(), [Fresh]);
        tx.commit().await.unwrap();
        let lost = frozen.commit().await.unwrap_err();
        assert_eq!(lost.blame(), Blame::Database, "{lost:?}");
    });
}

/// Trap 3.
#[test]
fn at_a_higher_isolation_level_a_copy_is_an_error_that_is_no_attempt() {
    let inbox = Inbox::new("claimserial");
    inbox.run(async {
        let (mut first, mut second) = (inbox.session().await, inbox.session().await);
        let messages = [message(1, 0, "a")];
        let level = tokio_postgres::IsolationLevel::RepeatableRead;
        let tx = second.client.build_transaction().isolation_level(level).start().await.unwrap();
        tx.execute("SELECT 1", &[]).await.unwrap();
        let (winner, _) = begin(&mut first, &messages).await.unwrap();
        winner.commit().await.unwrap();
        let error = claim(&tx, &second.consumer, &messages).await.unwrap_err();
        let StoreError::Database(of_server) = &error else { panic!("{error:?}") };
        assert_eq!(of_server.code(), Some(&SqlState::T_R_SERIALIZATION_FAILURE));
        assert_eq!(error.blame(), Blame::Contention);
    });
}

/// Trap 6: the text of an error is in the server's language, and may be anything.
#[test]
fn an_error_is_judged_by_its_code_whatever_its_text_says() {
    let inbox = Inbox::new("claimtext");
    inbox.run(async {
        let client = inbox.client().await;
        for (code, text, blame) in [
            ("40P01", "Verklemmung entdeckt", Blame::Contention),
            ("40001", "kann Zugriff nicht serialisieren", Blame::Contention),
            ("57P01", "Verbindung wird abgebrochen", Blame::Database),
            ("22012", "could not serialize access due to concurrent update", Blame::Event),
            ("23505", "deadlock detected", Blame::Event),
        ] {
            let raise = format!("RAISE EXCEPTION USING ERRCODE = '{code}', MESSAGE = '{text}'");
            let sql = format!("DO $$ BEGIN {raise}; END $$");
            let error = client.batch_execute(&sql).await.unwrap_err();
            assert_eq!(Blame::of(&error), blame, "{code} {text}");
        }
    });
}

/// Trap 8.
#[test]
fn batches_that_claim_the_same_ids_in_opposite_order_do_not_deadlock() {
    let inbox = Inbox::new("claimorder");
    inbox.run(async {
        let (mut first, mut second) = (inbox.session().await, inbox.session().await);
        for round in 0..40_u64 {
            let offsets = 0..60_i64;
            let of = |offset: i64| message(round * 100 + offset.unsigned_abs(), offset, "a");
            let up: Vec<_> = offsets.clone().map(of).collect();
            let down: Vec<_> = offsets.rev().map(of).collect();
            let one = async {
                let (tx, claims) = begin(&mut first, &up).await.unwrap();
                tx.commit().await.unwrap();
                claims.count(Fresh)
            };
            let other = async {
                let (tx, claims) = begin(&mut second, &down).await.unwrap();
                tx.commit().await.unwrap();
                claims.count(Fresh)
            };
            let (one, other) = tokio::join!(one, other);
            assert_eq!(one + other, 60);
        }
    });
}

#[test]
fn claiming_nothing_but_duplicates_writes_nothing() {
    let inbox = Inbox::new("claimcheap");
    inbox.run(async {
        let mut session = inbox.session().await;
        let messages: Vec<_> = (0..100_i64).map(|n| message(n.unsigned_abs(), n, "a")).collect();
        let (tx, _) = begin(&mut session, &messages).await.unwrap();
        tx.commit().await.unwrap();
        let (tx, claims) = begin(&mut session, &messages).await.unwrap();
        assert_eq!(claims.count(Duplicate), 100);
        let row = tx.query_one("SELECT pg_current_xact_id_if_assigned() IS NULL", &[]).await;
        assert!(row.unwrap().get::<_, bool>(0), "a transaction id was assigned");
    });
}

/// Trap 31.
#[test]
fn a_dropped_transaction_is_rolled_back_before_the_next_one_on_its_connection() {
    let inbox = Inbox::new("claimdrop");
    inbox.sql("CREATE TABLE effect (n int)");
    inbox.run(async {
        let mut session = inbox.session().await;
        let messages = [message(1, 0, "a")];
        let (tx, _) = begin(&mut session, &messages).await.unwrap();
        {
            // In the middle of a statement.
            let mut write = pin!(tx.execute("INSERT INTO effect VALUES (1)", &[]));
            start(write.as_mut());
        }
        drop(tx);
        let (tx, claims) = begin(&mut session, &messages).await.unwrap();
        assert_eq!(claims.verdicts(), [Fresh]);
        tx.execute("INSERT INTO effect VALUES (2)", &[]).await.unwrap();
        tx.commit().await.unwrap();
    });
    assert_eq!(inbox.ask("SELECT string_agg(n::text, ',') FROM effect"), "2");
}

/// PostgreSQL answers COMMIT after a failed statement with a rollback and no error.
#[test]
fn a_handler_that_hides_a_failed_statement_does_not_get_its_event_committed() {
    let inbox = Inbox::new("claimhidden");
    inbox.run(async {
        let mut session = inbox.session().await;
        let messages = [message(1, 0, "a")];
        let (tx, _) = begin(&mut session, &messages).await.unwrap();
        let hidden = tx.execute("SELECT 1 / 0", &[]).await;
        assert!(hidden.is_err());
        let refused = tx.commit().await.unwrap_err();
        assert!(matches!(refused, StoreError::Aborted(_)), "{refused:?}");
        assert_eq!(refused.blame(), Blame::Event);
        let (_, claims) = begin(&mut session, &messages).await.unwrap();
        assert_eq!(claims.verdicts(), [Fresh]);
    });
}

/// Trap 16: the day belongs to the id; the clock at the time of the claim has no part in it.
#[test]
fn a_copy_that_arrives_after_midnight_meets_the_first_ones_claim() {
    let inbox = Inbox::new("claimday");
    inbox.sql("SELECT inbox_open_day('2026-11-21'), inbox_open_day('2026-11-22')");
    let day = Day::of_unix_ms(1_795_276_799_999);
    assert_eq!(day.to_string(), "2026-11-21");
    inbox.run(async {
        let mut session = inbox.session().await;
        for verdict in [Fresh, Duplicate] {
            let (tx, claims) = begin(&mut session, &[dated(1, 0, "a", day)]).await.unwrap();
            assert_eq!(claims.verdicts(), [verdict]);
            tx.commit().await.unwrap();
        }
    });
    assert_eq!(inbox.ask("SELECT count(*) FROM inbox_claim_20261121"), "1");
}
