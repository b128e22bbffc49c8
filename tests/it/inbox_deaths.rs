//! Events whose handlers end the process: parked after as many deaths as are allowed, on real
//! servers, while ordinary kills park nothing.
#![allow(clippy::unwrap_used, reason = "a panic is how a test says no")]

use std::collections::HashSet;

use uuid::Uuid;
use walpost_inbox::store::release::{self, SequenceName, Start};
use walpost_inbox::store::tenure::{self, Left, Suspect};
use walpost_inbox::store::{Transaction, parked};
use walpost_tests::inbox::{Inbox, id, message, record};
use walpost_tests::ledger::{Bank, LedgerProcess};
use walpost_tests::wait_for;

const LEDGER: &str = env!("CARGO_BIN_EXE_ledger");
/// One without notes, one that leaves suspects, and `deaths_max` of the event alone.
const DEATHS: usize = 1 + 1 + 3;

/// A member that comes back under its name has its partitions at once, not after a session's time.
fn static_member(bank: &mut Bank) {
    let properties = format!("{},group.instance.id=one", walpost_tests::ledger::QUICK_SESSION);
    bank.environment = vec![("PROPERTIES".to_owned(), properties)];
}

fn killed_by(bank: &Bank, deadly: Uuid) -> LedgerProcess {
    bank.consumer_with(LEDGER, &[("WALPOST_INBOX_CRASH_EVENT", &deadly.to_string())])
}

/// How often it starts until one lives.
fn count_deaths(bank: &Bank, deadly: Uuid, is_over: impl Fn() -> bool) -> (usize, LedgerProcess) {
    for deaths in 0..20 {
        let mut consumer = killed_by(bank, deadly);
        let lives = wait_for("a death or the end", || {
            consumer.has_crashed().then_some(false).or_else(|| is_over().then_some(true))
        });
        if lives {
            return (deaths, consumer);
        }
    }
    panic!("it dies for ever");
}

fn parked_events(bank: &Bank) -> String {
    bank.database.try_ask("SELECT count(*) FROM inbox_parked").unwrap_or_default()
}

fn nothing_is_left(bank: &Bank) {
    for table in ["inbox_suspect", "inbox_tenure"] {
        assert_eq!(bank.database.ask(&format!("SELECT count(*) FROM {table}")), "0", "{table}");
    }
}

#[test]
fn an_event_that_ends_the_process_is_parked_with_its_key_and_the_rest_is_applied_once() {
    let mut bank = Bank::new("deadly", 3);
    static_member(&mut bank);
    bank.write(3_000, 30);
    // The 60th of the 100 movements of account-7.
    let deadly = bank.written[59 * 30 + 7].clone();
    assert_eq!((deadly.account.as_str(), deadly.seq), ("account-7", 60));
    let (deaths, consumer) =
        count_deaths(&bank, deadly.id, || bank.applied() >= 2_959 && parked_events(&bank) == "41");
    assert_eq!(deaths, DEATHS);
    let row = "SELECT count(*) || ': ' || min(reason) FROM inbox_sequence";
    let reason = "1: the process ended 3 times while this event alone was handled";
    assert_eq!(bank.database.ask(row), reason);
    bank.judge_without(&HashSet::from(["account-7".to_owned()]));
    let last = "SELECT last_seq FROM balance WHERE account = 'account-7'";
    assert_eq!(bank.database.ask(last), "59", "those before it are applied");
    consumer.terminate();
    nothing_is_left(&bank);
    // Its handler is mended, and a person asks.
    bank.database.run("UPDATE inbox_sequence SET release_at = now()");
    let consumer = bank.consumer(LEDGER);
    bank.wait_applied(3_000);
    consumer.terminate();
    bank.judge();
    nothing_is_left(&bank);
}

#[test]
fn two_instances_that_an_event_ends_in_turn_come_to_rest() {
    let mut bank = Bank::new("deadlytwo", 4);
    bank.write(2_000, 40);
    let deadly = bank.written[900].clone();
    let behind = bank.written.iter().filter(|m| m.account == deadly.account);
    let behind = behind.filter(|m| m.seq >= deadly.seq).count();
    let mut instances = [killed_by(&bank, deadly.id), killed_by(&bank, deadly.id)];
    let mut deaths = 0;
    wait_for("the event to be parked", || {
        for instance in &mut instances {
            if instance.has_crashed() {
                deaths += 1;
                *instance = killed_by(&bank, deadly.id);
            }
        }
        (parked_events(&bank) == behind.to_string()).then_some(())
    });
    assert_eq!(deaths, DEATHS);
    bank.wait_applied(2_000 - behind);
    instances.into_iter().for_each(LedgerProcess::terminate);
    assert_eq!(bank.database.ask("SELECT count(*) FROM inbox_sequence"), "1");
    bank.judge_without(&HashSet::from([deadly.account]));
    nothing_is_left(&bank);
}

#[test]
fn twenty_ordinary_kills_park_nothing_and_leave_no_suspect_in_the_end() {
    let count = 10_000;
    let mut bank = Bank::new("killtwenty", 3);
    static_member(&mut bank);
    bank.write(count, 100);
    for kill in 1..=20 {
        let consumer = bank.consumer(LEDGER);
        bank.wait_applied(count * kill / 22);
        consumer.kill9();
    }
    assert!(bank.applied() < i64::try_from(count).unwrap(), "all kills were in the middle");
    let consumer = bank.consumer(LEDGER);
    bank.wait_applied(count);
    consumer.terminate();
    assert_eq!(bank.database.ask("SELECT count(*) FROM inbox_sequence"), "0");
    bank.judge();
    nothing_is_left(&bank);
}

/// Partitions change hands, and instances end in good order: the table of notes was never written.
#[test]
fn where_nobody_died_nothing_is_noted() {
    let mut bank = Bank::new("nodeath", 4);
    bank.write(6_000, 40);
    let first = bank.consumer(LEDGER);
    bank.wait_applied(500);
    let second = bank.consumer(LEDGER);
    let both = "SELECT count(DISTINCT runner) FROM inbox_tenure";
    wait_for("both to have partitions", || (bank.database.ask(both) == "2").then_some(()));
    bank.write(2_000, 40);
    first.terminate();
    bank.wait_applied(8_000);
    second.terminate();
    bank.judge();
    nothing_is_left(&bank);
    assert_eq!(bank.database.ask("SELECT pg_relation_size('inbox_suspect')"), "0");
}

/// A person asks for a release while the handler still ends the process.
#[test]
fn a_release_that_ends_the_process_is_given_up_after_its_deaths() {
    let mut bank = Bank::new("deadlylot", 1);
    static_member(&mut bank);
    bank.write(200, 10);
    // Movement 21 of account-3 does not follow: it is parked.
    let deadly = walpost_tests::ledger::Movement {
        id: Uuid::now_v7(),
        account: "account-3".to_owned(),
        amount: 1,
        seq: 22,
    };
    bank.write_again(std::slice::from_ref(&deadly));
    let consumer = bank.consumer(LEDGER);
    wait_for("it to be parked", || (parked_events(&bank) == "1").then_some(()));
    bank.wait_applied(200);
    consumer.terminate();
    bank.database.run("UPDATE inbox_sequence SET release_at = now()");
    let given_up = "SELECT count(*) FROM inbox_sequence WHERE release_at IS NULL
        AND reason = 'the process ended 3 times while this event alone was handled'";
    let is_over = || bank.database.try_ask(given_up).is_ok_and(|count| count == "1");
    let (deaths, consumer) = count_deaths(&bank, deadly.id, is_over);
    assert_eq!(deaths, 1 + 3, "one beside others, three alone");
    // Everything else goes on.
    bank.write(10, 10);
    bank.wait_applied(209);
    consumer.terminate();
    bank.judge_without(&HashSet::from([deadly.account]));
    nothing_is_left(&bank);
}

/// The next runner's view of a partition, taken over by it.
async fn left(inbox: &Inbox, runner: Uuid) -> Left {
    let session = inbox.session().await;
    let place = message(0, 0, "a").place;
    tenure::begin(&session.client, &session.consumer, &place, runner).await.unwrap()
}

#[test]
fn only_a_runner_that_is_gone_is_a_death_and_what_ended_otherwise_is_taken_back() {
    let inbox = Inbox::new("tenure");
    let place = message(0, 0, "a").place;
    let [a, b, c, d] = [1, 2, 3, 4].map(id);
    let suspect = |n, deaths| Suspect { id: id(n), deaths };
    inbox.run(async {
        let session = inbox.session().await;
        let (client, consumer) = (&session.client, &session.consumer);
        assert_eq!(left(&inbox, a).await, Left::default());
        assert_eq!(left(&inbox, a).await, Left::default(), "one's own tenure is no death");
        // Dies with two events in a batch.
        tenure::note(client, consumer, &place, &[id(11), id(12)]).await.unwrap();
        let suspects = vec![suspect(11, 0), suspect(12, 0)];
        assert_eq!(left(&inbox, b).await, Left { is_dead: true, suspects });
        // Ends one by a failure, finishes it later, and dies of the other.
        tenure::note_alone(client, consumer, &place, id(11), b).await.unwrap();
        tenure::undo(client, consumer, &[id(11)], b).await.unwrap();
        tenure::note_alone(client, consumer, &place, id(11), b).await.unwrap();
        tenure::clear(client, consumer, &[id(11)]).await.unwrap();
        tenure::note_alone(client, consumer, &place, id(12), b).await.unwrap();
        let suspects = vec![suspect(12, 1)];
        assert_eq!(left(&inbox, c).await, Left { is_dead: true, suspects: suspects.clone() });
        // Handles it alone while it is asked to end: no death, and it stays suspected.
        tenure::note_alone(client, consumer, &place, id(12), c).await.unwrap();
        tenure::undo(client, consumer, &[id(12)], c).await.unwrap();
        tenure::note_alone(client, consumer, &place, id(12), c).await.unwrap();
        tenure::end(client, consumer, &place, c).await.unwrap();
        assert_eq!(left(&inbox, d).await, Left { is_dead: false, suspects });
        // A batch that failed leaves no suspects.
        tenure::note(client, consumer, &place, &[id(13)]).await.unwrap();
        tenure::undo(client, consumer, &[id(13)], d).await.unwrap();
        tenure::settle(client, consumer, &place).await.unwrap();
        assert_eq!(left(&inbox, a).await, Left { is_dead: true, suspects: vec![] });
    });
}

/// A partition is given back while an event of it is still released.
#[test]
fn a_tenure_ends_while_a_row_of_its_partition_is_locked() {
    let inbox = Inbox::new("tenurelock");
    let first = message(1, 0, "a");
    let name = SequenceName { place: first.place.clone(), sequence: first.sequence.clone() };
    let runner = id(1);
    inbox.run(async {
        let mut session = inbox.session().await;
        let other = inbox.session().await;
        tenure::begin(&other.client, &other.consumer, &first.place, runner).await.unwrap();
        let tx = Transaction::begin_bare(&mut session.client).await.unwrap();
        parked::park(&*tx, &session.consumer, &first, &record(&first), "no").await.unwrap();
        tx.commit().await.unwrap();
        parked::retry(&other.client, "c", None).await.unwrap();
        let deaths =
            release::start(&other.client, &other.consumer, &name, runner, Start::Beside).await;
        assert_eq!(deaths.unwrap(), Some(0));
        let tx = Transaction::begin_bare(&mut session.client).await.unwrap();
        assert!(release::head(&*tx, &session.consumer, &name).await.unwrap().is_some());
        other.client.batch_execute("SET lock_timeout = 500").await.unwrap();
        let end = tenure::end(&other.client, &other.consumer, &first.place, runner).await;
        assert!(end.is_err(), "the row is locked");
        tx.rollback().await.unwrap();
    });
    assert_eq!(inbox.ask("SELECT count(*) FROM inbox_tenure"), "0");
}

#[test]
fn a_release_is_started_beside_others_until_a_runner_died_of_it() {
    let inbox = Inbox::new("tenurelot");
    let first = message(1, 0, "a");
    let name = SequenceName { place: first.place.clone(), sequence: first.sequence.clone() };
    let [a, b, c] = [1, 2, 3].map(id);
    inbox.run(async {
        let mut session = inbox.session().await;
        for number in [1, 2] {
            let message = message(number, 0, "a");
            let consumer = &session.consumer;
            let tx = Transaction::begin_bare(&mut session.client).await.unwrap();
            parked::park(&*tx, consumer, &message, &record(&message), "no").await.unwrap();
            tx.commit().await.unwrap();
        }
        let start = async |runner, how| {
            release::start(&session.client, &session.consumer, &name, runner, how).await.unwrap()
        };
        assert_eq!(start(a, Start::Beside).await, None, "nobody asked");
        parked::retry(&session.client, "c", None).await.unwrap();
        assert_eq!(start(a, Start::Beside).await, Some(0));
        assert_eq!(start(a, Start::Beside).await, Some(0), "one's own start is no death");
        assert_eq!(start(b, Start::Beside).await, Some(1));
        assert_eq!(start(c, Start::Beside).await, Some(1), "it was not noted");
        assert_eq!(start(b, Start::Alone).await, Some(1));
        assert_eq!(start(c, Start::Alone).await, Some(2));
        tenure::end(&session.client, &session.consumer, &name.place, c).await.unwrap();
        assert_eq!(start(a, Start::Alone).await, Some(2), "it ended in good order");
        // The next one has a clean sheet.
        parked::discard(&session.client, "c", id(1), "deadly").await.unwrap();
        assert_eq!(start(b, Start::Beside).await, Some(0));
        assert_eq!(start(c, Start::Beside).await, Some(1));
        parked::retry(&session.client, "c", None).await.unwrap();
        assert_eq!(start(c, Start::Beside).await, Some(0), "a person asks for a new beginning");
    });
}
