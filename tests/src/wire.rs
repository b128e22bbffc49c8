//! A wire that can be bad: passes TCP on to one address, in pieces of any size, and is cut or falls
//! silent when a test says so.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Both ends of each connection, and what is done to what goes through.
#[derive(Debug, Clone)]
pub struct Wire {
    port: u16,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    to: Mutex<String>,
    streams: Mutex<Vec<TcpStream>>,
    /// Bytes handed on at once.
    piece: AtomicUsize,
    /// Bytes towards the client until the next cut; none while it is the largest number.
    until_cut: AtomicU64,
    is_silent: AtomicBool,
    /// Silence in the direction of the client alone: what it sends arrives.
    drops_answers: AtomicBool,
    /// A client that leaves is not told to its server.
    holds: AtomicBool,
    /// How long each piece is held back.
    delay_ms: AtomicU64,
    connections: AtomicUsize,
}

impl Wire {
    /// To an address that may be named later, by [`Self::lead_to`].
    pub fn new(to: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let state = Arc::new(State {
            to: Mutex::new(to.to_owned()),
            streams: Mutex::default(),
            piece: AtomicUsize::new(64 * 1024),
            until_cut: AtomicU64::new(u64::MAX),
            is_silent: AtomicBool::new(false),
            drops_answers: AtomicBool::new(false),
            holds: AtomicBool::new(false),
            delay_ms: AtomicU64::new(0),
            connections: AtomicUsize::new(0),
        });
        let wire = Self { port, state };
        let of_thread = wire.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                of_thread.join(client);
            }
        });
        wire
    }

    /// To the host of a url, with the url that leads through it.
    pub fn before(url: &str) -> (Self, String) {
        let (_, rest) = url.split_once("://").expect("a url");
        let (front, _) = rest.split_once('/').expect("a url with a path");
        let host = front.rsplit_once('@').map_or(front, |(_, host)| host);
        let wire = Self::new(host);
        let through = url.replace(host, &wire.address());
        (wire, through)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// `127.0.0.1:PORT`
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn lead_to(&self, to: &str) {
        *self.state.to.lock().unwrap_or_else(PoisonError::into_inner) = to.to_owned();
    }

    /// Hands at most this many bytes on at once.
    pub fn in_pieces_of(&self, bytes: usize) {
        self.state.piece.store(bytes, Ordering::Relaxed);
    }

    /// Ends all connections after this many further bytes towards the client.
    pub fn cut_after(&self, bytes: u64) {
        self.state.until_cut.store(bytes, Ordering::Relaxed);
    }

    /// Ends all connections.
    pub fn cut(&self) {
        for stream in self.streams().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Connections stay open, and nothing of what comes is handed on (and all of it is lost) until
    /// it is asked to speak again; the connections of that time are cut then.
    pub fn be_silent(&self, is_silent: bool) {
        self.state.is_silent.store(is_silent, Ordering::Relaxed);
        if !is_silent {
            self.cut();
        }
    }

    /// Connections stay open and requests arrive; their answers are lost, until this is taken back.
    pub fn drop_answers(&self, drops: bool) {
        self.state.drops_answers.store(drops, Ordering::Relaxed);
        if !drops {
            self.cut();
        }
    }

    /// Connections whose client leaves stay open towards the server, as those of a machine that is
    /// gone.
    pub fn hold(&self, holds: bool) {
        self.state.holds.store(holds, Ordering::Relaxed);
    }

    /// Holds each piece back for so long, in both directions.
    pub fn delay(&self, by: Duration) {
        let millis = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        self.state.delay_ms.store(millis, Ordering::Relaxed);
    }

    /// How many connections there were.
    pub fn connections(&self) -> usize {
        self.state.connections.load(Ordering::Relaxed)
    }

    fn streams(&self) -> std::sync::MutexGuard<'_, Vec<TcpStream>> {
        self.state.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn join(&self, client: TcpStream) {
        let to = self.state.to.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // Nobody there: the client sees a connection that ends.
        let Ok(server) = TcpStream::connect(to) else { return };
        self.state.connections.fetch_add(1, Ordering::Relaxed);
        let ends = [client.try_clone(), server.try_clone()].map(|end| end.expect("a handle"));
        self.streams().extend(ends);
        let again = |stream: &TcpStream| stream.try_clone().expect("a handle");
        let (wire, from, into) = (self.clone(), again(&server), again(&client));
        std::thread::spawn(move || wire.pass(from, into, true));
        let wire = self.clone();
        std::thread::spawn(move || wire.pass(client, server, false));
    }

    fn pass(&self, mut from: TcpStream, mut into: TcpStream, is_counted: bool) {
        let mut buffer = vec![0; 64 * 1024];
        let _ = into.set_nodelay(true);
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            let loses_answers = is_counted && self.state.drops_answers.load(Ordering::Relaxed);
            if self.state.is_silent.load(Ordering::Relaxed) || loses_answers {
                continue;
            }
            let delay = self.state.delay_ms.load(Ordering::Relaxed);
            if delay > 0 {
                let _ = xtask::wait::until(Duration::from_millis(delay), || None::<()>);
            }
            let piece = self.state.piece.load(Ordering::Relaxed);
            for part in buffer[..count].chunks(piece) {
                if is_counted && self.is_cut_by(part.len() as u64) {
                    self.cut();
                }
                if into.write_all(part).is_err() {
                    break;
                }
            }
        }
        if self.state.holds.load(Ordering::Relaxed) {
            return;
        }
        let _ = from.shutdown(Shutdown::Both);
        let _ = into.shutdown(Shutdown::Both);
    }

    /// Counts bytes; whether the cut is due.
    fn is_cut_by(&self, bytes: u64) -> bool {
        let left = self.state.until_cut.load(Ordering::Relaxed);
        if left == u64::MAX {
            return false;
        }
        let is_due = left <= bytes;
        let next = if is_due { u64::MAX } else { left - bytes };
        self.state.until_cut.store(next, Ordering::Relaxed);
        is_due
    }
}
